"""Full disks, truncated files, clocks that jump, and results folders with 100,000 runs."""

import contextlib
import functools
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

from flipscale.run import RunFolder, State
from tests.torture import hostile
from tests.torture.counts import Counts, Extent
from tests.torture.verbs import Case, Outcome, count, judged, ran

ROOT = Path(__file__).parents[2]

WHOLE = 3000
"""Files up to this many bytes are cut off at every byte, larger ones at up to about 400 places."""


def torture(extent: Extent) -> Counts:
    counts = Counts()
    made = hostile.prepare(extent.work / "made")
    parts: tuple[tuple[str, Callable[[], Counts]], ...] = (
        ("full disk", lambda: full_disk(extent)),
        ("truncated", lambda: truncated(extent, made)),
        ("clocks", lambda: clocks(extent, made)),
        ("many folders", lambda: many_folders(extent, made)),  # last, as it adds to the folder
    )
    for name, part in parts:
        found = part()
        extent.say(f"  {name}: {found.cases:,} cases, {sum(found.wrong.values())} wrong")
        counts.add(found)
    return counts


# A full disk


def full_disk(extent: Extent) -> Counts:
    """No room after the n-th write of training, collecting and reporting; then room again. In full, for every n."""
    place = extent.work / "disk"
    place.mkdir()
    shim = place / "full_disk.so"
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "g++"))), None)
    if compiler is None or sys.platform != "linux":
        return Counts(notes=["no full disk: it needs Linux and a C compiler"])
    source = str(Path(__file__).with_name("full_disk.c"))
    subprocess.run([compiler, "-x", "c", "-shared", "-fPIC", "-O1", "-o", shim, source, "-ldl"], check=True)
    draw = random.Random(extent.seed)
    step = 40 if extent.short else max(1, round(1 / extent.share))
    command = [sys.executable, "-m", "tests.torture.full_disk", place, str(draw.randrange(step)), "100000", str(step)]
    environment = {**os.environ, "LD_PRELOAD": str(shim)}
    done = subprocess.run([*map(str, command)], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    counts = Counts()
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    for line in lines:
        if "writes" in line:
            counts.cases += 1
            if line["wrong"]:
                counts.report(line["wrong"], f"no room after {line['writes']} writes: {line['said'][-700:]}")
    if done.returncode:
        counts.report("tracebacks", f"full_disk ended with {done.returncode}: {done.stderr[-700:]}")
    return counts


# Files that are cut off

LOOKS: tuple[tuple[str, ...], ...] = (
    ("status", "study.yaml"), ("collect", "--no-mlflow", "study.yaml"), ("logs", "RUN"), ("gc",), ("status", "--spent"),
    ("status", "--why", "RUN"), ("cancel", "study.yaml"), ("submit", "--dry-run", "study.yaml"),
)  # fmt: skip
"""Commands that read run folders. Each truncated file is read by two of them, in turns."""

SLOW_LOOKS: tuple[tuple[str, ...], ...] = (("report", "study.yaml"), ("compare", "study.yaml"))
"""Every 20th truncated file is read by these instead."""


def truncated(extent: Extent, made: Path) -> Counts:
    """Every file of a results folder, cut off at every byte (large ones at some of them)."""
    results = made / "results"
    files = sorted(path for path in results.rglob("*") if path.is_file() and path.suffix != ".lock")
    runs = sorted((results / "runs").iterdir())
    # Runs are alike; the first is finished and the last is not.
    files = [
        path for path in files if not (path.is_relative_to(results / "runs") and path.parent not in (runs[0], runs[-1]))
    ]
    cuts = [(path.relative_to(results), size) for path in files for size in _sizes(path.stat().st_size, extent)]
    random.Random(extent.seed).shuffle(cuts)
    cuts = cuts[: extent.cases(len(cuts), 40)]
    cases = [
        Case(f"{path} of {size} bytes, look {number}", functools.partial(_cut, made, path, size, number))
        for number, (path, size) in enumerate(cuts)
    ]
    return count(cases, say=extent.say)


def _sizes(size: int, extent: Extent) -> Iterator[int]:
    if size <= WHOLE:
        yield from range(size)
    else:
        draw = random.Random(size)
        yield from sorted({0, 1, size - 1, *(draw.randrange(size) for _ in range(extent.cases(400, 20)))})


def _cut(made: Path, path: Path, size: int, number: int) -> Outcome:
    with hostile.here(made):
        shutil.copytree(made / "results", "results")
        shutil.copy(made / "study.yaml", "study.yaml")
        with open(Path("results") / path, "r+b") as file:
            file.truncate(size)
        looks = SLOW_LOOKS if number % 20 == 0 else LOOKS
        run_id = path.parts[1] if path.parts[0] == "runs" else next(Path("results/runs").iterdir()).name
        for look in (looks[number % len(looks)], looks[(number + 3) % len(looks)]):
            ended = ran([run_id if word == "RUN" else word for word in look])
            if ended.wrong:
                return Outcome(ended.code, f"{' '.join(look)}:\n{ended.said}", ended.wrong)
        return ended


# Clocks that jump


def clocks(extent: Extent, made: Path) -> Counts:
    """A clock that is far ahead or behind while a run is looked at, and one that jumps while it trains."""
    jumps = [sign * far for far in (1, 59, 3600, 86_400, 4e7, 1.5e9) for sign in (1, -1)]
    looks = [
        ("status", "study.yaml"),
        ("status", "--spent"),
        ("collect", "--no-mlflow", "study.yaml"),
        ("gc",),
        ("cancel", "study.yaml"),
    ]
    cases = [
        Case(f"{' '.join(look)} with the clock {jump:+.0f} s off", functools.partial(_look_at, made, look, jump))
        for jump in jumps
        for look in looks
    ]
    cases += [
        Case(f"a run whose clock jumps, {n}", functools.partial(_train, made, f"{extent.seed}-{n}")) for n in range(20)
    ]
    draw = random.Random(extent.seed)
    draw.shuffle(cases)
    return count(cases[: extent.cases(len(cases), 20)], say=extent.say)


@contextlib.contextmanager
def _clock(tell: Callable[[float], float]) -> Iterator[None]:
    """A clock that is wrong; times of files are those of the file server, which is right."""
    real = time.time
    with mock.patch.object(time, "time", side_effect=lambda: tell(real())):
        yield


def _look_at(made: Path, look: tuple[str, ...], jump: float) -> Outcome:
    with hostile.here(made):
        shutil.copytree(made / "results", "results")
        shutil.copy(made / "study.yaml", "study.yaml")
        with _clock(lambda now: max(0.0, now + jump)):
            return ran(look)


def _train(made: Path, seed: str) -> Outcome:
    """Run trainer.py under a clock that jumps at any moment, by a day at most: it finishes as it should."""
    from tests.launch.contract import StandInRun
    from tests.torture import trainer
    from tests.torture.checks import losses, undisturbed

    draw = random.Random(seed)
    with hostile.here(made) as place:
        run = RunFolder(place / "results" / "runs" / "run")
        from flipscale.run import Asked

        run.ask(Asked.of(StandInRun("run", seconds=0.5)))
        with _clock(lambda now: now + draw.uniform(-86_400, 86_400)):
            ended = judged(lambda: trainer.main([str(run.path)]))
        if not ended.wrong and run.state() is not State.FINISHED:
            return Outcome(ended.code, f"it is {run.state()}", "lost")
        if not ended.wrong and losses(run) != undisturbed("run", trainer.steps_of(0.5)):
            return Outcome(ended.code, "its losses differ", "differing")
        return ended


# Many folders

LINKS = 10_000
"""Hard links to one file; ext4 allows 65,000."""


def many_folders(extent: Extent, made: Path) -> Counts:
    """A results folder with many other runs beside those of a small study, and the verbs that read all of it."""
    runs = made / "results" / "runs"
    (first, *_) = sorted(runs.iterdir())
    names = ("run.json", "result.json", "metrics.jsonl")
    for number in range(extent.cases(100_000, 1_000)):
        folder = runs / f"other-{number:06}"
        folder.mkdir()
        for name in names:
            if number % LINKS:
                os.link(first / name, folder / name)
            else:
                shutil.copy(first / name, folder / name)
        if not number % LINKS:
            first = folder
    looks = [
        ("status", "study.yaml"), ("collect", "--no-mlflow", "study.yaml"), ("gc",), ("status", "--spent"),
        ("logs", "other-000001"), ("status", "--why", "other-000001"), ("archive", "study.yaml"),
        ("report", "study.yaml"),
    ]  # fmt: skip
    cases = [Case(f"{' '.join(look)} beside many", functools.partial(_beside, made, look)) for look in looks]
    return count(cases, workers=1, say=extent.say)


def _beside(made: Path, look: tuple[str, ...]) -> Outcome:
    with contextlib.chdir(made), hostile.no_orders():
        return ran(look, seconds=100)  # a millisecond a folder
