"""Predicted against published device-hours of CLIP-like trainings, each from the rows of other sources.

    python -m bench.hours                    write bench/results/hours.json and print the table
    python -m bench.hours --check            write nothing; exit code 1 if predictions are outside the limits

bench/published/hours.csv has the rows (its columns: bench/published/README.md). flipscale/settings/devices.py predicts hours
from a device's share of its peak, `u0`. For each row u0 is fitted again here without the row's source: the median over the
other sources that trained on the device with software of the same era, each with the median of its rows. A device that
no other source trained on takes the rule for such devices, whose constant is fitted without the source too.

It takes a second. For each row that was read in its source or off a plot, the result has the published and the
predicted device-hours and their ratio, predicted over published. If a source gives a rate and no samples, the hours are
those of a million samples.
"""

import argparse
import csv
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from bench.report import leave, table
from flipscale.cost.arithmetic import flops
from flipscale.settings.architecture import architecture
from flipscale.settings.devices import DEVICES, MOST, REFERENCE_WIDTH, WIDTH_EXPONENT, Device, is_fused

ROWS = Path(__file__).with_name("published") / "hours.csv"

WITHIN = 1.5
"""The range given with every predicted hour on a device of published trainings."""

LEAST_WITHIN = 0.85
"""At least this share of the rows is within `WITHIN` times."""

MEDIAN = (0.8, 1.25)
"""The limits of the median of predicted over published."""

SAMPLES = 1_000_000
"""The samples whose hours are predicted where a source gives a rate and no samples."""


@dataclass(frozen=True)
class Stage:
    """A part of a training in which nothing changes."""

    model: str
    image_size: int
    text_length: int
    mask_ratio: float
    samples: int
    flops_per_sample: float | None
    """Given if the source has another text tower than the model, or none."""

    @cached_property
    def forward(self) -> float:
        """Forward FLOPs of a sample, about a third of all where a source's own model was counted."""
        if self.flops_per_sample is not None:
            return self.flops_per_sample / 3
        counted = flops(architecture(self.model, self.image_size), self.mask_ratio, self.text_length)
        return counted.image_forward + counted.text_forward

    @cached_property
    def training(self) -> float:
        """FLOPs of a sample, forward and backward."""
        if self.flops_per_sample is not None:
            return self.flops_per_sample
        return flops(architecture(self.model, self.image_size), self.mask_ratio, self.text_length).total


@dataclass(frozen=True)
class Training:
    """A training, and the device-hours that its source gives."""

    name: str
    source: str
    device: str
    software: int
    stages: tuple[Stage, ...]
    forward_again: int
    """Further forward passes of checkpointing and accumulation; 0 where a source does not state them."""
    hours: float
    read: str
    counted: bool
    """Whether the shares count it: not if the figure is in another row too, or was withdrawn."""
    where: str

    @property
    def samples(self) -> int:
        return sum(stage.samples for stage in self.stages)

    @cached_property
    def flops(self) -> float:
        """All that is computed."""
        return sum((stage.training + self.forward_again * stage.forward) * stage.samples for stage in self.stages)

    @property
    def width(self) -> int:
        return architecture(self.stages[0].model).image.width

    @property
    def group(self) -> tuple[str, bool]:
        """The chip, whatever its memory, and whether its software was as fast as today's."""
        chip = self.device.split("-")[0] if self.device.startswith(("A100", "H100")) else self.device
        return chip, is_fused(self.software) or _device(self.device).slower_in_2022 == 1

    @property
    def u0(self) -> float:
        """The share of the bf16 peak that it sustained, scaled to the reference width."""
        peak = _device(self.device).bf16
        return self.flops / (3600 * self.hours) / peak / (self.width / REFERENCE_WIDTH) ** WIDTH_EXPONENT


@dataclass(frozen=True)
class Prediction:
    """A row of the result. Hours are device-hours."""

    row: str
    source: str
    device: str
    software: int
    samples: int
    u0: float
    """From the rows of other sources."""
    fitted_to: str
    """What it was fitted to: the sources of the same device and era, or those of all devices."""
    published: float
    predicted: float
    ratio: float
    shipped: float
    """Predicted over published, by the shares in `flipscale.settings.devices`, which were fitted to this row too."""
    read: str
    counted: bool


def main(arguments: Sequence[str] | None = None) -> int:
    """Predict, print and keep; with --check 1 if a limit does not hold, else 0."""
    parser = argparse.ArgumentParser(prog="python -m bench.hours", description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a limit does not hold")
    parser.add_argument("--out", default="hours", metavar="NAME", help="keep the result under another name or path")
    asked = parser.parse_args(arguments)
    found = result(read_trainings())
    leave(None if asked.check else asked.out, found, as_markdown(found))
    return 0 if not asked.check or found["summary"]["holds"] else 1


def read_trainings(path: Path = ROWS) -> tuple[Training, ...]:
    """The trainings of the table. Rows of one name are stages of one training; its first row has the hours."""
    rows: dict[str, list[dict[str, str]]] = {}
    with open(path, encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            rows.setdefault(row["training"], []).append(row)
    return tuple(_training(name, stages) for name, stages in rows.items())


def _training(name: str, rows: Sequence[Mapping[str, str]]) -> Training:
    first, stages = rows[0], tuple(map(_stage, rows))
    samples = sum(stage.samples for stage in stages)
    rate = first["samples_per_second"]
    return Training(
        name=name,
        source=first["source"],
        device=first["device"],
        software=int(first["software"]),
        stages=stages,
        forward_again=(first["checkpointing"] == "yes") + (int(first["accumulate"] or 1) > 1),
        hours=samples / float(rate) / 3600 if rate else float(first["gpu_hours"]),
        read=first["read"],
        counted=first["counted"] == "yes",
        where=first["where"],
    )


def _stage(row: Mapping[str, str]) -> Stage:
    stated = row["flops_per_sample"]
    return Stage(
        model=row["model"],
        image_size=int(row["image_size"]),
        text_length=int(row["text_length"] or 0),
        mask_ratio=float(row["mask_ratio"]),
        samples=int(row["samples"] or SAMPLES),
        flops_per_sample=float(stated) if stated else None,
    )


def _device(name: str) -> Device:
    device = DEVICES[name]
    assert isinstance(device, Device), name
    return device


# Predicting


def result(trainings: Sequence[Training]) -> dict[str, Any]:
    """The predictions, and how good they are."""
    rows = [
        predict(training, trainings)
        for training in trainings
        if training.read != "not checked" and training.source != "big_vision"
    ]
    return {"benchmark": "hours", "summary": summary(rows), "rows": [asdict(row) for row in rows]}


def predict(training: Training, trainings: Sequence[Training]) -> Prediction:
    """The hours of a training, predicted from other sources."""
    others = [other for other in trainings if other.source != training.source and other.counted]
    alike = [other for other in others if other.group == training.group]
    device = _device(training.device)
    if alike:
        u0, fitted_to = median_of_sources(alike, lambda other: other.u0), ", ".join(sorted({o.source for o in alike}))
    else:
        u0, fitted_to = min(MOST, balance(others) * device.bandwidth / device.bf16), "all devices, by bandwidth"
    predicted = hours(training, replace(device, utilisation=u0, slower_in_2022=1.0))
    return Prediction(
        row=training.name,
        source=training.source,
        device=training.device,
        software=training.software,
        samples=training.samples,
        u0=rounded(u0),
        fitted_to=fitted_to,
        published=rounded(training.hours),
        predicted=rounded(predicted),
        ratio=rounded(predicted / training.hours),
        shipped=rounded(hours(training, device) / training.hours),
        read=training.read,
        counted=training.counted,
    )


def hours(training: Training, device: Device) -> float:
    """The device-hours of a training on a device. Peaks are those of bf16: no row was trained in true fp32."""
    return device.rate(training.width, "bf16", training.software).hours(training.flops, training.samples).about


def median_of_sources(trainings: Iterable[Training], of: Callable[[Training], float]) -> float:
    """The median over sources of the median of their rows, so that a source of many rows is one of several."""
    by_source: dict[str, list[float]] = {}
    for training in trainings:
        by_source.setdefault(training.source, []).append(of(training))
    return statistics.median(statistics.median(values) for values in by_source.values())


def balance(trainings: Iterable[Training]) -> float:
    """`u0` times FLOPs per byte of bandwidth with today's software, the median over chips."""
    chips: dict[str, list[Training]] = {}
    for training in trainings:
        chip, is_todays = training.group
        if is_todays:
            chips.setdefault(chip, []).append(training)

    def of(training: Training) -> float:
        return training.u0 * _device(training.device).bf16 / _device(training.device).bandwidth

    return statistics.median(median_of_sources(rows, of) for rows in chips.values())


def rounded(number: float) -> float:
    """To four significant digits, as published figures have no more."""
    return float(f"{number:.4g}")


def summary(rows: Sequence[Prediction]) -> dict[str, Any]:
    """How many rows are within `WITHIN` times, the median ratio, and whether the limits hold."""
    ratios = [row.ratio for row in rows if row.counted]
    within, median = share_within(ratios), statistics.median(ratios)
    return {
        "rows": len(ratios),
        "within_1.5_times": rounded(within),
        "within_2_times": rounded(share_within(ratios, 2)),
        "median_ratio": rounded(median),
        "within_1.5_times_of_all_rows": rounded(share_within([row.ratio for row in rows])),
        "shipped_within_1.5_times": rounded(share_within([row.shipped for row in rows if row.counted])),
        "holds": within >= LEAST_WITHIN and MEDIAN[0] <= median <= MEDIAN[1],
    }


def share_within(ratios: Sequence[float], times: float = WITHIN) -> float:
    return sum(abs(math.log(ratio)) <= math.log(times) for ratio in ratios) / len(ratios)


def as_markdown(found: Mapping[str, Any]) -> str:
    """The table, and under it how good the predictions are."""
    columns = ["training", "device", "software", "published", "predicted", "ratio", "u0 from"]
    rows = [
        [
            row["row"] + ("" if row["counted"] else " (not counted)"),
            row["device"],
            row["software"],
            f"{row['published']:,.6g}",
            f"{row['predicted']:,.6g}",
            f"{row['ratio']:.2f}",
            row["fitted_to"],
        ]
        for row in found["rows"]
    ]
    of = found["summary"]
    return (
        table(columns, rows)
        + f"\nDevice-hours, predicted from the rows of other sources. {of['within_1.5_times']:.0%} of "
        f"{of['rows']} rows are within 1.5 times (at least {LEAST_WITHIN:.0%}), {of['within_2_times']:.0%} within 2; "
        f"the median of predicted over published is {of['median_ratio']:.2f} ({MEDIAN[0]} to {MEDIAN[1]}): "
        f"{'holds' if of['holds'] else 'DOES NOT HOLD'}. Rows that are not counted: the same training or a part of one "
        f"in another row, and one that its source withdrew; with them {of['within_1.5_times_of_all_rows']:.0%}.\n"
    )


if __name__ == "__main__":
    raise SystemExit(main())
