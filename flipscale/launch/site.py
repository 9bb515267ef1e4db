"""A site file: what a cluster is like, so that a study need not say it and stays true on another one."""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from flipscale.devices import Price
from flipscale.errors import printable
from flipscale.settings import NODE_GPUS
from flipscale.study.document import Complaints, Path_, read_document
from flipscale.study.kinds import (
    INVALID,
    Choice,
    Complain,
    Count,
    Duration,
    Flag,
    JsonSchema,
    Keys,
    ListOf,
    Maybe,
    Number,
    Option,
    Text,
    show,
)

SITE_SCHEMA = 1
"""Version of the site file."""


PREDICTED = "predicted"
"""Value of memory_per_process that asks for what the run is predicted to need."""


@dataclass(frozen=True)
class Memory:
    """An amount of memory as SLURM reads it: 500M, 32G, 1T. One may be predicted, if `can_be_predicted`."""

    can_be_predicted: bool = False

    def read(self, value: Any, at: Path_, complain: Complain) -> Any:
        if self.can_be_predicted and value == PREDICTED:
            return value
        if not isinstance(value, str) or not re.fullmatch(r"[1-9]\d{0,11}[KMGT]", value):
            more = f"; or {PREDICTED}, or null for the cluster's default" if self.can_be_predicted else ""
            complain(at, f"{show(value)} is not an amount of memory; write 500M, 32G or 1T{more}")
            return INVALID
        return value

    def schema(self) -> JsonSchema:
        amount = {"type": "string", "pattern": r"^[1-9]\d{0,11}[KMGT]$"}
        return {"anyOf": [amount, {"enum": [PREDICTED]}]} if self.can_be_predicted else amount


@dataclass(frozen=True)
class OneLine:
    """A text of one line, as a batch script takes it for an option: a line break in it would begin another line."""

    def read(self, value: Any, at: Path_, complain: Complain) -> Any:
        if isinstance(value, str) and (character := control_character(value)):
            if printable(value) == value:  # The reader of the file has complained of all others.
                complain(at, f"{value!r:.60} holds the control character {character!r}; write one line of plain text")
            return INVALID
        return Text().read(value, at, complain)

    def schema(self) -> JsonSchema:
        return Text().schema()


def control_character(text: str) -> str | None:
    """The first character of a text that ends its line or that no terminal shows; None if there is none."""
    return next((character for character in text if unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp")), None)


CONTAINER = Keys(
    "container",
    {
        "image": Option(OneLine(), None, "the image the training runs in", True),
        "runtime": Option(
            Choice(("pyxis", "apptainer", "singularity"), "runtime"), "pyxis", "what starts it: pyxis, apptainer, ..."
        ),
        "mounts": Option(
            ListOf(OneLine()),
            [],
            "folders mounted into it, such as /here or /here:/there; the results folder always is",
        ),
        "arguments": Option(ListOf(OneLine()), [], "further arguments of the runtime, such as --nv"),
    },
    short="image",
)

PACK = Keys(
    "pack",
    {
        "time": Option(
            Maybe(Duration()), None, "runs share a job, one after another, up to this predicted time in total"
        ),
        "share": Option(Count(), 1, "runs at once on the devices of one run, as far as memory allows"),
        "device_memory": Option(
            Maybe(Memory()), None, "memory of one GPU: runs share it as long as a fifth of it stays free"
        ),
        "whole_nodes": Option(Flag(), False, "whether a job takes all GPUs of a node, for several runs side by side"),
    },
)

PRICE = Keys(
    "price",
    {
        "gpu_hour": Option(Maybe(Number(0)), None, "price of a device-hour of runs with GPUs"),
        "core_hour": Option(Maybe(Number(0)), None, "price of a core-hour of runs without GPUs"),
        "currency": Option(OneLine(), "USD", "currency of the prices, such as EUR"),
    },
    short="gpu_hour",
)

SITE = Keys(
    "site",
    {
        "schema": Option(Count(), SITE_SCHEMA, "version of the site file", True),
        "cluster": Option(
            Maybe(OneLine()),
            None,
            "the cluster, where a site has several; null is SLURM_CLUSTERS, or this machine's own",
        ),
        "partition": Option(
            Maybe(OneLine()), None, "one partition, or several separated by commas; null is the cluster's default"
        ),
        "account": Option(Maybe(OneLine()), None, "account that the time is charged to"),
        "qos": Option(Maybe(OneLine()), None, "quality of service"),
        "reservation": Option(Maybe(OneLine()), None, "a reservation to run in"),
        "time": Option(
            Maybe(Duration()), None, "time limit of a job; a longer run continues in the next. null is the partition's"
        ),
        "warning": Option(
            Duration(seconds=True),
            120,
            "how long before its limit a run is warned, 2m or a number of seconds: enough to write a checkpoint twice",
        ),
        "gpus_per_node": Option(Count(), NODE_GPUS, "GPUs of a node; a run with more takes several nodes"),
        "gpu_type": Option(Maybe(OneLine()), None, "type of GPU, as in gres=gpu:TYPE:n"),
        "gres": Option(ListOf(OneLine()), [], "further generic resources of each node, such as lustre:1"),
        "processes_per_node": Option(
            Maybe(Count()), None, "processes per node of a run without GPUs; null puts all on one node"
        ),
        "cpus_per_process": Option(Count(), 1, "cores of each process"),
        "memory_per_process": Option(
            Maybe(Memory(can_be_predicted=True)),
            PREDICTED,
            "main memory of each process, such as 32G; `predicted` is what its run should need, null the "
            "cluster's default",
        ),
        "constraint": Option(Maybe(OneLine()), None, "features that nodes must have"),
        "exclude": Option(ListOf(OneLine()), [], "nodes to avoid"),
        "throttle": Option(Maybe(Count()), None, "most jobs of one array that run at the same time"),
        "max_array_size": Option(Maybe(Count(1)), None, "the cluster's MaxArraySize; null asks the cluster"),
        "sbatch": Option(ListOf(OneLine()), [], "further options of sbatch, such as --exclusive or --comment=flip"),
        "srun": Option(ListOf(OneLine()), [], "further options of srun, such as --cpu-bind=cores"),
        "export": Option(
            Maybe(OneLine()),
            None,
            "what jobs inherit from the environment of the submitter, as in sbatch's --export: NIL, or names "
            "separated by commas; null is everything",
        ),
        "setup": Option(ListOf(Text()), [], "shell lines before the training, such as module load cuda"),
        "python": Option(
            Maybe(OneLine()),
            None,
            "the Python that trains, inside the container if there is one; null is the one that submits",
        ),
        "container": Option(Maybe(CONTAINER), None, "a container that the training runs in"),
        "stalled": Option(
            Maybe(Duration(never=True)),
            None,
            "a run without a step for this long has stalled: it is killed and resumed; or never. null is 20 of "
            "its steps, and at least 10 min. A study's own `stalled` takes precedence",
        ),
        "connect": Option(
            Duration(seconds=True),
            600,
            "how long the processes of a run may take to connect: then the node or the network is at fault",
        ),
        "price": Option(Maybe(PRICE), None, "price of time, so that plans, budgets and reports include money"),
        "pack": Option(PACK, PACK.read({}, (), print), "which runs share a job or a GPU"),
        "name": Option(
            Maybe(OneLine()), None, "name under which `flipscale probe` stores its times; null is the file's name"
        ),
    },
)
"""The keys of a site file, each with its kind and a sentence: the reader and docs/site-file.md share them."""


Site = Mapping[str, Any]
"""A cluster by the keys of SITE, all of them. Times are in seconds."""

DEFAULTS: Site = SITE.read({"schema": SITE_SCHEMA}, (), print)
"""A cluster about which nothing is known: everything is left to what its administrators chose."""


def site_name(launcher: str, site: Site) -> str:
    """The key of times that were measured at a site: 'slurm NAME', or 'slurm' without a site file."""
    return f"{launcher} {site['name']}" if site.get("name") else launcher


def read_site(path: str | Path) -> Site:
    """Read and check a site file. Raises StudyError with every complaint about it, each with file:line."""
    complaints = Complaints()
    document = read_document(Path(path), complaints, noun="site", hint="docs/slurm.md has one to start from")

    def complain(at: Path_, what: str) -> None:
        complaints.add(document.place(*at), what)

    read = SITE.read(document.data, (), complain)
    if read is not INVALID:
        _check(read, complain)
        read["name"] = read["name"] or Path(path).stem
        for place in (read, read["container"] or {}):
            # No shell reads these.
            place |= {name: str(Path(place[name]).expanduser()) for name in ("python", "image") if place.get(name)}
    complaints.raise_if_any()
    return cast(Site, read)


def price_at(site: Site) -> Price | None:
    """The price of time at a site; None if its file does not have one."""
    # It stays a mapping in the site, which arrays and drivers keep as JSON.
    return Price(**site["price"]) if site.get("price") else None


def _check(site: Site, complain: Complain) -> None:
    """Faults that no single key shows."""
    if site["schema"] != SITE_SCHEMA:
        complain(("schema",), f"schema {site['schema']} is not one this flipscale reads; write schema: {SITE_SCHEMA}")
    if site["time"] is not None and site["time"] <= site["warning"]:
        complain(
            ("time",), f"is no longer than the warning before its end, {site['warning']} s; raise it or lower warning"
        )
    if site["time"] is not None and (site["pack"]["time"] or 0) > site["time"]:
        complain(("pack", "time"), "is longer than time, the limit of a job; lower it, or raise time")
    if site["container"] and not site["python"]:
        complain(("container",), "a container has a Python of its own; write python: PYTHON, as it is called inside")
    _check_options(site, complain)


def _check_options(site: Site, complain: Complain) -> None:
    """The options that go to SLURM's programs as they are."""
    for at, option in enumerate(site["sbatch"]):
        if wrong := _wrong_with_sbatch(option):
            complain(("sbatch", at), wrong)
    for at, option in enumerate(site["srun"]):
        if not option.startswith("--"):
            complain(("srun", at), f"{show(option)} is not an option of srun; write --name or --name=value")


def _wrong_with_sbatch(option: str) -> str | None:
    written = re.fullmatch(r"--([a-z][a-z-]*)(=.*)?", option)
    if written is None:
        return f"{show(option)} is not an option of sbatch; write --name or --name=value"
    return f"--{written[1]} is not for a site file: {_OURS[written[1]]}" if written[1] in _OURS else None


_OURS = {
    option: instead
    for instead, options in {
        "flipscale gives it itself": "array output error job-name open-mode requeue no-requeue dependency ntasks wait "
        "wrap kill-on-invalid-dep parsable quiet test-only",
        "write gpus_per_node or processes_per_node": "nodes ntasks-per-node tasks-per-node",
        "write gpus_per_node, gpu_type or gres": "gres gpus gpus-per-node gpus-per-task",
        "write memory_per_process": "mem mem-per-cpu mem-per-gpu",
        "write cpus_per_process": "cpus-per-task",
        "write cluster": "clusters",
        "write warning": "signal",
    }.items()
    for option in options.split()
} | {
    key: f"write {key}"
    for key in ["time", "partition", "account", "qos", "constraint", "exclude", "reservation", "export"]
}
"""Options of sbatch that flipscale gives itself, and what to do instead of giving them."""
