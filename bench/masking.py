"""Time of a training step with a mask over that without one, against the ratio of FLOPs, at growing widths.

    python -m bench.masking
    python -m bench.masking --widths 64 128 256 --depth 6 --out NAME

A mask saves work in the image tower alone. The FLOPs count all of its patch convolution and of the last text block; the
trainer computes only what is read: on a CPU the kept patches, and the token that is pooled. If the image tower is most
of a model, time should follow the FLOPs that flipscale/cost/ counts. If it does not, something else bounds a step: in
the narrowest models it is the fixed cost of each of a step's hundreds of operations.

The steps are those of flipscale's trainer, in one process. The mask ratios take turns step by step, so that other work
on the machine affects all of them alike: a ratio compares steps that followed each other, and the median of --rounds is
printed. Time is CPU time of one thread; on a GPU it is wall time, and each step is waited for.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from bench.programs import settings_of
from bench.report import leave, machine, table
from flipscale.cost.arithmetic import cost
from flipscale.data.formats import open_data
from flipscale.data.pairs import Form
from flipscale.settings.declarations import Resources, Settings
from flipscale.train.distributed import Group
from flipscale.train.model import tokenize
from flipscale.train.trainers.builtin.loop import batches
from flipscale.train.trainers.builtin.training import Training

WARM_UP = 2
"""Rounds that are not timed."""


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure and print; the facts that --out writes are returned."""
    asked = _parser().parse_args(arguments)
    on_gpu = torch.cuda.is_available()
    if not on_gpu:
        torch.set_num_threads(1)
    facts: dict[str, Any] = {
        "benchmark": "masking",
        "machine": machine(),
        "clock": "wall seconds" if on_gpu else "CPU seconds of one thread",
        "precision": asked.precision or ("bf16" if on_gpu else "fp32"),
        "batch_size": asked.batch or (512 if on_gpu else 64),
        "depth": asked.depth,
        "rounds": asked.rounds,
        "cells": [],
    }
    for width in asked.widths or ([256, 512, 1024] if on_gpu else [32, 64, 128, 192]):
        model = f"ViT-w{width}d{asked.depth}-4"
        print(f"{model} ...", file=sys.stderr)
        facts["cells"] += _cells(model, asked.masks, asked.rounds, facts["batch_size"], facts["precision"])
    leave(asked.out, facts, _as_markdown(facts))
    return facts


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.masking", description=__doc__.splitlines()[0])
    parser.add_argument("--widths", nargs="+", type=int, metavar="WIDTH", help="of the image tower, multiples of 16")
    parser.add_argument("--depth", type=int, default=4, help="blocks of the image tower")
    parser.add_argument("--masks", nargs="+", type=float, default=[0.5, 0.75], metavar="RATIO", help="beside 0")
    parser.add_argument("--rounds", type=int, default=9, help="timed steps of each mask ratio")
    parser.add_argument("--batch", type=int, help="pairs a step; 64, on a GPU 512")
    parser.add_argument("--precision", choices=("fp32", "bf16", "fp16"), help="fp32, on a GPU bf16")
    parser.add_argument("--out", metavar="NAME", help="keep the result in bench/results/NAME.json, or in a path .json")
    return parser


def _cells(model: str, masks: Sequence[float], rounds: int, batch: int, precision: str) -> list[dict[str, Any]]:
    """One model: each mask ratio against none."""
    samples = batch * (rounds + WARM_UP)
    settings = settings_of(model, batch_size=batch, samples=samples, text_length=16, precision=precision)
    times = step_times(settings, [0.0, *masks], rounds)
    whole, rest = times[0.0], {mask: times[mask] for mask in masks}
    flops_whole = _flops(settings, 0.0)
    image = cost(settings).image_flops / flops_whole
    found = []
    for mask, seconds in rest.items():
        flops = _flops(settings, mask) / flops_whole
        ratio = statistics.median(masked / full for masked, full in zip(seconds, whole, strict=True))
        found.append(
            {
                "model": model,
                "mask_ratio": mask,
                "image_share": image,
                "flops_ratio": flops,
                "time_ratio": ratio,
                "difference": ratio / flops - 1,
                "seconds": seconds,
                "seconds_without": whole,
            }
        )
    return found


def step_times(settings: Settings, masks: Sequence[float], rounds: int) -> dict[float, list[float]]:
    """Seconds of each timed step by mask ratio. The ratios take turns step by step, each with its own model."""
    length = settings.text_length
    data = open_data(
        settings.data,
        Form(settings.image_size, length, partial(tokenize, length=length)),
        data_size=settings.data_size,
        samples=settings.samples,
    )
    steps = rounds + WARM_UP
    trainings = {
        mask: Training(replace(settings, mask_ratio=mask), Group(), Resources(), data.vocabulary)
        for mask in dict.fromkeys(masks)
    }
    # All see the same pairs, drawn before the clock runs, as only the time of the step is in question.
    pairs = list(batches(data, next(iter(trainings.values())), steps))
    times: dict[float, list[float]] = {mask: [] for mask in trainings}
    for images, tokens in pairs:
        for mask, training in trainings.items():
            began = _now(training.device)
            training.step(images, tokens)
            times[mask].append(_now(training.device) - began)
    return {mask: seconds[WARM_UP:] for mask, seconds in times.items()}


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return time.perf_counter()
    return time.process_time()


def _flops(settings: Settings, mask_ratio: float) -> int:
    """FLOPs of a pair, forward and backward, the loss included."""
    priced = cost(replace(settings, mask_ratio=mask_ratio))
    return priced.flops_per_sample + priced.loss_flops


def _as_markdown(facts: Mapping[str, Any]) -> str:
    here = facts["machine"]
    rows = [
        [
            cell["model"],
            f"{cell['mask_ratio']:g}",
            f"{cell['image_share']:.0%}",
            f"{cell['flops_ratio']:.3f}",
            f"{cell['time_ratio']:.3f}",
            f"{cell['difference']:+.0%}",
        ]
        for cell in facts["cells"]
    ]
    return (
        table(["model", "mask", "image tower", "FLOPs ratio", "time ratio", "difference"], rows)
        + f"\nOver mask ratio 0, in {facts['clock']}, {facts['precision']}, batches of {facts['batch_size']}, medians "
        f"of {facts['rounds']} steps of each; the image tower's part is of the FLOPs without a mask.\n"
        f"{here['gpu'] or here['cpu']}, {here['cores']} cores, load {here['load']}, torch {here['torch']}, "
        f"{here['date']}.\n"
    )


if __name__ == "__main__":
    main()
