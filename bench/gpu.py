"""Predicted against measured memory and time of training steps on the GPU here, with the model FLOPs utilisation.

    python -m bench.gpu                      stock models at mask ratios 0, 0.5 and 0.75, in bf16, fp16 and fp32
    python -m bench.gpu --seconds 200        starts no configuration after this time; names those left out

Each configuration trains on one batch that is already on the GPU, so the step is measured without reading data. The
figures go to bench/results/gpu-<card>.json:

    memory    flipscale.cost's tensors, against the peak of torch's (allocated), and its memory_bytes, against the peak
              of what torch holds of the GPU for them (reserved; without CUDA's context, which memory_bytes counts)
    time      flipscale.cost's time of a step, against the mean of BLOCKS times several steps; the GPU is synchronised
              before and after each block
    MFU       the model's FLOPs a second, both passes and the loss, over the dense peak in that precision on the card's
              data sheet. Work computed twice (activation checkpointing) counts once. fp32 is TF32.
"""

import argparse
import math
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

from bench.programs import settings_of
from bench.report import leave, machine, machine_words, table
from flipscale.architecture import architecture
from flipscale.cost import Cost, cost, memory_bytes, memory_of
from flipscale.devices import DEVICES, device_named
from flipscale.settings import Resources, Settings
from flipscale.train.failure import is_out_of_memory
from flipscale.train.machine import PeakMemory, device_name
from flipscale.train.processes import Group
from flipscale.train.trainers.builtin.training import Training

TEXT_LENGTH = 32
"""FLIP's."""

WARM_UP = 3
"""Steps before timing: the first ones allocate memory, choose kernels and compile the model."""

BLOCKS = 3

BLOCK_SECONDS = 1.0
"""A block has about as many steps as fit into this."""

ROOM = 0.75
"""A batch is halved until the prediction is below this share of the GPU: it is up to 1.25 times too low."""


@dataclass(frozen=True)
class Configuration:
    """What is measured: a model, what it computes and how."""

    model: str
    mask_ratio: float
    precision: str
    batch_size: int
    compile: bool = False
    activation_checkpointing: bool = False
    accumulate: int = 1

    @property
    def settings(self) -> Settings:
        kind: dict[str, Any] = {"text_length": TEXT_LENGTH, "precision": self.precision}
        settings = settings_of(self.model, batch_size=self.batch_size, samples=100_000 * self.batch_size, **kind)
        return replace(settings, mask_ratio=self.mask_ratio)

    @property
    def resources(self) -> Resources:
        return Resources(
            compile=self.compile, activation_checkpointing=self.activation_checkpointing, accumulate=self.accumulate
        )

    @property
    def name(self) -> str:
        how = ["compiled"] * self.compile + ["checkpointing"] * self.activation_checkpointing
        how += [f"accumulate {self.accumulate}"] * (self.accumulate > 1)
        return f"{self.model} mask {self.mask_ratio:g} {self.precision} {' '.join(how)}".strip()


CONFIGURATIONS = (
    Configuration("ViT-B-32", 0.0, "bf16", 1024),
    Configuration("ViT-B-16", 0.0, "bf16", 512),
    Configuration("ViT-B-16", 0.5, "bf16", 512),
    Configuration("ViT-B-16", 0.75, "bf16", 512),
    Configuration("ViT-B-16", 0.5, "fp16", 512),
    Configuration("ViT-B-16", 0.5, "fp32", 256),
    Configuration("ViT-B-16", 0.5, "bf16", 512, compile=True),
    Configuration("ViT-B-32", 0.5, "bf16", 1024),
    Configuration("ViT-B-32", 0.75, "bf16", 1024),
    Configuration("ViT-B-16", 0.0, "bf16", 512, activation_checkpointing=True),
    Configuration("ViT-B-16", 0.5, "bf16", 1024, accumulate=4),
    Configuration("ViT-B-32", 0.0, "fp16", 1024),
    Configuration("ViT-B-32", 0.0, "fp32", 512),
    Configuration("ViT-L-14", 0.5, "bf16", 256),
    Configuration("ViT-B-32", 0.5, "bf16", 1024, compile=True),
)
"""The most important first: if time is short, the last ones are left out."""


@dataclass(frozen=True)
class Measured:
    """What the steps of a configuration took."""

    first_seconds: float
    """The first step, which compiles."""
    block_steps: int
    seconds: tuple[float, ...]
    """The mean time of a step in each block."""
    allocated_bytes: int
    """Peak, in tensors."""
    reserved_bytes: int | None
    """Peak of what torch held of the GPU; None on a CPU."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and keep; 1 if a configuration failed, else 0."""
    asked = _parser().parse_args(arguments)
    if reason := missing():
        print(f"no GPU here: {reason}; skipped")
        return 0
    deadline = time.monotonic() + asked.seconds
    group = Group()
    memory = torch.cuda.get_device_properties(group.device).total_memory
    facts: dict[str, Any] = {"benchmark": "gpu", "machine": machine() | _gpu_facts(), "gpu_memory_bytes": memory}
    facts |= {"text_length": TEXT_LENGTH, "cells": [], "left_out": []}
    for wanted in CONFIGURATIONS:
        one = fitting(wanted, memory)
        if time.monotonic() > deadline:
            facts["left_out"].append(one.name)
            continue
        print(f"{one.name}, batches of {one.batch_size} ...", file=sys.stderr)
        facts["cells"].append(cell(one, group))
    leave(asked.out or f"gpu-{slug(device_name(group.device))}", facts, as_markdown(facts))
    return 1 if any("failed" in found for found in facts["cells"]) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=400.0, help="start no configuration after this many seconds")
    parser.add_argument(
        "--out", metavar="NAME", help="keep the result under another name in bench/results, or in a path"
    )
    return parser


# Whether there is a GPU

_UNUSABLE = "but torch"


def missing() -> str:
    """Why torch has no GPU here; '' if it has one."""
    if torch.cuda.is_available():
        return ""
    if shutil.which("nvidia-smi") is None:
        return "nvidia-smi is not on the PATH"
    listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    said = next(iter((listing.stdout + listing.stderr).split("\n")), "").strip()
    if listing.returncode or not said.startswith("GPU "):
        return f"nvidia-smi says {said!r}"
    return f"nvidia-smi lists {said}, {_UNUSABLE} {torch.__version__} cannot use it"


def torch_cannot_use(reason: str) -> bool:
    """Whether `missing` says that there is a GPU that this torch cannot use, which is a fault to mend."""
    return _UNUSABLE in reason


# Measuring


def fitting(one: Configuration, memory: int) -> Configuration:
    """The configuration with its batch halved until its memory, as predicted, leaves room on the GPU."""
    while memory_bytes(one.settings, on_card(one)) > ROOM * memory and one.batch_size > 2 * one.accumulate:
        one = Configuration(**{**asdict(one), "batch_size": one.batch_size // 2})
    return one


def on_card(one: Configuration, known: str | None = None) -> Resources:
    """The resources of predictions: one GPU, of this kind if it is known, that never waits for data."""
    return replace(one.resources, gpus=1, device=known, samples_per_second=math.inf)


def cell(one: Configuration, group: Group) -> dict[str, Any]:
    """The figures of a configuration; or its name and why it failed, so that the others are still measured."""
    try:
        measured = measure(one, group)
    except Exception as error:
        what = "out of memory" if is_out_of_memory(error) else f"{type(error).__name__}: {error}"[:500]
        print(f"{one.name}: {what}", file=sys.stderr)
        return {**asdict(one), "failed": what}
    return figures(one, measured, device_name(group.device))


def measure(one: Configuration, group: Group) -> Measured:
    """Train on one batch, over and over."""
    memory = PeakMemory(group.device)
    training = Training(one.settings, group, one.resources)
    batch = [part.to(group.device) for part in _batch(one)]
    began = _now(group.device)
    training.step(*batch)
    first = _now(group.device) - began
    began = _now(group.device)
    for _ in range(WARM_UP):
        training.step(*batch)
    each = (_now(group.device) - began) / WARM_UP
    steps = max(2, min(100, round(BLOCK_SECONDS / each)))
    seconds = []
    for _ in range(BLOCKS):
        began = _now(group.device)
        for _ in range(steps):
            training.step(*batch)
        seconds.append((_now(group.device) - began) / steps)
    on_gpu = group.device.type == "cuda"
    reserved = torch.cuda.max_memory_reserved(group.device) if on_gpu else None
    return Measured(first, steps, tuple(seconds), memory.read(), reserved)


def _batch(one: Configuration) -> tuple[torch.Tensor, torch.Tensor]:
    """Pixels of noise and texts of random words, each with its start and its end."""
    draw = np.random.default_rng(0)
    size = architecture(one.model).image.image_size
    images = draw.integers(0, 256, (one.batch_size, 3, size, size), dtype=np.uint8)
    tokens = draw.integers(320, 49000, (one.batch_size, TEXT_LENGTH))
    tokens[:, 0], tokens[:, -1] = 49406, 49407
    return torch.from_numpy(images), torch.from_numpy(tokens)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _gpu_facts() -> dict[str, Any]:
    """What else the card's figures depend on."""
    question = ["nvidia-smi", "--query-gpu=driver_version,power.limit,clocks.max.sm", "--format=csv,noheader"]
    try:
        said = subprocess.run(question, capture_output=True, text=True, check=True).stdout.splitlines()[0].split(", ")
    except (OSError, subprocess.CalledProcessError, IndexError):
        said = []
    names = ("driver", "power_limit", "largest_clock")
    return {"cuda": torch.version.cuda} | dict(zip(names, said, strict=False))


# Figures


def figures(one: Configuration, measured: Measured, device: str) -> dict[str, Any]:
    """Predicted beside measured. Unknown facts of the device, its peak or its rate, are None."""
    known = device_named(device)
    priced = cost(one.settings, on_card(one, known or "A100"))
    tensors = memory_of(one.settings, on_card(one, known)).tensors
    seconds = statistics.median(measured.seconds)
    flops = step_flops(priced, one.batch_size)
    peak = DEVICES[known].peak(one.precision) if known else None
    predicted = 3600 * priced.gpu_hours / priced.steps if known else None
    return {
        **asdict(one),
        "params": priced.params,
        "predicted_bytes": tensors,
        "predicted_held_bytes": priced.memory_bytes,
        "allocated_bytes": measured.allocated_bytes,
        "reserved_bytes": measured.reserved_bytes,
        "memory_ratio": measured.allocated_bytes / tensors,
        "predicted_seconds": predicted,
        "seconds": seconds,
        "time_ratio": predicted and seconds / predicted,
        "images_per_second": one.batch_size / seconds,
        "step_flops": flops,
        "flops_per_second": flops / seconds,
        "peak_flops_per_second": peak,
        "mfu": utilisation(flops, seconds, peak),
        "first_seconds": measured.first_seconds,
        "block_steps": measured.block_steps,
        "block_seconds": list(measured.seconds),
    }


def step_flops(priced: Cost, batch_size: int) -> int:
    """The model's FLOPs of a step, forward and backward, the loss included; work computed twice counts once."""
    return (priced.flops_per_sample + priced.loss_flops) * batch_size


def utilisation(flops: float, seconds: float, peak: float | None) -> float | None:
    """MFU: the share of the device's peak; None where that is not known."""
    return None if peak is None else flops / seconds / peak


def slug(card: str) -> str:
    """A card's name as a file's: NVIDIA H100 80GB HBM3 is h100-80gb-hbm3."""
    return re.sub(r"[^a-z0-9]+", "-", card.lower().removeprefix("nvidia")).strip("-")


def as_markdown(facts: Mapping[str, Any]) -> str:
    """The table; below it the conditions of the measurement, and what is missing."""
    columns = [
        "model",
        "mask",
        "precision",
        "how",
        "batch",
        "GiB predicted",
        "allocated",
        "held predicted",
        "reserved",
        "ratio",
    ]
    columns += ["ms predicted", "measured", "ratio", "images/s", "TFLOP/s", "MFU"]
    rows = []
    for found in facts["cells"]:
        one = Configuration(**{name: found[name] for name in Configuration.__dataclass_fields__})
        how = one.name.split(one.precision, 1)[1].strip() or "plain"
        row: list[object] = [one.model, f"{one.mask_ratio:g}", one.precision, how, one.batch_size]
        if "failed" in found:
            rows.append([*row, found["failed"].split("\n")[0][:60], *[""] * 10])
            continue
        row += [
            _number(found[f"{name}_bytes"], 2**30) for name in ("predicted", "allocated", "predicted_held", "reserved")
        ]
        row += [f"{found['memory_ratio']:.2f}", _number(found["predicted_seconds"], 1e-3)]
        row += [_number(found["seconds"], 1e-3), _number(found["time_ratio"], 1)]
        row += [f"{found['images_per_second']:,.0f}", _number(found["flops_per_second"], 1e12)]
        rows.append([*row, "" if found["mfu"] is None else f"{found['mfu']:.1%}"])
    here = facts["machine"]
    left = f" No time was left for {'; '.join(facts['left_out'])}." if facts["left_out"] else ""
    return (
        table(columns, rows)
        + f"\nRatios are measured over predicted, memory of what is allocated. Texts of {facts['text_length']} tokens, "
        f"one batch over and over, medians of {BLOCKS} blocks of steps.{left}\n"
        f"{here['gpu']}, torch {here['torch']}, CUDA {here.get('cuda')}, driver {here.get('driver', 'not known')}, "
        f"{machine_words(here)}\n"
    )


def _number(value: float | None, unit: float) -> str:
    return "" if value is None else f"{value / unit:.3g}"


if __name__ == "__main__":
    raise SystemExit(main())
