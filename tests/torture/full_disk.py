"""A disk that is full after some write: python -m tests.torture.full_disk, with full_disk.so preloaded.

    python -m tests.torture.full_disk PLACE FIRST LAST STEP

For each of these numbers of writes a forked process trains a small run, collects and reports, with no room after that
many writes. Then there is room again, and the same commands must give the same result as on a disk with room.
Prints a line of JSON for each number: {"writes": n, "wrong": kind or "", "said": ...}.
"""

import contextlib
import ctypes
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.torture.checks import losses
from tests.torture.counts import Counts, Extent

STUDY = """schema: 1
base: {model: ViT-w16d1-4, image_size: 28, text_length: 16, data: shapes, samples: 160, batch_size: 32, lr: 1e-3}
axes: {mask_ratio: [0.5]}
evaluation: {images: 32}
"""


def torture(extent: Extent) -> Counts:
    """No room after the n-th write of training, collecting and reporting; then room again. In full, for every n."""
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "g++"))), None)
    if compiler is None or sys.platform != "linux":
        return Counts(notes=["no full disk: it needs Linux and a C compiler"])
    shim, source = extent.work / "full_disk.so", Path(__file__).with_name("full_disk.c")
    subprocess.run([compiler, "-x", "c", "-shared", "-fPIC", "-O1", "-o", shim, source, "-ldl"], check=True)
    step = 40 if extent.short else max(1, round(1 / extent.share))
    first = random.Random(extent.seed).randrange(step)
    command = [sys.executable, "-m", "tests.torture.full_disk", str(extent.work), str(first), "100000", str(step)]
    environment = {**os.environ, "LD_PRELOAD": str(shim)}
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
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


def library() -> Any:
    return ctypes.CDLL(None)


def main(words: Sequence[str]) -> int:
    place, (first, last, step) = Path(words[0]), map(int, words[1:])
    from flipscale.planning.runs import plan
    from flipscale.run import RunFolder, RunRequest
    from flipscale.study import read_study
    from flipscale.train import worklist  # noqa: F401  # loaded once, for all that are forked
    from flipscale.train.trainers.builtin import pretrain  # noqa: F401

    (place / "study.yaml").write_text(STUDY)
    (run,) = plan(read_study(place / "study.yaml")).runs
    asked = RunRequest.of(run)

    def folder_of(base: Path) -> RunFolder:
        return RunFolder(base / "results" / "runs" / run.id)

    def prepared(name: str) -> Path:
        base = place / name
        shutil.rmtree(base, ignore_errors=True)
        folder_of(base).ask(asked)
        shutil.copy(place / "study.yaml", base / "study.yaml")
        return base

    undisturbed = prepared("undisturbed")
    total = _forked(undisturbed, folder_of(undisturbed).path, -1)["writes"]
    wanted = losses(folder_of(undisturbed))
    assert wanted, "the undisturbed run has no losses"
    print(json.dumps({"total": total}), flush=True)
    for number in range(first, min(last, total), step):
        base = prepared("disk")
        during = _forked(base, folder_of(base).path, number)
        wrong, said = during["wrong"], during["said"]
        if not wrong:
            _clear(folder_of(base))
            after = _forked(base, folder_of(base).path, -1)
            wrong, said = after["wrong"], f"with room again: {after['said']}"
            if not wrong and losses(folder_of(base)) != wanted:
                wrong, said = "differing", "the losses are other than on a disk with room"
            if not wrong and folder_of(base).result() is None:
                wrong = "lost"
        print(json.dumps({"writes": number, "wrong": wrong, "said": said[-1500:]}), flush=True)
    return 0


def _clear(run: Any) -> None:
    """As `submit` does with a failed run."""
    run.clear_for_retry()


def _forked(base: Path, run: Path, room: int) -> dict[str, Any]:
    """Train, collect and report in a process of its own. Returns what was wrong, and the number of writes."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(reading)
        signal.alarm(120)
        outcome = _do(base, run, room)
        os.write(writing, json.dumps(outcome).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        answer = pipe.read()
    _, status = os.waitpid(pid, 0)
    if not answer:
        kind = "hangs" if os.waitstatus_to_exitcode(status) == -signal.SIGALRM else "tracebacks"
        return {"writes": 0, "wrong": kind, "said": f"the process ended with {os.waitstatus_to_exitcode(status)}"}
    found: dict[str, Any] = json.loads(answer)
    return found


def _do(base: Path, run: Path, room: int) -> dict[str, Any]:
    shim = library()
    folder = os.fsencode(str(base))
    ctypes.memmove(shim.torture_folder, folder + b"\0", len(folder) + 1)
    ctypes.c_long.in_dll(shim, "torture_writes").value = 0
    ctypes.c_long.in_dll(shim, "torture_countdown").value = room
    said = io.StringIO()
    wrong = ""
    os.chdir(base)
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            from flipscale.cli import main as flipscale

            for words in (["train", str(run)], ["collect", "study.yaml", "--no-mlflow"], ["report", "study.yaml"]):
                code = flipscale(words)
                if code and room < 0:
                    wrong = "lost"
    except (Exception, SystemExit):
        said.write(traceback.format_exc())
        wrong = "tracebacks"
    ctypes.c_long.in_dll(shim, "torture_countdown").value = -1
    text = said.getvalue()
    if "Traceback (most recent call last)" in text:
        wrong = "tracebacks"
    return {"writes": ctypes.c_long.in_dll(shim, "torture_writes").value, "wrong": wrong, "said": text}


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
