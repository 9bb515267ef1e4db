"""What a GPU of this machine takes for FLIP's settings, beside FLIP's figures and beside what is predicted.

    python -m bench.gpu                      all of it, to bench/results/gpu.json with the card's name
    python -m bench.gpu --seconds 200        starts nothing after this time; names what was left out
    python -m bench.gpu --dry                the same on a CPU with a small model, to see that it runs

The most valuable first. ViT-L/16 and B/16 at masks of 0, 50 and 75 % take as many rows as a GPU of FLIP's 256 (64, 128
and 256), on one batch that is already on the GPU:

    memory      the tensors of flipscale/cost/, against the peak of torch's (allocated), and its memory_bytes, against
                the peak of what torch holds of the GPU for them (reserved; without CUDA's context, which memory_bytes
                counts); FLIP gives 25.5, 23.9 and 24.5 GB for L/16 (footnote 1)
    time        flipscale.cost.arithmetic's time of a step, against the mean of BLOCKS times several steps; the GPU is
                synchronised before and after each block
    speed-up    images a second over those without a mask, beside the ratio of FLOPs a sample
    MFU         the model's FLOPs a second, both passes and the loss, over the dense peak in that precision on the
                card's data sheet. Work computed twice (activation checkpointing) counts once. fp32 is TF32.

Then an evaluation; a checkpoint that is written and resumed from; two GPUs over NCCL, where there are two; and compiled
steps, other precisions and ways to save memory. bench/fed.py measures steps that the loader feeds.
"""

import argparse
import json
import math
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from bench.programs import settings_of
from bench.report import leave, machine, machine_words, table
from flipscale.cost.arithmetic import Cost, cost, memory_bytes, memory_of
from flipscale.run import RunFolder, RunRequest
from flipscale.settings.architecture import architecture
from flipscale.settings.declarations import Resources, Settings
from flipscale.settings.devices import DEVICES, device_named
from flipscale.train.distributed import Group, joined
from flipscale.train.encoding import GPU_BATCH
from flipscale.train.evaluate import encoders_of
from flipscale.train.failure import is_out_of_memory
from flipscale.train.machine import PeakMemory, device_name
from flipscale.train.trainers.builtin.training import Training

TEXT_LENGTH = 32
"""FLIP's."""

WARM_UP = 3
"""Steps before timing: the first ones allocate memory, choose kernels and compile the model."""

BLOCKS = 3

BLOCK_SECONDS = 1.0
"""A block has about as many steps as fit into this."""

DRY_BLOCK_SECONDS = 0.05

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
    embeds_kept: bool = False
    """Whether a GPU embeds the kept patches alone too."""

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
        how += ["kept patches"] * self.embeds_kept
        return f"{self.model} mask {self.mask_ratio:g} {self.precision} {' '.join(how)}".strip()


FIELDS = tuple(Configuration.__dataclass_fields__)

FLIP_ROWS = {0.0: 64, 0.5: 128, 0.75: 256}
"""Rows of a GPU by mask, of batches of 16k, 32k and 64k on 256 of them."""

FLIP_GB = {("ViT-L-16", 0.0): 25.5, ("ViT-L-16", 0.5): 23.9, ("ViT-L-16", 0.75): 24.5}
"""Memory of a GPU (arXiv 2212.00794, footnote 1)."""

MASKS = tuple(
    Configuration(model, mask, "bf16", rows) for model in ("ViT-L-16", "ViT-B-16") for mask, rows in FLIP_ROWS.items()
)

OTHERS = (
    Configuration("ViT-B-16", 0.5, "bf16", 128, compile=True),
    Configuration("ViT-L-16", 0.5, "bf16", 128, compile=True),
    Configuration("ViT-B-16", 0.75, "bf16", 256, embeds_kept=True),
    Configuration("ViT-B-16", 0.5, "fp16", 128),
    Configuration("ViT-B-16", 0.5, "fp32", 128),
    Configuration("ViT-B-16", 0.0, "bf16", 512, activation_checkpointing=True),
    Configuration("ViT-B-16", 0.5, "bf16", 1024, accumulate=4),
)

FED = Configuration("ViT-B-16", 0.5, "bf16", 128)
"""What an evaluation and NCCL are measured with."""

DRY_MODEL = "ViT-w16d1-4"


def dry(configurations: Iterable[Configuration]) -> tuple[Configuration, ...]:
    """The same for a CPU: a small model and an eighth of the rows. A CPU has no fp16, and compiling takes minutes."""
    small = [
        replace(one, model=DRY_MODEL, batch_size=one.batch_size // 8)
        for one in configurations
        if one.precision != "fp16" and not one.compile
    ]
    return tuple(dict.fromkeys(small))


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
    if asked.nccl:
        return _as_one_of_two()
    if not asked.dry and (reason := missing()):
        print(f"no GPU here: {reason}; skipped")
        return 0
    deadline = time.monotonic() + asked.seconds
    group = Group()
    memory = memory_of_device(group.device)
    facts: dict[str, Any] = {"benchmark": "gpu", "machine": machine() | _gpu_facts(), "gpu_memory_bytes": memory}
    facts |= {"card": device_name(group.device), "text_length": TEXT_LENGTH, "cells": [], "left_out": []}
    pick = dry if asked.dry else tuple
    whole = (("evaluation", evaluation, FED), ("resuming", resuming, MASKS[0]), ("NCCL", over_nccl, FED))
    for step in (*pick(MASKS), *whole, *pick(OTHERS)):
        name = step.name if isinstance(step, Configuration) else step[0]
        if time.monotonic() > deadline:
            facts["left_out"].append(name)
            continue
        print(f"{name} ...", file=sys.stderr)
        if isinstance(step, Configuration):
            facts["cells"].append(cell(fitting(step, memory), group))
        else:
            _, take, one = step
            facts[name] = tried(name, take, group, *pick([one]))
    leave(asked.out or (None if asked.dry else "gpu"), facts, as_markdown(facts))
    failed = [*facts["cells"], *(facts.get(name) or {} for name, *_ in whole)]
    return 1 if any("failed" in found for found in failed) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=400.0, help="start no configuration after this many seconds")
    parser.add_argument("--dry", action="store_true", help="a small model, on a CPU if there is no GPU")
    parser.add_argument("--nccl", action="store_true", help="be one of two processes that this program starts")
    parser.add_argument(
        "--out", metavar="NAME", help="keep the result under another name in bench/results, or in a path"
    )
    return parser


def memory_of_device(device: torch.device) -> int:
    """Bytes of the GPU, or of the machine without one."""
    on_gpu = device.type == "cuda"
    return int(torch.cuda.get_device_properties(device).total_memory if on_gpu else psutil.virtual_memory().total)


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


def tried(
    name: str, take: Callable[[Group, Configuration], dict[str, Any]], group: Group, one: Configuration
) -> dict[str, Any]:
    """A measurement; or why it failed, so that the others are still taken."""
    try:
        return take(group, one)
    except Exception as error:
        print(f"{name}: {type(error).__name__}: {error}"[:500], file=sys.stderr)
        return {"failed": f"{type(error).__name__}: {error}"[:500]}


@torch.inference_mode()
def evaluation(group: Group, one: Configuration, images: int = 4096) -> dict[str, Any]:
    """Images a second that an evaluation encodes, and the seconds of 50,000."""
    model = Training(one.settings, group, one.resources).model.eval()
    items = np.concatenate([_batch(one)[0].numpy()] * -(-images // one.batch_size))[:images]
    encoders = encoders_of(model, one.settings)
    encoders.encode("images", items[: 2 * GPU_BATCH])
    began = _now(group.device)
    encoders.encode("images", items)
    rate = images / (_now(group.device) - began)
    return {"model": one.model, "images_per_second": rate, "seconds_of_50k": 50_000 / rate}


def resuming(group: Group, one: Configuration) -> dict[str, Any]:
    """Seconds to write a checkpoint, and to build the model and go on from it."""
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder(Path(folder, "runs", "run"))
        run.ask(RunRequest("run", {}))
        training = Training(one.settings, group, one.resources)
        training.step(*(part.to(group.device) for part in _batch(one)))
        began = _now(group.device)
        with run.hold() as lease:
            assert lease is not None
            training.save(lease)
        saved, size = _now(group.device), (run.path / "checkpoint.pt").stat().st_size
        del training
        assert Training(one.settings, group, one.resources).resume(run)
        ended = _now(group.device)
    return {"model": one.model, "bytes": size, "save_seconds": saved - began, "resume_seconds": ended - saved}


def over_nccl(group: Group, one: Configuration) -> dict[str, Any]:
    """Images a second of two GPUs over those of one, with as many rows each; {} where there are no two."""
    if torch.cuda.device_count() < 2:
        return {}
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "bench.gpu"]
    done = subprocess.run([*start, "--nccl"], capture_output=True, text=True, check=True, timeout=120)
    two = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))["images_per_second"]
    alone = one.batch_size / statistics.median(measure(one, group).seconds)
    return {"one": alone, "two": two, "ratio": two / alone}


def _as_one_of_two() -> int:
    group = joined()
    assert group is not None
    one = replace(FED, batch_size=2 * FED.batch_size)
    seconds = measure(one, group).seconds
    if group.rank == 0:
        print(json.dumps({"images_per_second": one.batch_size / statistics.median(seconds)}))
    group.close()
    return 0


def measure(one: Configuration, group: Group) -> Measured:
    """Train on one batch, over and over."""
    memory = PeakMemory(group.device)
    training = Training(one.settings, group, one.resources)
    if one.embeds_kept:
        training.model.visual.embeds_kept_on = (group.device.type,)
    training.begin()
    batch = [part[: training.rows].to(group.device) for part in _batch(one)]
    began = _now(group.device)
    training.step(*batch)
    first = _now(group.device) - began
    began = _now(group.device)
    for _ in range(WARM_UP):
        training.step(*batch)
    each = (_now(group.device) - began) / WARM_UP
    block = BLOCK_SECONDS if group.device.type == "cuda" else DRY_BLOCK_SECONDS
    steps = int(group.share(max(2, min(100, round(block / each)))))
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


def as_markdown(facts: Mapping[str, Any]) -> str:
    """The table; below it the conditions of the measurement, and what is missing."""
    columns = ["model", "mask", "precision", "how", "batch", "images/s", "MFU", "speed-up", "by FLOPs", "FLIP GB"]
    columns += ["GB", "predicted", "held", "predicted", "ms", "predicted"]
    rows = []
    plain = {found["model"]: found for found in facts["cells"] if "failed" not in found and is_plain(found)}
    for found in facts["cells"]:
        one = Configuration(**{name: found[name] for name in FIELDS})
        how = one.name.split(one.precision, 1)[1].strip() or "plain"
        row: list[object] = [one.model, f"{one.mask_ratio:g}", one.precision, how, one.batch_size]
        if "failed" in found:
            rows.append([*row, found["failed"].split("\n")[0][:60], *[""] * 10])
            continue
        base = plain.get(one.model)
        row += [f"{found['images_per_second']:,.0f}", "" if found["mfu"] is None else f"{found['mfu']:.1%}"]
        row += ["", ""] if base is None else [f"{ratio:.2f}x" for ratio in speed_up(found, base)]
        row += [_number(FLIP_GB.get((one.model, one.mask_ratio)) if how == "plain" else None, 1)]
        held = ("allocated", "predicted", "reserved", "predicted_held")
        row += [_number(found[f"{name}_bytes"], 1e9) for name in held]
        rows.append([*row, _number(found["seconds"], 1e-3), _number(found["predicted_seconds"], 1e-3)])
    rest = "".join(f"\n{line}" for line in in_words(facts))
    here = facts["machine"]
    left = f" No time was left for {'; '.join(facts['left_out'])}." if facts["left_out"] else ""
    return (
        table(columns, rows)
        + f"\nSpeed-up is over no mask, in images a second and as FLOPs have it. Texts of {facts['text_length']} "
        f"tokens, one batch over and over, medians of {BLOCKS} blocks of steps.{left}\n{rest}\n"
        f"{here['gpu']}, torch {here['torch']}, CUDA {here.get('cuda')}, driver {here.get('driver', 'not known')}, "
        f"{machine_words(here)}\n"
    )


def is_plain(found: Mapping[str, Any]) -> bool:
    """Whether a cell is that which masks of its model are compared with."""
    ways = ("compile", "activation_checkpointing")
    is_whole = found["mask_ratio"] == 0 and found["precision"] == "bf16" and found["accumulate"] == 1
    return is_whole and not any(found[way] for way in ways)


def speed_up(found: Mapping[str, Any], base: Mapping[str, Any]) -> tuple[float, float]:
    """Images a second over those of another cell, measured and by the FLOPs of an image."""
    each, of_base = (one["step_flops"] / one["batch_size"] for one in (found, base))
    return found["images_per_second"] / base["images_per_second"], of_base / each


CHANGES = {
    "compile": "`resources: {compile: true}` in a study",
    "embeds_kept": '`embeds_kept_on = ("cpu", "cuda")` in flipscale/train/mask.py',
}
"""What is off until a GPU has shown a gain, and the line that turns it on."""


def gains(cells: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What each of CHANGES gains over the same steps without it."""
    measured = {Configuration(**{key: each[key] for key in FIELDS}): each for each in cells if "failed" not in each}
    for one, found in measured.items():
        for change, line in CHANGES.items():
            base = measured.get(replace(one, **{change: False}))
            if getattr(one, change) and base:
                ratio = found["images_per_second"] / base["images_per_second"]
                yield f"{one.name}: {ratio:.2f}x the images/s without; {line} turns it on"


def in_words(facts: Mapping[str, Any]) -> Iterator[str]:
    """A line for each measurement that is no row of the table."""
    yield from gains(facts["cells"])
    for name in ("evaluation", "resuming", "NCCL"):
        found = facts.get(name)
        if found and "failed" in found:
            yield f"{name}: failed, {found['failed'].splitlines()[0]}"
        elif found and name == "evaluation":
            yield f"evaluation: {found['images_per_second']:,.0f} images/s, {found['seconds_of_50k']:.0f} s for 50,000"
        elif found and name == "resuming":
            wrote = f"{found['save_seconds']:.1f} s to write {found['bytes'] / 1e9:.1f} GB"
            yield f"resuming: {wrote}, {found['resume_seconds']:.1f} s to go on"
        elif found is not None:
            yield f"NCCL: {found['ratio']:.2f}x the images/s on two GPUs" if found else "NCCL: there is one GPU"


def _number(value: float | None, unit: float) -> str:
    return "" if value is None else f"{value / unit:.3g}"


if __name__ == "__main__":
    raise SystemExit(main())
