"""A program's account of its measurements, checked, and completed by flipscale's own."""

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from flipscale.cost import steps_of
from flipscale.errors import DamagedFile, FlipscaleError
from flipscale.plain_files import read_json
from flipscale.run import FailureKind, Result, RunFolder
from flipscale.run.codec import result_from_json
from flipscale.scores import is_fraction
from flipscale.train.failure import Cause, Failed
from flipscale.train.machine import version
from flipscale.train.requests import parent_of, request_of, spent_before, unique_pairs_of
from flipscale.train.trainers.program.process import Attempts

NUMBERS = (
    "samples_seen", "steps", "unique_pairs", "repeats", "train_seconds", "cpu_seconds", "evaluation_seconds",
    "images_per_second", "attempts", "devices", "gpu_hours", "peak_memory_bytes", "final_loss", "params",
    "corrupt_samples", "started", "finished",
)  # fmt: skip
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
    try:
        outcome = _parsed(path)
        _check_numbers(outcome)
        if diverged := _not_finite(outcome["scores"]):
            score, value = diverged
            raise Failed(Cause(FailureKind.DIVERGED, f"{name} gives {score} as {value}; lower lr or lengthen warmup."))
        _check_ranges(outcome)
        _check_amounts(outcome, run)
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

    def __init__(self, what: str, right: str = 'write {"scores": {"zero_shot_top1": 0.41}} there at its end'):
        self.what, self.right = what, right
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


def _check_numbers(outcome: Outcome) -> None:
    for name, value in _numbers(outcome):
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _Wrong(f"gives {name} as {value!r}, which is not a number")


def _not_finite(scores: Mapping[str, float | None]) -> tuple[str, float] | None:
    """The first score that is not a finite number."""
    return next(
        ((name, value) for name, value in scores.items() if value is not None and not math.isfinite(value)), None
    )


def _check_ranges(outcome: Outcome) -> None:
    for name, value in _numbers(outcome):
        if right := _right_range(name, value):
            raise _Wrong(f"gives {name} as {value}", right)


def _right_range(name: str, value: float) -> str | None:
    """The remedy for an impossible number."""
    if is_fraction(name.removeprefix("scores.")) and not 0 <= value <= 1:
        return "write a fraction from 0 to 1" + (f", {value / 100:g} for {value:g} %" if 1 < value <= 100 else "")
    if not name.startswith("scores.") and name != "final_loss" and not 0 <= value < math.inf:
        return "write a number from 0 on, or leave it out"
    return None


def _check_amounts(outcome: Outcome, run: RunFolder) -> None:
    """Raise _Wrong for a program that trained for more or less than was asked for, give or take a batch."""
    settings, _ = request_of(run)
    steps, batch_size = steps_of(settings), settings.batch_size
    for name, wanted, slack in (("samples_seen", steps * batch_size, batch_size), ("steps", steps, 1)):
        if (value := outcome.get(name)) is not None and abs(value - wanted) > slack:
            raise _Wrong(
                f"gives {name} as {value}", f"{wanted} were asked for, give or take a batch: train for that many"
            )


def complete(outcome: Outcome, run: RunFolder, attempts: Attempts) -> Result:
    """The outcome, completed by what flipscale measured and by what was asked for."""
    result = {**_measured(run, attempts), **outcome}
    data_size = request_of(run)[0].data_size
    if data_size is not None and "unique_pairs" not in outcome:
        result["unique_pairs"] = min(data_size, result["samples_seen"])
    if result["unique_pairs"] and result["repeats"] is None:
        result["repeats"] = result["samples_seen"] / result["unique_pairs"]
    if result["train_seconds"]:
        result.setdefault("images_per_second", result["samples_seen"] / result["train_seconds"])
    result.setdefault("gpu_hours", _hours(result["train_seconds"], result["cpu_seconds"], result["devices"]))
    result["versions"] = {"flipscale": version(), **result["versions"]}
    parent, pairs = parent_of(run), result["unique_pairs"]
    # How many of its parent's pairs a program saw again is known only where one of the two saw all there are.
    has_all = data_size is not None and pairs is not None and data_size in (pairs, unique_pairs_of(parent))
    return replace(
        result_from_json(result, run.path), parent=spent_before(parent, data_size - pairs if has_all else None)
    )


def _measured(run: RunFolder, attempts: Attempts) -> dict[str, Any]:
    """What flipscale knows of a run without its program's word: the values for what an outcome leaves out."""
    settings, resources = request_of(run)
    on_gpu = torch.cuda.is_available()
    steps = steps_of(settings)
    return {
        "steps": steps,
        "samples_seen": steps * settings.batch_size,
        "unique_pairs": None,
        "repeats": None,
        "train_seconds": attempts.seconds,
        "cpu_seconds": attempts.cpu_seconds or None,
        "evaluation_seconds": None,
        "attempts": attempts.attempts,
        "device": torch.cuda.get_device_name() if on_gpu else "cpu",
        "devices": (resources.gpus or 1) if on_gpu else torch.get_num_threads(),
        "peak_memory_bytes": None if on_gpu else attempts.peak_memory_bytes,
        "started": attempts.started,
        "finished": time.time(),
        "final_loss": final_loss(run, steps),
        "params": None,
        "corrupt_samples": None,
        "versions": {},
    }


def _hours(seconds: float | None, cpu_seconds: float | None, devices: int) -> float | None:
    """As in flipscale's own trainer: on a CPU a device is a core, and its hours are those it worked."""
    if torch.cuda.is_available() and seconds:
        return seconds * devices / 3600
    return (cpu_seconds or seconds or 0) / 3600 or None


def final_loss(run: RunFolder, steps: int) -> float | None:
    """The mean of the losses recorded over the last 5 % of the steps; None if there are none."""
    records = run.records()[0]
    losses = [record["loss"] for record in records if record["step"] > 0.95 * steps and record.get("loss") is not None]
    return sum(losses) / len(losses) if losses else None
