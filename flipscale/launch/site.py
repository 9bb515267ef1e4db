"""A site file: what a cluster is like, so that a study need not say it and stays true on another one."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from flipscale.kinds import (
    INVALID,
    By,
    Complain,
    Count,
    Declared,
    Duration,
    DurationOrNever,
    Flag,
    Listed,
    NotNegative,
    Path_,
    Positive,
    Seconds,
    Text,
    checked,
    option,
    read,
    schema_of,
    show,
)
from flipscale.settings.declarations import NODE_GPUS, plain
from flipscale.settings.devices import INTERCONNECT, Price
from flipscale.study.document import Complaints, read_document

SITE_SCHEMA = 1
"""Version of the site file."""


PREDICTED = "predicted"
"""Value of memory_per_process that asks for what the run is predicted to need."""

ALL = "all"
"""Value of memory_per_process that asks for all memory of a node."""


def _memory(value: Any, *, words: Sequence[str] = ()) -> str:
    """An amount of memory as SLURM reads it, 500M, 32G, 1T, or one of the words."""
    if value in words:
        return str(value)
    if not isinstance(value, str) or not re.fullmatch(r"[1-9]\d{0,11}[KMGT]", value):
        more = f"; or {', '.join(words)}, or null for the cluster's default" if words else ""
        raise ValueError(f"{show(value)} is not an amount of memory; write 500M, 32G or 1T{more}")
    return value


_AMOUNT = {"type": "string", "pattern": r"^[1-9]\d{0,11}[KMGT]$"}
Memory = Annotated[str, By(_memory, _AMOUNT)]
_WORDS = [PREDICTED, ALL]
MemoryOrWord = Annotated[str, By(partial(_memory, words=_WORDS), {"anyOf": [_AMOUNT, {"enum": _WORDS}]})]


def _one_line(value: Any) -> str:
    """A text of one line, as a batch script takes it for an option: a line break in it would begin another line."""
    if isinstance(value, str) and not value.isprintable():
        raise ValueError(f"{value!r:.60} holds a control character; write one line of plain text")
    return checked(Text, value)  # type: ignore[no-any-return]


OneLine = Annotated[str, By(_one_line, lambda: schema_of(Text))]


@dataclass(frozen=True)
class Container(Declared):
    """A container that the training runs in."""

    short: ClassVar[str] = "image"
    image: OneLine = option("the image the training runs in")
    runtime: Literal["pyxis", "apptainer", "singularity"] = option("what starts it: pyxis, apptainer, ...", "pyxis")
    mounts: Listed[OneLine] = option(
        "folders mounted into it, such as /here or /here:/there; the results folder always is", []
    )
    arguments: Listed[OneLine] = option("further arguments of the runtime, such as --nv", [])


@dataclass(frozen=True)
class Pack(Declared):
    """Which runs share a job or a GPU."""

    time: Duration | None = option("runs share a job, one after another, up to this predicted time in total", None)
    share: Count = option("runs at once on the devices of one run, as far as memory allows", 1)
    device_memory: Memory | None = option("memory of one GPU: runs share it as long as a fifth of it stays free", None)
    whole_nodes: Flag = option("whether a job takes all GPUs of a node, for several runs side by side", False)


@dataclass(frozen=True)
class SitePrice(Declared):
    """The price of time."""

    called: ClassVar[str] = "price"
    short: ClassVar[str] = "gpu_hour"
    gpu_hour: NotNegative | None = option("price of a device-hour of runs with GPUs", None)
    core_hour: NotNegative | None = option("price of a core-hour of runs without GPUs", None)
    currency: OneLine = option("currency of the prices, such as EUR", "USD")


@dataclass(frozen=True)
class SiteFile(Declared):
    """A site file."""

    called: ClassVar[str] = "site"
    schema: Count = option("version of the site file")
    cluster: OneLine | None = option(
        "the cluster, where a site has several; null is SLURM_CLUSTERS, or this machine's own", None
    )
    partition: OneLine | None = option(
        "one partition, or several separated by commas; null is the cluster's default", None
    )
    account: OneLine | None = option("account that the time is charged to", None)
    qos: OneLine | None = option("quality of service", None)
    reservation: OneLine | None = option("a reservation to run in", None)
    time: Duration | None = option(
        "time limit of a job; a longer run continues in the next. null is the partition's", None
    )
    time_limit: Literal["predicted", "site"] = option(
        "the limit that a job asks for: `predicted` is twice its time by a probe and 15 min, at most `time`; `site` is "
        "`time`",
        PREDICTED,
    )
    warning: Seconds = option(
        "how long before its limit a run is warned, 2m or a number of seconds: enough to write a checkpoint twice",
        120,
    )
    gpus_per_node: Count = option("GPUs of a node; a run with more takes several nodes", NODE_GPUS)
    interconnect: Positive = option(
        "gigabits a second of the network between nodes, for each of their GPUs; the plan names runs that it limits",
        INTERCONNECT,
    )
    gpu_type: OneLine | None = option("type of GPU, as in gres=gpu:TYPE:n", None)
    gres: Listed[OneLine] = option("further generic resources of each node, such as lustre:1", [])
    processes_per_node: Count | None = option(
        "processes per node of a run without GPUs; null puts all on one node", None
    )
    cpus_per_process: Count = option("cores of each process", 1)
    memory_per_process: MemoryOrWord | None = option(
        "main memory of each process, such as 32G; `predicted` is what its run should need, `all` all memory of its "
        "nodes, null the cluster's default",
        PREDICTED,
    )
    constraint: OneLine | None = option("features that nodes must have", None)
    exclude: Listed[OneLine] = option("nodes to avoid", [])
    throttle: Count | None = option("most jobs of one array that run at the same time", None)
    max_array_size: Count | None = option("the cluster's MaxArraySize; null asks the cluster", None)
    sbatch: Listed[OneLine] = option("further options of sbatch, such as --exclusive or --comment=flip", [])
    srun: Listed[OneLine] = option("further options of srun, such as --cpu-bind=cores", [])
    export: OneLine | None = option(
        "what jobs inherit from the environment of the submitter, as in sbatch's --export: NIL, or names "
        "separated by commas; null is everything",
        None,
    )
    setup: Listed[Text] = option("shell lines before the training, such as module load cuda", [])
    python: OneLine | None = option(
        "the Python that trains, inside the container if there is one; null is the one that submits", None
    )
    container: Container | None = option("a container that the training runs in", None)
    stalled: DurationOrNever | None = option(
        "a run without a step for this long has stalled: it is killed and resumed; or never. null is 20 of its steps, "
        "and at least 10 min. A study's own `stalled` takes precedence",
        None,
    )
    connect: Seconds = option(
        "how long the processes of a run may take to connect: then the node or the network is at fault", 600
    )
    price: SitePrice | None = option("price of time, so that plans, budgets and reports include money", None)
    pack: Pack = option("which runs share a job or a GPU", Pack())
    name: OneLine | None = option("name under which `flipscale probe` stores its times; null is the file's name", None)


Site = Mapping[str, Any]
"""A cluster by the keys of SiteFile, all of them. Times are in seconds."""

DEFAULTS: Site = plain(SiteFile(schema=SITE_SCHEMA))
"""A cluster about which nothing is known: everything is left to what its administrators chose."""


def read_site(path: str | Path) -> Site:
    """Read and check a site file. Raises StudyError with every complaint about it, each with file:line."""
    complaints = Complaints()
    document = read_document(Path(path), complaints, noun="site", hint="docs/slurm.md has one to start from")

    def complain(at: Path_, what: str) -> None:
        complaints.add(document.place(*at), what)

    declared = read(SiteFile, document.data, (), complain)
    site = {} if declared is INVALID else plain(declared)
    if site:
        _check(site, complain)
        site["name"] = site["name"] or Path(path).stem
        for place in (site, site["container"] or {}):
            # No shell reads these.
            place |= {name: str(Path(place[name]).expanduser()) for name in ("python", "image") if place.get(name)}
    complaints.raise_if_any()
    return site


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
    for at, given in enumerate(site["sbatch"]):
        if wrong := _wrong_with_sbatch(given):
            complain(("sbatch", at), wrong)
    for at, given in enumerate(site["srun"]):
        if not given.startswith("--"):
            complain(("srun", at), f"{show(given)} is not an option of srun; write --name or --name=value")


def _wrong_with_sbatch(given: str) -> str | None:
    written = re.fullmatch(r"--([a-z][a-z-]*)(=.+)?", given)
    if written is None:
        return f"{show(given)} is not an option of sbatch; write --name or --name=value"
    return f"--{written[1]} is not for a site file: {_OURS[written[1]]}" if written[1] in _OURS else None


_OURS = {
    option: instead
    for instead, options in {
        "flipscale gives it itself": "array output error job-name open-mode requeue no-requeue dependency ntasks wait "
        "wrap parsable quiet test-only",
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
