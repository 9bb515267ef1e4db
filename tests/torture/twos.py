"""Two of everything on one results folder at once: submits, collects, plots, launchers, users.

The verbs run in forked processes that begin together. Afterwards each run has finished once, results.csv is what one
collect alone writes, and nobody has seen a traceback.
"""

import contextlib
import functools
import io
import multiprocessing
import os
import random
import shutil
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.run_folders import fill, planned_study
from flipscale.cli import main
from flipscale.launch import cancel, states, submit
from flipscale.run import State
from tests.launch import fake_slurm
from tests.launch.contract import StandInRun
from tests.torture.checks import check, check_logs
from tests.torture.counts import Counts, Extent
from tests.torture.kills import Study
from tests.torture.processes import left_over
from tests.torture.submitter import launcher_of
from tests.torture.trainer import steps_of

SECONDS = 300.0
"""The time limit of a verb, which may wait for others."""

TINY = """schema: 1
base: {model: ViT-w16d1-4, image_size: 28, text_length: 16, data: shapes, samples: 640, batch_size: 32, lr: 1e-3}
axes: {mask_ratio: [0, 0.5]}
baseline: {mask_ratio: 0}
"""


@dataclass(frozen=True)
class Outcome:
    """What a process printed, and which of KINDS is wrong with its end; '' if nothing is."""

    said: str
    wrong: str = ""


Do = Callable[[], Outcome]


def torture(extent: Extent) -> Counts:
    counts = Counts()
    draw = random.Random(extent.seed)
    for index in range(extent.cases(12, 1)):
        counts.add(submits(extent, draw, index))
    made = prepare(extent.work / "tables")
    for index in range(extent.cases(8, 1)):
        counts.add(tables(extent, made, index))
    counts.add(users(extent, made))
    return counts


def prepare(made: Path) -> Path:
    """A study of which all runs have finished, with its tables and its report."""
    fill(made / "results", planned_study(made, TINY), records=5)
    with contextlib.chdir(made):
        for verb in (["collect", "--no-mlflow"], ["compare"], ["report"]):
            ended = ran([*verb, "study.yaml"])
            assert not ended.wrong, ended.said
    return made


def ran(words: Sequence[str]) -> Outcome:
    """Run a verb of the command line here."""
    return judged(lambda: main(list(words)))


def judged(do: Callable[[], object]) -> Outcome:
    """Call `do` with captured output. It may raise SystemExit, as argparse does."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            do()
        except SystemExit:
            pass
        except Exception:
            traceback.print_exc()
    text = said.getvalue()
    return Outcome(text, "tracebacks" if "Traceback (most recent call last)" in text else "")


def together(does: Sequence[Do]) -> list[Outcome]:
    """Do these at once, each in a process of its own."""
    context = multiprocessing.get_context("fork")
    begin = context.Barrier(len(does))
    pipes, processes = [], []
    for do in does:
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_begin, args=(do, begin, theirs), daemon=False)
        process.start()
        theirs.close()
        pipes.append(ours)
        processes.append(process)
    outcomes = []
    for pipe, process in zip(pipes, processes, strict=True):
        if pipe.poll(SECONDS):
            try:
                outcomes.append(pipe.recv())
            except EOFError:
                outcomes.append(Outcome("its process ended without a word", "tracebacks"))
        else:
            process.kill()
            outcomes.append(Outcome("it did not end", "hangs"))
        process.join()
    return outcomes


def _begin(do: Do, begin: Any, pipe: Any) -> None:
    begin.wait()
    outcome = do()
    pipe.send(Outcome(outcome.said[-3000:], outcome.wrong))
    pipe.close()


def count(outcomes: Sequence[Outcome], where: str) -> Counts:
    counts = Counts(cases=len(outcomes))
    for outcome in outcomes:
        if outcome.wrong:
            counts.report(outcome.wrong, f"{where}: {outcome.said[-900:]}")
    return counts


# Submits and clusters


def submits(extent: Extent, draw: random.Random, index: int) -> Counts:
    """Several processes submit the same runs, to this machine and to a cluster, while others look and cancel."""
    place = extent.work / f"submits-{index}"
    results = place / "results"
    results.mkdir(parents=True)
    where = f"seed {extent.seed}, submits {index}"
    runs = [StandInRun(f"run-{n}", seconds=round(draw.uniform(0.1, 1.5), 2)) for n in range(8)]
    # At a short path, because sockets and programs of the fake SLURM lie in it.
    cluster = Path(tempfile.mkdtemp(prefix="flipscale-fake-slurm-"))
    environment = fake_slurm.install(cluster)
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    try:
        names = ["local", "local", draw.choice(("local", "slurm")), "slurm"]
        does: list[Do] = [functools.partial(_submit, runs, results, name) for name in names]
        does += [functools.partial(_look, runs, results)] * 2
        does += [functools.partial(_cancel, runs[:2], results)] * draw.choice((0, 2))
        counts = count(together(does), where)
        study = Study(runs, results, lambda: _again(runs, results))
        if not study.settle():
            counts.report("hangs", f"{where}: not over")
    finally:
        fake_slurm.stop(cluster)
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
    counts.add(check(results, {run.id: steps_of(run.seconds) for run in runs}, where))
    counts.add(check_logs(results, where))
    for process in left_over(results):
        counts.report("orphans", f"{where}: {process}")
    shutil.rmtree(cluster, ignore_errors=True)
    return counts


def _again(runs: Sequence[StandInRun], results: Path) -> None:
    submit(runs, results, launcher_of("local", results))


def _submit(runs: Sequence[StandInRun], results: Path, name: str) -> Outcome:
    def do() -> None:
        print(submit(runs, results, launcher_of(name, results)).summary())

    return judged(do)


def _look(runs: Sequence[StandInRun], results: Path) -> Outcome:
    def do() -> None:
        for _ in range(20):
            assert set(states(runs, results).values()) <= set(State)

    return judged(do)


def _cancel(runs: Sequence[StandInRun], results: Path) -> Outcome:
    def do() -> None:
        cancel(runs, results)

    return judged(do)


# Tables and figures


def tables(extent: Extent, made: Path, index: int) -> Counts:
    """Two of each verb that writes tables, figures and pages, all at once on one folder."""
    place = extent.work / f"tables-{index}"
    shutil.copytree(made, place)
    where = f"tables {index}"
    verbs = [
        ["collect", "--no-mlflow", "study.yaml"], ["compare", "study.yaml"], ["report", "study.yaml"],
        ["plot", "study.yaml"], ["archive", "study.yaml"], ["status", "study.yaml"], ["gc"], ["plan", "study.yaml"],
    ]  # fmt: skip
    table = next(place.glob("results/*/results.csv"))
    wanted = table.read_bytes()
    if extent.short:
        verbs = [verb for verb in verbs if verb[0] != "plot"]
    elif index % 2:
        table.unlink()  # All of them begin without a table.
    with contextlib.chdir(place):
        outcomes = together([functools.partial(ran, verb) for verb in verbs for _ in range(2)])
        outcomes.append(ran(verbs[0]))
    counts = count(outcomes, where)
    if table.read_bytes() != wanted:
        counts.report("differing", f"{where}: results.csv is not what one collect alone writes")
    for left in place.rglob(".*.tmp"):
        counts.report("orphans", f"{where}: {left.relative_to(place)} stays")
    return counts


# Users

OTHER, GROUP = 54_321, 54_322


def users(extent: Extent, made: Path) -> Counts:
    """A second user works on another user's results folder, and on one that both share by a group."""
    if os.geteuid():
        return Counts(notes=["no second user: it needs root"])
    counts = Counts()
    looks = [
        ["status", "study.yaml"], ["plan", "study.yaml"], ["collect", "--no-mlflow", "study.yaml"],
        ["compare", "study.yaml"],
        ["report", "study.yaml"], ["cancel", "study.yaml"], ["gc"], ["status", "--spent"], ["archive", "study.yaml"],
        ["submit", "study.yaml", "--detach"],
    ]  # fmt: skip
    for shared in (False, True):
        # Everybody may enter this folder; the torture's own folder is closed to other users.
        place = Path(tempfile.mkdtemp(prefix="flipscale-users-"))
        place.chmod(0o755)
        here = place / "study"
        shutil.copytree(made, here)
        if shared:
            _share(here)
        for look in looks:
            (outcome,) = together([functools.partial(_as_other, here, look)])
            counts.add(count([outcome], f"a second user, {'shared' if shared else 'not shared'}, {look[0]}"))
        if shared:
            does = [functools.partial(_as_other, here, looks[2]), functools.partial(_as_owner, here, looks[2])]
            counts.add(count(together(does), "two users collect at once"))
        shutil.rmtree(place, ignore_errors=True)
    return counts


def _share(here: Path) -> None:
    for path in (here, *here.rglob("*")):
        os.chown(path, -1, GROUP)
        path.chmod(0o2775 if path.is_dir() else 0o664)


def _as_other(here: Path, words: Sequence[str]) -> Outcome:
    os.setgroups([GROUP])
    os.setgid(GROUP)
    os.setuid(OTHER)
    return _with_umask(here, words, {"HOME": str(here), "USER": "other"})


def _as_owner(here: Path, words: Sequence[str]) -> Outcome:
    return _with_umask(here, words, {})


def _with_umask(here: Path, words: Sequence[str], more: Mapping[str, str]) -> Outcome:
    os.umask(0o002)
    os.environ.update(more)
    with contextlib.chdir(here):
        return ran(words)
