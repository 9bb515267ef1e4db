"""What a GPU trains when loaders feed it: flipscale's program and open_clip's, in turns on the same shards of JPEGs.

    python -m bench.fed                      ViT-L/16 and B/16 at masks of 0, 50 and 75 %, to bench/results/fed.json
    python -m bench.fed --seconds 200        starts nothing after this time; names what was left out
    python -m bench.fed --dry                one mask on a CPU with a small model, to see that it runs

Each line is a run of a whole program in a process of its own (programs.py), with as many loaders as this machine has
cores for each of its GPUs, and as many rows as bench/gpu.py takes. Both crop as open_clip does. The first eighth of the
steps is not timed.

    images/s   by the wall clock
    MFU        the model's FLOPs a second over the peak of the GPU's data sheet; on a CPU, over that of one thread's
               matrix product
    waiting    the share of the time in which the training loop waits for its next batch
    GB         the peak of tensors on the GPU; on a CPU, of the training process
    planned    what `flipscale plan` predicts, with what the loaders decode
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from bench.gpu import MASKS, Configuration, dry, fitting, memory_of_device, missing, step_flops, utilisation
from bench.loading import write_shards
from bench.programs import PROGRAMS, Prepared, measure
from bench.report import leave, machine, machine_words, table
from bench.speed import peak_flops_per_second, product_flops_per_second
from flipscale.cost.arithmetic import cost, memory_of
from flipscale.errors import FlipscaleError
from flipscale.settings.declarations import Resources, Settings, WebDataset
from flipscale.settings.devices import device_named, pairs_read
from flipscale.train.distributed import Group
from flipscale.train.machine import device_name
from flipscale.train.trainers.open_clip.training_shards import users_shards

PAIRS = 4096
"""Different pairs, in all shards together."""

STEPS = 100
"""At least: loaders are up to 2 batches each ahead of the steps, which those that are not timed use up."""

DRY_STEPS = 8

CROP = 0.9
"""open_clip's."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and keep; 1 if a program failed, else 0."""
    asked = _parser().parse_args(arguments)
    if not asked.dry and (reason := missing()):
        print(f"no GPU here: {reason}; skipped")
        return 0
    deadline = time.monotonic() + asked.seconds
    device = Group().device
    memory = memory_of_device(device)
    loaders = cores_of_a_gpu()
    product = product_flops_per_second()
    facts: dict[str, Any] = {"benchmark": "fed", "machine": machine(), "card": device_name(device), "loaders": loaders}
    facts |= {"decoded_per_second": pairs_read(224, loaders), "cells": [], "left_out": []}
    with tempfile.TemporaryDirectory(prefix="flipscale-bench-") as name:
        folder = Path(name)
        shards, pairs = (loaders, 64) if asked.dry else (8 * loaders, PAIRS // (8 * loaders))
        facts["jpeg_bytes"] = write_shards(folder, shards, pairs)
        (folder / "runs").mkdir()
        for one in dry(MASKS[-1:]) if asked.dry else MASKS:
            one = fitting(one, memory)
            if time.monotonic() > deadline:
                facts["left_out"].append(one.name)
                continue
            prepared = prepare(one, folder, shards, pairs, loaders, DRY_STEPS if asked.dry else STEPS)
            peak = peak_flops_per_second(one.precision, product)
            for program in PROGRAMS:
                print(f"{one.name}, {program} ...", file=sys.stderr)
                facts["cells"].append(cell(program, one, prepared, folder, facts["card"], peak))
    leave(asked.out or (None if asked.dry else "fed"), facts, as_markdown(facts))
    return 1 if any("failed" in found for found in facts["cells"]) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.fed", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600.0, help="start no model and mask after this many seconds")
    parser.add_argument("--dry", action="store_true", help="a small model, on a CPU if there is no GPU")
    parser.add_argument("--out", metavar="NAME", help="keep the result in bench/results/NAME.json, or in a path .json")
    return parser


def cores_of_a_gpu() -> int:
    """How many cores of this machine there are for each of its GPUs."""
    return max(1, len(os.sched_getaffinity(0)) // max(1, torch.cuda.device_count()))


def prepare(one: Configuration, folder: Path, shards: int, pairs: int, loaders: int, steps: int) -> Prepared:
    """What both programs train, on these shards. open_clip needs as many steps for each of its loaders."""
    urls = f"{folder}/{{00000..{shards - 1:05}}}.tar"
    steps = loaders * -(-steps // loaders)
    data = WebDataset(urls, name=None, decode="always", sizes=None)
    samples = steps * one.batch_size
    settings = replace(one.settings, samples=samples, warmup=0, data=data, data_size=None, crop=CROP)
    return Prepared(settings, users_shards(urls, shards * pairs), settings.text_length, 0.0, loaders)


def cell(
    program: str, one: Configuration, prepared: Prepared, folder: Path, card: str, peak: float | None
) -> dict[str, Any]:
    """The figures of a program; or why it failed, so that the others are still measured."""
    settings = prepared.settings
    found = {**asdict(one), "program": program, **planned(settings, prepared.loaders, card)}
    skip = max(1, settings.samples // settings.batch_size // 8)
    try:
        run = measure(program, prepared, one.mask_ratio, skip, folder)
    except FlipscaleError as error:
        print(error, file=sys.stderr)
        return {**found, "failed": str(error).splitlines()[-1]}
    flops = step_flops(cost(settings), one.batch_size) * run.timed_steps
    return {
        **found,
        "images_per_second": run.samples / run.wall_seconds,
        "mfu": utilisation(flops, run.wall_seconds, peak),
        "waiting": run.waited_seconds / run.wall_seconds,
        "peak_memory_bytes": run.peak_gpu_memory_bytes or run.peak_memory_bytes,
        "run": asdict(run),
    }


def planned(settings: Settings, loaders: int | None, card: str) -> dict[str, float | None]:
    """What is predicted of flipscale's trainer; None for a card that is not known."""
    known = device_named(card)
    if known is None:
        return {"planned_images_per_second": None, "planned_bytes": None}
    resources = Resources(gpus=1, device=known, loaders=loaders)
    seconds = 3600 * cost(settings, resources).gpu_hours
    tensors = memory_of(settings, resources).tensors
    return {"planned_images_per_second": settings.samples / seconds, "planned_bytes": tensors}


def as_markdown(facts: Mapping[str, Any]) -> str:
    """The table, and under it what it was measured on."""
    columns = ["model", "mask", "rows", "program", "images/s", "planned", "MFU", "waiting", "GB", "planned"]
    rows = []
    for found in facts["cells"]:
        row: list[object] = [found["model"], f"{found['mask_ratio']:g}", found["batch_size"], found["program"]]
        if "failed" in found:
            rows.append([*row, found["failed"][:60], *[""] * 5])
            continue
        is_ours = found["program"] == "flipscale"
        rate, tensors = found["planned_images_per_second"], found["planned_bytes"]
        row += [f"{found['images_per_second']:,.0f}", f"{rate:,.0f}" if is_ours and rate else ""]
        row += ["" if found["mfu"] is None else f"{found['mfu']:.1%}", f"{found['waiting']:.1%}"]
        row += [f"{found['peak_memory_bytes'] / 1e9:.3g}", f"{tensors / 1e9:.3g}" if is_ours and tensors else ""]
        rows.append(row)
    left = f" No time was left for {'; '.join(facts['left_out'])}." if facts["left_out"] else ""
    return (
        table(columns, rows)
        + f"\n{facts['loaders']} loaders a program, which decode {facts['decoded_per_second']:,.0f} images/s as "
        f"planned; JPEGs of {facts['jpeg_bytes'] / 1000:.0f} kB.{left}\n{facts['card']}, torch "
        f"{facts['machine']['torch']}, {machine_words(facts['machine'])}\n"
    )


if __name__ == "__main__":
    raise SystemExit(main())
