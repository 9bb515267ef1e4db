"""Images a second of flipscale's trainer against open_clip's own program: same model, shards, batch, mask, precision.

    python -m bench.speed                                   three small models, mask ratios 0 and 0.75
    python -m bench.speed --sizes all --masks 0 0.5 0.75    all sizes that a CPU trains, up to ViT-B-32
    python -m bench.speed --out NAME                        keeps the result in bench/results/NAME.json

On a machine with a GPU the same command takes ViT-B-32 and ViT-B-16, larger batches and bf16, and also prints the model
FLOPs utilisation: flipscale.cost.arithmetic's FLOPs a second over the peak that the GPU's data sheet gives.

Each number comes from a run of the whole program in a process of its own, see programs.py. The two programs take turns,
--repeats times. A ratio compares two runs that followed each other; the medians are printed:

    steps   optimizer steps alone, without the first eighth of them, from the hook in stamps.py; and its range
    whole   the program from its start to its end, which depends on the length of the run
    first   the same, with the time in which flipscale decodes the shards, once for all runs, added to its time: the
            first of all runs pays that

On a CPU the peak is a matrix product of one thread, measured in turns with the programs: --repeats times per cell, of
which the median counts.

With --decode always flipscale decodes as it reads, like open_clip, and "first" says little.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from bench.programs import MOST_PAIRS, PROGRAMS, Measured, Prepared, measure, prepare, settings_of
from bench.report import leave, machine, table
from flipscale.cost.arithmetic import cost
from flipscale.settings.architecture import architecture
from flipscale.settings.devices import DEVICES, device_named

CPU_SIZES = ("ViT-w32d2-4", "ViT-w48d3-4", "ViT-w64d4-4", "ViT-w128d4-4", "ViT-w192d6-4", "ViT-B-32")
"""From models of the quickstart to a stock model."""

CPU_DEFAULT = CPU_SIZES[:3]

GPU_SIZES = ("ViT-B-32", "ViT-B-16")

STEPS = (8, 200)
"""The least and the most steps of a run."""

STREAM_STEPS = 100
"""The least steps if flipscale decodes while it reads: its reading is up to 8 steps ahead of the timed steps."""

PRODUCT = 1024
"""Rows and columns of the matrices whose product stands for a CPU's peak."""

CPU_RATE, GPU_RATE = 30e9, 2e14
"""FLOPs a second, roughly, by which the length of a run is chosen."""


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure and print; the facts that --out writes are returned."""
    asked = _parser().parse_args(arguments)
    on_gpu = torch.cuda.is_available()
    sizes = asked.sizes or (GPU_SIZES if on_gpu else CPU_DEFAULT)
    if sizes == ["all"]:
        sizes = GPU_SIZES if on_gpu else CPU_SIZES
    precision = asked.precision or ("bf16" if on_gpu else "fp32")
    facts: dict[str, Any] = {
        "benchmark": "speed",
        "machine": machine(),
        "clock": "wall seconds" if on_gpu else "CPU seconds of one thread",
        "precision": precision,
        "decode": asked.decode,
        "repeats": asked.repeats,
        "cells": [],
    }
    with tempfile.TemporaryDirectory(prefix="flipscale-bench-") as folder:
        for model in sizes:
            prepared = _prepare(Path(folder, model), model, precision, asked)
            for mask_ratio in asked.masks:
                cell = _cell(prepared, mask_ratio, asked.repeats, Path(folder, model))
                facts["cells"].append(cell)
                print(f"{model} at mask ratio {mask_ratio:g}: {cell['steps_ratio']:.2f} times", file=sys.stderr)
    leave(asked.out, facts, _as_markdown(facts))
    return facts


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.speed", description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", metavar="MODEL", help="models by name, or all")
    parser.add_argument("--masks", nargs="+", type=float, default=[0.0, 0.75], metavar="RATIO", help="mask ratios")
    parser.add_argument("--repeats", type=int, default=3, help="how often each program runs")
    parser.add_argument(
        "--seconds", type=float, default=2.0, help="about how long flipscale's steps take at mask ratio 0"
    )
    parser.add_argument("--batch", type=int, help="pairs a step; 64, for a stock model 8, on a GPU 256")
    parser.add_argument("--steps", type=int, help="steps of a run, in place of --seconds")
    parser.add_argument("--text-length", type=int, default=16, help="tokens of a text")
    parser.add_argument("--open-clip-text-length", type=int, help="for open_clip alone, such as 77, its default")
    parser.add_argument(
        "--precision", choices=("fp32", "bf16", "fp16"), help="fp32, on a GPU bf16 (open_clip: amp_bf16)"
    )
    parser.add_argument("--decode", choices=("once", "always"), default="once", help="flipscale's option of the shards")
    parser.add_argument("--out", metavar="NAME", help="keep the result in bench/results/NAME.json, or in a path .json")
    return parser


def _prepare(work: Path, model: str, precision: str, asked: argparse.Namespace) -> Prepared:
    on_gpu = torch.cuda.is_available()
    is_small = architecture(model).image.image_size < 100
    batch = asked.batch or (256 if on_gpu else 64 if is_small else 8)
    kind: dict[str, Any] = {"batch_size": batch, "text_length": asked.text_length, "precision": precision}
    one_step = cost(settings_of(model, samples=batch, **kind)).train_flops
    seconds = max(asked.seconds, 20.0) if on_gpu else asked.seconds
    steps = round(seconds * (GPU_RATE if on_gpu else CPU_RATE) / one_step)
    least = STREAM_STEPS if asked.decode == "always" else STEPS[0]
    steps = asked.steps or min(max(steps, least), STEPS[1])
    return prepare(work, settings_of(model, samples=steps * batch, **kind), asked.decode, asked.open_clip_text_length)


def _cell(prepared: Prepared, mask_ratio: float, repeats: int, work: Path) -> dict[str, Any]:
    """Run both programs in turns, and compute the ratios."""
    settings = replace(prepared.settings, mask_ratio=mask_ratio)
    steps = settings.samples // settings.batch_size
    skip = max(1, steps // 8)
    runs: dict[str, list[Measured]] = {program: [] for program in PROGRAMS}
    products = []
    for _ in range(repeats):
        products.append(product_flops_per_second())
        for program in PROGRAMS:
            runs[program].append(measure(program, prepared, mask_ratio, skip, work))
    ours, theirs = (runs[program] for program in PROGRAMS)
    ratios = [own.images_per_second / other.images_per_second for own, other in zip(ours, theirs, strict=True)]
    whole = [other.whole_seconds / own.whole_seconds for own, other in zip(ours, theirs, strict=True)]
    first = [
        other.whole_seconds / (own.whole_seconds + prepared.decode_seconds)
        for own, other in zip(ours, theirs, strict=True)
    ]
    priced = cost(settings)
    flops = priced.flops_per_sample + priced.loss_flops
    product = statistics.median(products)
    speed = {program: statistics.median(run.images_per_second for run in runs[program]) for program in PROGRAMS}
    return {
        "model": settings.model,
        "mask_ratio": mask_ratio,
        "batch_size": settings.batch_size,
        "text_length": settings.text_length,
        "open_clip_text_length": prepared.text_length,
        "samples": settings.samples,
        "steps": steps,
        "timed_samples": ours[0].samples,
        "images_per_second": speed,
        "steps_ratio": statistics.median(ratios),
        "steps_ratios": ratios,
        "whole_ratio": statistics.median(whole),
        "first_ratio": statistics.median(first),
        "start_seconds": {
            program: statistics.median(run.start_seconds for run in runs[program]) for program in PROGRAMS
        },
        "decode_seconds": prepared.decode_seconds,
        "pairs": prepared.shards.pairs,
        "peak_memory_bytes": {
            program: max(run.peak_gpu_memory_bytes or run.peak_memory_bytes for run in runs[program])
            for program in PROGRAMS
        },
        "flops_per_sample": flops,
        "flops_per_second": {program: flops * speed[program] for program in PROGRAMS},
        "product_flops_per_second": product,
        "utilisation": _utilisation(flops, speed, settings.precision, product),
        "runs": {program: [asdict(run) for run in runs[program]] for program in PROGRAMS},
    }


def product_flops_per_second() -> float:
    """FLOPs a second of CPU time of one thread in a product of float32 matrices of 1,024 a side, the best of 10."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    left, right, seconds = torch.randn(PRODUCT, PRODUCT), torch.randn(PRODUCT, PRODUCT), []
    for _ in range(10):
        began = time.thread_time()
        torch.mm(left, right)
        seconds.append(time.thread_time() - began)
    torch.set_num_threads(threads)
    return 2 * PRODUCT**3 / min(seconds)


def peak_flops_per_second(precision: str, product: float) -> float | None:
    """The peak of the GPU's data sheet, None if it is not known; without a GPU, that of one thread's matrix product."""
    if not torch.cuda.is_available():
        return product
    known = device_named(torch.cuda.get_device_name())
    return None if known is None else DEVICES[known].peak(precision)


def _utilisation(flops: int, speed: Mapping[str, float], precision: str, product: float) -> dict[str, float] | None:
    """The share of the peak that the model's FLOPs are."""
    peak = peak_flops_per_second(precision, product)
    return None if peak is None else {program: flops * speed[program] / peak for program in PROGRAMS}


def _as_markdown(facts: Mapping[str, Any]) -> str:
    """The table, and under it what it was measured on."""
    cells, here = facts["cells"], facts["machine"]
    on_gpu = here["gpu"] is not None
    share = "MFU" if on_gpu else "of peak"
    columns = ["model", "mask", "flipscale images/s", "open_clip images/s", "steps", "least to most", "whole", "first"]
    columns += ["flipscale MB", "open_clip MB", f"flipscale {share}", f"open_clip {share}"]
    rows = []
    for cell in cells:
        row = [cell["model"], f"{cell['mask_ratio']:g}"]
        row += [_rate(cell["images_per_second"][program]) for program in PROGRAMS]
        row += [f"**{cell['steps_ratio']:.2f}**", f"{min(cell['steps_ratios']):.2f} to {max(cell['steps_ratios']):.2f}"]
        row += [f"{cell['whole_ratio']:.2f}", f"{cell['first_ratio']:.2f}"]
        row += [f"{cell['peak_memory_bytes'][program] / 1e6:,.0f}" for program in PROGRAMS]
        shares = cell["utilisation"]
        row += [f"{shares[program]:.1%}" if shares else "" for program in PROGRAMS]
        rows.append(row)
    lengths = ", ".join(
        f"{name} {samples:,}" for name, samples in {cell["model"]: cell["samples"] for cell in cells}.items()
    )
    starts = [statistics.median(cell["start_seconds"][program] for cell in cells) for program in PROGRAMS]
    ours, theirs = cells[0]["text_length"], cells[0]["open_clip_text_length"]
    lengths_of_texts = f"{ours} tokens" + (f", {theirs} in open_clip's program" if theirs != ours else "")
    batches = " and ".join(str(size) for size in dict.fromkeys(cell["batch_size"] for cell in cells))
    products = [cell["product_flops_per_second"] / 1e9 for cell in cells]
    peak = (
        ""
        if on_gpu
        else f" The peak is one thread's matrix product, {min(products):.0f} to {max(products):.0f} GFLOP/s."
    )
    decoding = statistics.mean(cell["decode_seconds"] / cell["pairs"] * 1e6 for cell in cells)
    return (
        table(columns, rows)
        + f"\nImages a second of {facts['clock']}, {facts['precision']}, medians of {facts['repeats']}; ratios "
        f"flipscale over open_clip. Samples of a run: {lengths}, at most {MOST_PAIRS:,} different ones. Texts of "
        f"{lengths_of_texts}, batches of {batches}. "
        f"All but the steps took flipscale {starts[0]:.1f} s and open_clip {starts[1]:.1f} s a run; opening the shards "
        f"for the first time (decode: {facts['decode']}) {decoding:.0f} us a pair. Memory is the peak of "
        f"{'tensors on the GPU' if on_gpu else 'the process'}.{peak}\n"
        f"{here['gpu'] or here['cpu']}, {here['cores']} cores, load {here['load']}, torch {here['torch']}, open_clip "
        f"{here['open_clip']}, {here['date']}.\n"
    )


def _rate(speed: float) -> str:
    return f"{speed:,.0f}" if speed >= 100 else f"{speed:.3g}"


if __name__ == "__main__":
    main()
