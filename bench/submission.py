"""Time and scheduler calls to submit many one-step runs to SLURM, to look at them, and to submit them again.

    python -m bench.submission
    python -m bench.submission --partition main --hydra PYTHON --out NAME
    python -m bench.submission --start-slurm --hydra PYTHON --out NAME

A study of --runs cells is planned and submitted as a user does it, `flipscale submit STUDY --on slurm --detach`, to a
fake SLURM that accepts jobs and starts none (tests/launch/fake_slurm.py). Then its run folders are filled as training
fills them, and `flipscale status` looks at them: all waiting, half of them finished, all finished.

--partition measures on the SLURM cluster here too, or --start-slurm on that of the tests, against `sbatch --array` of
the same script, and with --hydra against hydra's sweep of a function that does nothing. Jobs are held, because 1,000
starts of torch would occupy the machine for an hour, and cancelled at once. hydra is not a dependency of flipscale;
install it with `python -m venv DIR && DIR/bin/pip install hydra-core hydra-submitit-launcher`, and give --hydra
DIR/bin/python.

SLURM's programs are called through wrappers that note when each was called and when it answered. What is compared takes
turns. Other work on the machine can only add time, so the least of --repeats is printed; the file has all.
"""

import argparse
import contextlib
import itertools
import json
import math
import os
import re
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.report import leave, limit, machine, table
from flipscale.errors import FlipscaleError
from flipscale.run import FailedAttempt, FailureKind, RunFolder, write_json
from tests.clusters.slurm import SlurmCluster
from tests.launch import fake_slurm

PROGRAMS = ("sbatch", "squeue", "sacct", "scancel", "scontrol", "sinfo")

CONSTANT = 1
"""Calls of a submission besides one sbatch per array: scontrol says how large an array may be."""

OWN_MS = 3.0
"""CPU milliseconds a run of our own: 30 s for 10,000."""

STATUS_SECONDS = 30.0
"""Wall seconds of `status` of 10,000 runs."""

SITUATIONS = {"all waiting": 0.0, "half finished": 0.5, "all finished": 1.0}
"""The share of the runs that are finished when they are looked at."""

FAILED_BEFORE = 10
"""One run in this number was pre-empted twice before it finished."""

SHARE_OF_JOBS = 0.7
"""The largest share of SLURM's MaxJobCount that is used here."""

HYDRA_RUNS = 100
"""If hydra has more jobs than this, they are held, as ours are: each takes a second of a core to start."""

HYDRA_SECONDS = 600.0
"""The time that hydra is waited for."""

_WRAPPER = """#!/usr/bin/env bash
began=${{EPOCHREALTIME/,/.}}
{program} "$@"
code=$?
echo "{name} $began ${{EPOCHREALTIME/,/.}}" >>{calls}
exit $code
"""

_HYDRA_APP = """
import hydra

@hydra.main(version_base=None, config_path=None, config_name=None)
def main(config):
    pass

main()
"""


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure and print; the facts that --out writes are returned."""
    parser = _parser()
    asked = parser.parse_args(arguments)
    if asked.hydra and not (asked.partition or asked.start_slurm):
        parser.error("--hydra needs --partition or --start-slurm, because hydra's jobs go to a real SLURM")
    if asked.partition:
        cluster_config()  # Better to fail now than after the rest was measured.
    asked.hydra = asked.hydra and str(Path(asked.hydra).absolute())  # it starts in a folder of its own
    if asked.start_slurm and (reason := SlurmCluster.missing()):
        parser.error(f"--start-slurm: {reason}")
    facts: dict[str, Any] = {
        "benchmark": "submission",
        "machine": machine(),
        "max_array_size": asked.max_array_size,
        "repeats": asked.repeats,
        "fake": [],
        "looks": None,
        "cluster": None,
        "hydra": [],
    }
    with _folder(asked.folder) as folder:
        for runs in asked.runs:
            _progress(f"{runs:,} runs to a fake SLURM")
            facts["fake"].append(submissions_to_the_fake(folder, runs, asked.max_array_size, asked.repeats))
        _progress(f"looks at {asked.runs[-1]:,} runs")
        facts["looks"] = looks(folder, asked.runs[-1], asked.repeats, asked.records)
        with _started_slurm() if asked.start_slurm else contextlib.nullcontext(asked.partition) as partition:
            if partition:
                _progress(f"{asked.cluster_runs:,} runs to the SLURM here")
                facts["cluster"] = submissions_to_a_cluster(folder, asked.cluster_runs, partition, asked.repeats)
            for runs in asked.hydra_runs if asked.hydra else ():
                _progress(f"{runs:,} jobs by hydra")
                facts["hydra"].append(hydra_sweep(folder, asked.hydra, runs, partition))
        facts["limits"] = limits(facts)
        # Before the folder is removed, which may take minutes.
        leave(asked.out, facts, _as_markdown(facts))
    return facts


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.submission", description=__doc__.splitlines()[0])
    parser.add_argument("--runs", nargs="+", type=_even, default=[1000, 10000], help="of studies on the fake SLURM")
    parser.add_argument("--max-array-size", type=int, default=1001, help="of the fake SLURM")
    parser.add_argument("--records", type=int, default=200, help="lines in the metrics.jsonl of a finished run")
    parser.add_argument("--partition", metavar="NAME", help="of the SLURM here, where held jobs are submitted too")
    parser.add_argument("--start-slurm", action="store_true", help="start the tests' SLURM, and use that")
    parser.add_argument("--cluster-runs", type=_even, default=1000, metavar="N", help="runs of the study there")
    parser.add_argument("--hydra", metavar="PYTHON", help="one with hydra-submitit-launcher; needs a SLURM")
    parser.add_argument("--hydra-runs", nargs="+", type=int, default=[100, 1000], metavar="N", help="values of a sweep")
    parser.add_argument("--repeats", type=int, default=3, help="of everything but hydra")
    parser.add_argument("--folder", type=Path, help="an empty folder for what is made, which is kept; a temporary one")
    parser.add_argument("--out", metavar="NAME", help="keep the result in bench/results/NAME.json, or in a path .json")
    return parser


@contextlib.contextmanager
def _started_slurm() -> Iterator[str]:
    """The tests' SLURM while the block runs; gives its partition."""
    cluster = SlurmCluster.start()
    before = dict(os.environ)
    os.environ.update(cluster.env)
    try:
        yield "main"
    finally:
        os.environ.clear()
        os.environ.update(before)
        cluster.stop()


def _even(written: str) -> int:
    number = int(written)
    if number < 2 or number % 2:
        raise argparse.ArgumentTypeError(f"{number} is not even, and the studies here have two mask ratios")
    return number


# What is measured


@dataclass(frozen=True)
class Call:
    """One call of a program of SLURM's."""

    program: str
    began: float
    """Unix time."""
    ended: float


@dataclass(frozen=True)
class Spent:
    """What a command took, from its start to its end."""

    wall_seconds: float
    own_cpu_seconds: float
    """CPU seconds of the process itself."""
    programs_cpu_seconds: float
    """CPU seconds of the programs it called, without SLURM's daemons."""
    programs_wall_seconds: float
    """Wall seconds in which it waited for them."""
    calls: Mapping[str, int]
    """How often it called each program."""


class Scheduler:
    """SLURM's programs on the PATH of `environment`, real or fake, each behind a wrapper that notes its calls."""

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None):
        wrappers = folder / "wrappers"
        wrappers.mkdir(parents=True)
        self.notes = folder / "calls.txt"
        self.notes.touch()
        # The caller's settings for flipscale must not affect the measurement.
        own = {name: value for name, value in os.environ.items() if not name.startswith("FLIPSCALE_")}
        self.environment = {**own, **(environment or {})}
        for name in PROGRAMS:
            if program := shutil.which(name, path=self.environment["PATH"]):
                text = _WRAPPER.format(program=shlex.quote(program), name=name, calls=shlex.quote(str(self.notes)))
                (wrappers / name).write_text(text)
                (wrappers / name).chmod(0o755)
        self.environment["PATH"] = f"{wrappers}:{self.environment['PATH']}"

    def calls(self) -> list[Call]:
        """All calls that have ended, in the order in which they ended."""
        lines = [line.split() for line in self.notes.read_text().splitlines()]
        return [Call(program, float(began), float(ended)) for program, began, ended in lines]

    def time(self, command: Sequence[str | Path], out: Path | None = None) -> Spent:
        """Run a command to its end, its output to `out`. FlipscaleError with what it said if it fails."""
        before = len(self.calls())
        with tempfile.TemporaryFile("w+") as said, open(out or os.devnull, "w") as printed:
            began = time.perf_counter()
            process = subprocess.Popen(
                command, env=self.environment, stdin=subprocess.DEVNULL, stdout=printed, stderr=said
            )
            # Until the process is waited for, /proc has its CPU time, its own and its children's separately.
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            wall = time.perf_counter() - began
            own, programs = cpu_seconds(process.pid)
            if code := process.wait():
                said.seek(0)
                raise FlipscaleError(f"{shlex.join(map(str, command))} ended with {code}:\n{said.read()[-2000:]}")
        calls = self.calls()[before:]
        return Spent(
            wall_seconds=wall,
            own_cpu_seconds=own,
            programs_cpu_seconds=programs,
            programs_wall_seconds=sum(call.ended - call.began for call in calls),
            calls=_counted(calls),
        )


def _counted(calls: Iterable[Call]) -> dict[str, int]:
    return dict(Counter(call.program for call in calls))


def cpu_seconds(pid: int) -> tuple[float, float]:
    """CPU seconds of a process itself and of its children that have ended, to hundredths."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    user, system, children_user, children_system = (int(field) / os.sysconf("SC_CLK_TCK") for field in fields[11:15])
    return user + system, children_user + children_system


# The fake SLURM


def submissions_to_the_fake(folder: Path, runs: int, max_array_size: int, repeats: int) -> dict[str, Any]:
    """Submit a study `repeats` times, each time to an empty SLURM and in an empty folder, RUNS/REPEAT below `folder`.

    Nothing is removed in between: for minutes after many files went, ext4 takes several times as long to make new ones.
    """
    facts: dict[str, Any] = {"runs": runs, "flipscale": [], "sbatch": [], "stages": []}
    for repeat in range(repeats):
        home = folder / str(runs) / str(repeat)
        study, site = home / "study.yaml", home / "site.yaml"
        for name in ("command", "raw", "stages"):
            fake_slurm.install(home / name / "slurm", execute=False, max_array_size=max_array_size)
        _write_study(study, runs)
        _write_site(site, "main")
        spent = _fake(home / "command").time(_submit(study, site, home / "command"))
        facts["flipscale"].append(asdict(spent))
        raw = _fake(home / "raw").time(_raw(_scripts(home / "command")))
        facts["sbatch"].append(asdict(raw))
        facts["stages"].append(_stages(_fake(home / "stages"), study, site, home / "stages"))
    return facts


def looks(folder: Path, runs: int, repeats: int, records: int) -> dict[str, Any]:
    """Look at the runs that were submitted last in each situation, and submit them again when all are finished."""
    home = folder / str(runs) / str(repeats - 1)
    study, site, mine = home / "study.yaml", home / "site.yaml", home / "command"
    scheduler = _fake(mine, "looks")
    folders = [RunFolder(path) for path in sorted((mine / "results/runs").iterdir())]
    folders = [*folders[::2], *folders[1::2]]  # Half of each array has ended, not half of the arrays.
    facts: dict[str, Any] = {"runs": runs, "situations": {}, "again": []}
    finished = 0
    for situation, share in SITUATIONS.items():
        for number in range(finished, finished := round(share * runs)):
            finish(folders[number], number, records)
        seen: dict[str, Any] = {"text": [], "json": [], "states": []}
        command = _flipscale("status", study, mine)
        for _ in range(repeats):
            seen["text"].append(asdict(scheduler.time(command, out=mine / "status.txt")))
            seen["json"].append(asdict(scheduler.time([*command, "--json"], out=mine / "status.json")))
            seen["states"].append(_inside(scheduler, "states", study, site, mine)[0]["states"])
        seen["counts"] = json.loads((mine / "status.json").read_text())["counts"]
        facts["situations"][situation] = seen
    for _ in range(repeats):
        facts["again"].append(asdict(scheduler.time(_submit(study, site, mine))))
    return facts


def _fake(home: Path, name: str = "submit") -> Scheduler:
    """The fake SLURM of a folder, behind new wrappers."""
    slurm = home / "slurm"
    return Scheduler(home / name, {"PATH": f"{slurm / 'bin'}:{os.environ['PATH']}", "FAKE_SLURM": str(slurm)})


def _write_study(path: Path, runs: int) -> None:
    """As many runs of one step each."""
    path.write_text(
        "schema: 1\n"
        "base: {model: ViT-w16d1-4, data: shapes, samples: 32, batch_size: 32, mask_ratio: 0, warmup: 0}\n"
        "axes: {mask_ratio: [0, 0.5]}\n"
        f"seeds: {runs // 2}\n"
    )


def _write_site(path: Path, partition: str, *sbatch: str) -> None:
    more = f"sbatch: {json.dumps(list(sbatch))}\n" if sbatch else ""
    path.write_text(f"schema: 1\npartition: {partition}\ntime: 10m\n{more}")


def _flipscale(verb: str, study: Path, home: Path) -> list[str | Path]:
    return [sys.executable, "-m", "flipscale", verb, study, "--results", home / "results"]


def _submit(study: Path, site: Path, home: Path) -> list[str | Path]:
    return [*_flipscale("submit", study, home), "--on", "slurm", "--site", site, "--detach"]


def _scripts(home: Path) -> list[Path]:
    return sorted((home / "results/slurm").glob("*/*.sh"))


def _raw(scripts: Sequence[Path], *options: str) -> list[str]:
    """A shell that hands these scripts to sbatch, and does no more."""
    commands = []
    for script in scripts:
        (array,) = (line.split()[-1] for line in script.read_text().splitlines() if line.startswith("#SBATCH --array"))
        commands.append(shlex.join(["sbatch", array, *options, str(script)]))
    return ["bash", "-c", " && ".join(commands)]


def finish(folder: RunFolder, number: int, records: int) -> None:
    """Fill a run's folder as training fills it."""
    line = {"loss": 3.503373146057129, "lr": 0.0005, "logit_scale": 2.6587600708007812, "images_per_second": 511.98920}
    steps = [
        {"step": step, "samples_seen": 32 * step, **line, "seconds": 0.0625 * step} for step in range(1, records + 1)
    ]
    scores = {"zero_shot_top1": 0.025, "image_retrieval_r1": 0.00625, "text_retrieval_r1": 0.0}
    seen = [*steps, {"step": records, "samples_seen": 32 * records, "scores": scores}]
    (folder.path / "metrics.jsonl").write_text("".join(json.dumps({**one, "time": time.time()}) + "\n" for one in seen))
    (folder.path / "lease.lock").touch()
    if number % FAILED_BEFORE == 0:
        for attempt in (0, 1):
            failed = FailedAttempt(
                FailureKind.PREEMPTED, "Its job was pre-empted.", "goes on", node="n1", attempt=attempt
            )
            folder.note_failure(failed)
    result = {"schema": 1, "scores": scores, "train_seconds": 0.45, "samples_seen": 32, "steps": 1, "device": "cpu"}
    write_json(folder.path / "result.json", result, flush=False)


# By the functions, in a process of their own


def _stages(scheduler: Scheduler, study: Path, site: Path, home: Path) -> dict[str, Any]:
    """The parts of a submission by the functions: seconds of each, and those in SLURM's programs."""
    found, programs_wall_seconds = _inside(scheduler, "submit", study, site, home)
    plan, submit = found["plan"], found["submit"]
    return {
        "plan": {"wall_seconds": plan["wall_seconds"], "cpu_seconds": plan["own_cpu_seconds"]},
        "folders": {
            "wall_seconds": submit["wall_seconds"] - programs_wall_seconds,
            "cpu_seconds": submit["own_cpu_seconds"],
        },
        "programs": {"wall_seconds": programs_wall_seconds, "cpu_seconds": submit["programs_cpu_seconds"]},
        "calls": submit["calls"],
    }


def _inside(scheduler: Scheduler, what: str, study: Path, site: Path, home: Path) -> tuple[dict[str, Any], float]:
    """What `inside` prints, with the calls that it made; and the wall seconds in them."""
    before = len(scheduler.calls())
    code = "import sys; from bench.submission import inside; inside(*sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", code, what, study, site, home / "results"],
        env=scheduler.environment,
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise FlipscaleError(f"bench.submission.inside({what!r}) ended with {done.returncode}:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    calls = scheduler.calls()[before:]
    found[what]["calls"] = _counted(calls)
    return found, sum(call.ended - call.began for call in calls)


def inside(what: str, study: str, site: str, results: str) -> None:
    """Plan a study, then submit its runs or look at their states; prints what each step took, as JSON."""
    from flipscale import launch
    from flipscale.planning.runs import plan
    from flipscale.study import read_study

    launcher = launch.launcher_named("slurm", Path(results), launch.read_site(site))
    found = {}
    with _clock("plan", found):
        runs = plan(read_study(study)).runs
    with _clock(what, found):
        if what == "submit":
            launch.submit(runs, Path(results), launcher)
        else:
            launch.states(runs, Path(results))
    print(json.dumps(found))


@contextlib.contextmanager
def _clock(name: str, found: dict[str, Any]) -> Iterator[None]:
    before = time.perf_counter(), time.process_time(), _programs_cpu_seconds()
    yield
    now = time.perf_counter(), time.process_time(), _programs_cpu_seconds()
    names = ("wall_seconds", "own_cpu_seconds", "programs_cpu_seconds")
    found[name] = {name: end - start for name, start, end in zip(names, before, now, strict=True)}


def _programs_cpu_seconds() -> float:
    of_children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return of_children.ru_utime + of_children.ru_stime


# A real SLURM


def submissions_to_a_cluster(folder: Path, runs: int, partition: str, repeats: int) -> dict[str, Any]:
    """Submit held runs to the SLURM here, in turns with sbatch alone, and cancel them."""
    config = cluster_config()
    facts: dict[str, Any] = {
        "slurm": config["SLURM_VERSION"],
        "max_array_size": int(config["MaxArraySize"]),
        "runs": runs,
        # SLURM keeps ended jobs for minutes and refuses more than MaxJobCount. Each turn submits the runs three times.
        "repeats": max(1, min(repeats, int(int(config["MaxJobCount"]) * SHARE_OF_JOBS) // (3 * runs))),
        "flipscale": [],
        "sbatch": [],
        "stages": [],
        "cancel": [],
    }
    for repeat in range(facts["repeats"]):
        home = folder / "cluster" / str(repeat)
        home.mkdir(parents=True)
        study, site, scheduler = home / "study.yaml", home / "site.yaml", Scheduler(home / "submit")
        _write_study(study, runs)
        _write_site(site, partition, "--hold")
        try:
            facts["flipscale"].append(asdict(scheduler.time(_submit(study, site, home))))
        finally:
            facts["cancel"].append(asdict(scheduler.time(_flipscale("cancel", study, home))))
        name = f"flipscale-bench-{os.getpid()}"
        with _cancelled_after(name):
            facts["sbatch"].append(asdict(scheduler.time(_raw(_scripts(home), f"--job-name={name}"))))
        by_function = home / "stages"
        try:
            facts["stages"].append(_stages(Scheduler(by_function), study, site, by_function))
        finally:
            scheduler.time(_flipscale("cancel", study, by_function))
    return facts


def cluster_config() -> dict[str, str]:
    """The configuration of the SLURM that this machine reaches. FlipscaleError without one."""
    try:
        answer = subprocess.run(["scontrol", "show", "config"], capture_output=True, text=True, check=True).stdout
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        raise FlipscaleError(f"There is no SLURM here ({error}). Leave out --partition, or set SLURM_CONF.") from None
    return dict(re.findall(r"^(\w+) *= (.*)$", answer, re.MULTILINE))


@contextlib.contextmanager
def _cancelled_after(name: str) -> Iterator[None]:
    try:
        yield
    finally:
        subprocess.run(["scancel", f"--name={name}"], check=True)


def hydra_sweep(folder: Path, python: str, runs: int, partition: str) -> dict[str, Any]:
    """hydra's sweep of a function that does nothing: seconds until all jobs are queued, and until it returns.

    If the jobs are held, hydra is not waited for, because it returns when all are done.
    """
    home = folder / f"hydra-{runs}"
    scheduler = Scheduler(home)
    app, held, name = home / "app.py", runs > HYDRA_RUNS, f"flipscale-bench-{os.getpid()}-{runs}"
    app.write_text(_HYDRA_APP)
    command = [python, app, "--multirun", "hydra/launcher=submitit_slurm", f"hydra.launcher.partition={partition}"]
    command += [f"hydra.launcher.name={name}", f"hydra.sweep.dir={home / 'sweep'}", f"+number=range(0,{runs})"]
    command += ["+hydra.launcher.additional_parameters.hold=true"] if held else []
    facts: dict[str, Any] = {"runs": runs, "held": held, "wall_seconds": None}
    with _cancelled_after(name), open(home / "said.txt", "w") as said:
        began = time.time()
        process = subprocess.Popen(
            command, env=scheduler.environment, cwd=home, stdin=subprocess.DEVNULL, stdout=said, stderr=said
        )
        try:
            while not any(call.program == "sbatch" for call in scheduler.calls()):
                if process.poll() is not None or time.time() - began > HYDRA_SECONDS:
                    raise FlipscaleError(f"hydra has sent nothing: {(home / 'said.txt').read_text()[-2000:]}")
                time.sleep(0.05)
            facts["own_cpu_seconds_queued"], _ = cpu_seconds(process.pid)
            calls = scheduler.calls()
            facts["calls_queued"] = _counted(calls)
            facts["wall_seconds_queued"] = max(call.ended for call in calls if call.program == "sbatch") - began
            if not held:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(HYDRA_SECONDS)
                    facts["wall_seconds"] = time.time() - began
        finally:
            process.kill()
            process.wait()
    facts["calls"] = _counted(scheduler.calls())
    return facts


# What is said


def limits(facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The limits of the numbers, and whether they hold."""
    found = []
    places = [(f"fake, {one['runs']:,}", one, facts["max_array_size"]) for one in facts["fake"]]
    if cluster := facts["cluster"]:
        places.append((f"SLURM, {cluster['runs']:,}", cluster, cluster["max_array_size"]))
    for where, one, size in places:
        calls = max(sum(run["calls"].values()) for run in one["flipscale"])
        most = math.ceil(one["runs"] / size) + CONSTANT
        found.append(limit(f"scheduler calls to submit ({where})", f"at most {most}", f"{calls}", calls <= most))
    for where, one, _ in places:
        own = 1000 * _least(one["flipscale"], "own_cpu_seconds") / one["runs"]
        wall = 1000 * min(run["wall_seconds"] - run["programs_wall_seconds"] for run in one["flipscale"]) / one["runs"]
        said = f"{own:.2f} ms of CPU ({wall:.2f} of wall)"
        found.append(limit(f"own work a run to submit ({where})", f"under {OWN_MS:g} ms", said, own < OWN_MS))
    again = max(sum(run["calls"].values()) for run in facts["looks"]["again"])
    found.append(limit("scheduler calls to submit again, all finished", "0", f"{again}", again == 0))
    for situation, seen in facts["looks"]["situations"].items():
        for kind, name in (("text", "status"), ("json", "status --json")):
            wall = _least(seen[kind], "wall_seconds")
            said = f"{wall:.2f} s ({_cpu(seen[kind]):.2f} of CPU)"
            of = f"{name} of {facts['looks']['runs']:,}, {situation}"
            found.append(limit(of, f"under {STATUS_SECONDS:g} s", said, wall < STATUS_SECONDS))
    return found


def _least(spent: Sequence[Mapping[str, float]], name: str) -> float:
    return min(one[name] for one in spent)


def _cpu(spent: Sequence[Mapping[str, float]]) -> float:
    return min(one["own_cpu_seconds"] + one["programs_cpu_seconds"] for one in spent)


def _as_markdown(facts: Mapping[str, Any]) -> str:
    here, seen = facts["machine"], facts["looks"]
    rows = []
    for one in facts["fake"]:
        rows += _submission_rows("fake", one)
    if cluster := facts["cluster"]:
        rows += _submission_rows(f"SLURM {cluster['slurm']}", cluster)
        rows.append(_row(f"SLURM {cluster['slurm']}: flipscale cancel", cluster["runs"], cluster["cancel"]))
    rows += [_hydra_row(one) for one in facts["hydra"]]
    for situation, kinds in seen["situations"].items():
        rows.append(_row(f"fake: flipscale status, {situation}", seen["runs"], kinds["text"]))
        rows.append(_row(f"fake: flipscale status --json, {situation}", seen["runs"], kinds["json"]))
        rows.append(_row(f"fake: launch.states alone, {situation}", seen["runs"], kinds["states"]))
    rows.append(_row("fake: flipscale submit again, all finished", seen["runs"], seen["again"]))
    columns = ["what", "runs", "scheduler calls", "wall s", "CPU s", "own CPU ms a run"]
    return (
        table(columns, rows)
        + f"\n{_notes(facts)}\n\n"
        + table(["of a submission by the functions", *_stage_columns()], _stage_rows(facts))
        + "\n"
        + table(["limit", "is", "measured", ""], [list(one.values()) for one in facts["limits"]])
        + f"\n{here['cpu']}, {here['cores']} cores, load {here['load']}, Python {here['python']}, {here['date']}.\n"
    )


def _submission_rows(where: str, one: Mapping[str, Any]) -> list[list[str]]:
    return [
        _row(f"{where}: flipscale submit", one["runs"], one["flipscale"]),
        _row(f"{where}: sbatch --array of the same", one["runs"], one["sbatch"]),
    ]


def _row(what: str, runs: int, spent: Sequence[Mapping[str, Any]]) -> list[str]:
    calls = max((run["calls"] for run in spent), key=lambda one: sum(one.values()))
    by_program = ", ".join(f"{number} {program}" for program, number in sorted(calls.items()))
    own = 1000 * _least(spent, "own_cpu_seconds") / runs
    wall = f"{_least(spent, 'wall_seconds'):.2f}"
    return [what, f"{runs:,}", by_program or "0", wall, f"{_cpu(spent):.2f}", f"{own:.3f}"]


def _hydra_row(one: Mapping[str, Any]) -> list[str]:
    calls = ", ".join(f"{number} {program}" for program, number in sorted(one["calls_queued"].items()))
    if one["held"]:
        how = "held"
    else:
        how = f"returns after {one['wall_seconds']:.0f} s" if one["wall_seconds"] else "has not returned in time"
    own = one["own_cpu_seconds_queued"]
    return [
        f"SLURM: hydra --multirun, until all are queued ({how})",
        f"{one['runs']:,}",
        calls,
        f"{one['wall_seconds_queued']:.2f}",
        f"{own:.2f}",
        f"{1000 * own / one['runs']:.3f}",
    ]


def _notes(facts: Mapping[str, Any]) -> str:
    notes = [
        f"Each is the least of {facts['repeats']}. CPU is of the command and of the programs that it calls, own CPU of "
        "the command alone, from its start to its end. The fake SLURM takes jobs and starts none."
    ]
    if facts["cluster"]:
        notes.append(f"On the real one, of {facts['cluster']['repeats']}, jobs were held, and cancelled at once.")
    else:
        notes.append("A real one was not measured; --partition NAME does.")
    if facts["hydra"]:
        notes.append(
            f"hydra was started once for each; it returns when all jobs are done, and more than {HYDRA_RUNS} were held."
        )
    else:
        notes.append(
            "hydra was not measured; `python -m venv DIR && DIR/bin/pip install hydra-core hydra-submitit-launcher`, "
            "and --partition NAME --hydra DIR/bin/python do."
        )
    return " ".join(notes)


def _stage_columns() -> list[str]:
    stages = ("planning", "folders and files", "SLURM's programs")
    return ["runs", *(f"{stage}, {clock} s" for stage, clock in itertools.product(stages, ("wall", "CPU")))]


def _stage_rows(facts: Mapping[str, Any]) -> list[list[str]]:
    places = [("fake", one) for one in facts["fake"]] + ([("SLURM", facts["cluster"])] if facts["cluster"] else [])
    return [
        [where, f"{one['runs']:,}"]
        + [
            f"{_least([stages[stage] for stages in one['stages']], f'{clock}_seconds'):.2f}"
            for stage, clock in itertools.product(("plan", "folders", "programs"), ("wall", "cpu"))
        ]
        for where, one in places
    ]


@contextlib.contextmanager
def _folder(asked: Path | None) -> Iterator[Path]:
    """The folder to work in; a temporary one is removed when the block ends."""
    if asked is None:
        with tempfile.TemporaryDirectory(prefix="flipscale-bench-") as folder:
            yield Path(folder)
    else:
        asked.mkdir(parents=True, exist_ok=True)
        if any(asked.iterdir()):
            raise FlipscaleError(f"{asked}: is not empty; give --folder a new one.")
        yield asked.resolve()


def _progress(what: str) -> None:
    print(f"{what} ...", file=sys.stderr, flush=True)


if __name__ == "__main__":
    # Held jobs are cancelled, and the folder is removed, even after SIGTERM.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    main()
