"""A program's account of its measurements, checked, and completed by flipscale's own."""

import math
import time
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch

from flipscale.cost.arithmetic import steps_of
from flipscale.errors import DamagedFile, FlipscaleError
from flipscale.kinds import Integer
from flipscale.plain_files import read_json
from flipscale.run import FailureKind, Result, RunFolder
from flipscale.run.codec import result_from_json
from flipscale.scores import is_fraction
from flipscale.train.failure import Cause, Failed
from flipscale.train.machine import version
from flipscale.train.requests import parent_of, request_of, spent_before, unique_pairs_of
from flipscale.train.trainers.program.process import Attempts

NUMBERS = [field.name for field in fields(Result) if field.type in (Integer | None, float | None)]
"""The numbers of result.json beside the scores. A program may measure any of them itself."""

Outcome = dict[str, Any]
"""outcome.json: scores, and what else the program says. Its numbers go into result.json by their names."""


def outcome_file(run: RunFolder) -> Path | None:
    """The file that the program left its outcome in."""
    files = (run.path / "outcome.json", run.path / "result.json")
    return next((file for file in files if file.exists()), None)


def read_outcome(run: RunFolder, name: str) -> Outcome:
    """The account that the program `name` gives of its training, checked.

    Raises FlipscaleError for missing or impossible entries, and Failed for a score that is not a finite number.
    """
    path = outcome_file(run) or run.path / "outcome.json"
    settings, _ = request_of(run)
    wanted: list[tuple[str, int, int]] = []
    if settings.is_clip:
        steps = steps_of(settings)
        wanted = [("samples_seen", steps * settings.batch_size, settings.batch_size), ("steps", steps, 1)]
    try:
        outcome = _parsed(path)
        for entry, value in _numbers(outcome):
            _check(name, entry, value)
        for entry, due, slack in wanted:
            if (value := outcome.get(entry)) is not None and abs(value - due) > slack:
                right = f"{due} were asked for, give or take a batch: train for that many"
                raise _Wrong(f"gives {entry} as {value}", right)
    except (_Wrong, Failed) as error:
        # result.json means finished, and a run with such an outcome is not.
        (run.path / "result.json").unlink(missing_ok=True)
        if isinstance(error, Failed):
            raise
        raise FlipscaleError(
            f"{name} ended with exit code 0, but {path.name} {error.what}; {error.right}."
        ) from error.__cause__
    return outcome


class _Wrong(Exception):
    """The fault of an outcome, and its remedy."""

    def __init__(self, what: str, right: str = 'write {"scores": {"zero_shot_top1": 0.41}} there, or print it last'):
        self.what = what
        self.right = right
        super().__init__(what)


def _parsed(path: Path) -> Outcome:
    try:
        outcome: Outcome = read_json(path, Outcome)
    except FileNotFoundError:
        raise _Wrong("is missing") from None
    except DamagedFile as error:
        raise _Wrong(f"cannot be read ({str(error).rstrip('.')})") from error
    if not isinstance(outcome.get("scores"), dict):
        raise _Wrong('holds no object "scores"')
    if not isinstance(outcome.get("versions", {}), dict):
        raise _Wrong('holds "versions" that are not an object')
    return outcome


def _numbers(outcome: Outcome) -> Iterator[tuple[str, Any]]:
    """All entries of an outcome that must be numbers, by name, except those that are null."""
    for score, value in outcome["scores"].items():
        if value is not None:
            yield f"scores.{score}", value
    for name in NUMBERS:
        if outcome.get(name) is not None:
            yield name, outcome[name]


def _check(program: str, entry: str, value: Any) -> None:
    """Raise _Wrong for an entry that is not a number or cannot be right, and Failed for a score that is not finite."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _Wrong(f"gives {entry} as {value!r}, which is not a number")
    name = entry.removeprefix("scores.")
    what = f"gives {entry} as {value}"
    if name != entry and not math.isfinite(value):
        raise Failed(Cause(FailureKind.DIVERGED, f"{program} gives {name} as {value}; lower lr or lengthen warmup."))
    if is_fraction(name) and not 0 <= value <= 1:
        raise _Wrong(what, "write a fraction from 0 to 1" + as_fraction(value))
    if name == entry != "final_loss" and not 0 <= value < math.inf:
        raise _Wrong(what, "write a number from 0 on, or leave it out")


def as_fraction(value: float) -> str:
    """', 0.41 for 41 %' for 41; '' for a value that is no percentage either."""
    return f", {value / 100:g} for {value:g} %" if 1 < value <= 100 else ""


def complete(outcome: Outcome, run: RunFolder, attempts: Attempts) -> Result:
    """The outcome, completed by what flipscale measured and by what was asked for."""
    settings, resources = request_of(run)
    on_gpu = torch.cuda.is_available()
    steps = steps_of(settings) if settings.is_clip else None
    result: Outcome = {
        "steps": steps,
        "samples_seen": None if steps is None else steps * settings.batch_size,
        "train_seconds": attempts.seconds,
        "cpu_seconds": attempts.cpu_seconds or None,
        "attempts": attempts.attempts,
        "device": torch.cuda.get_device_name() if on_gpu else "cpu",
        "devices": (resources.gpus or 1) if on_gpu else torch.get_num_threads(),
        "peak_memory_bytes": None if on_gpu else attempts.peak_memory_bytes,
        "started": attempts.started,
        "finished": time.time(),
        "final_loss": final_loss(run, steps),
        **{name: value for name, value in outcome.items() if value is not None},
    }
    samples = result["samples_seen"]
    seconds = result["train_seconds"]
    data_size = settings.data_size if settings.is_clip else None
    pairs = result.setdefault("unique_pairs", None if data_size is None else min(data_size, samples))
    if pairs and samples:
        result.setdefault("repeats", samples / pairs)
    if seconds and samples:
        result.setdefault("images_per_second", samples / seconds)
    # As in flipscale's own trainer: on a CPU a device is a core, and its hours are those it worked.
    worked = seconds * result["devices"] if on_gpu and seconds else result["cpu_seconds"] or seconds
    result.setdefault("gpu_hours", worked / 3600 if worked else None)
    result["versions"] = {"flipscale": version(), **result.get("versions", {})}
    # How many of its parent's pairs a program saw again is known only where one of the two saw all there are.
    parent = parent_of(run)
    others = None
    if data_size is not None and pairs is not None and data_size in (pairs, unique_pairs_of(parent)):
        others = data_size - pairs
    return replace(result_from_json(result, run.path), parent=spent_before(parent, others))


def final_loss(run: RunFolder, steps: int | None) -> float | None:
    """The mean of the losses recorded over the last 5 % of the steps; None if there are none.

    steps: None where the program alone knows them; then they end with the last record.
    """
    records = run.records()[0]
    if steps is None:
        steps = max((record["step"] for record in records), default=0)
    losses = [record["loss"] for record in records if record["step"] > 0.95 * steps and record.get("loss") is not None]
    return sum(losses) / len(losses) if losses else None
