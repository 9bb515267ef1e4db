"""The share of training time that checkpoints take: written while training waits, and by a thread from a copy.

    python -m bench.checkpoints --out checkpoints

A checkpoint is written at the start of a block of steps, in both ways in turn, so other work on the machine meets both
alike. `while training waits` is how they were written before: with torch's checksums, every 30 s or 20 times what one
took. The share counts the seconds in which no step is taken; `slower` is what steps beside a writing take longer.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from bench.programs import settings_of
from bench.report import leave, machine, machine_words, table
from flipscale.cost.arithmetic import parameters
from flipscale.run import Lease, RunFolder, RunRequest
from flipscale.settings.architecture import architecture
from flipscale.settings.declarations import Resources
from flipscale.train.distributed import Group
from flipscale.train.trainers.builtin.checkpoints import CHECKPOINT_FILE, CheckpointWriter, interval
from flipscale.train.trainers.builtin.training import Training

WAITING, THREAD, NONE = "while training waits", "by a thread", "none"


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure and print; the facts that --out writes are returned."""
    asked = _parser().parse_args(arguments)
    settings = settings_of(asked.model, batch_size=2, samples=64_000, text_length=32, precision="fp32")
    training = Training(replace(settings, mask_ratio=0.75), Group(), Resources())
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder(Path(folder, "runs", "run"))
        run.ask(RunRequest("run", {}))
        with run.hold() as lease:
            assert lease is not None
            ways = _measure(training, lease, asked.blocks, asked.steps)
        size = (run.path / CHECKPOINT_FILE).stat().st_size
    facts: dict[str, Any] = {
        "benchmark": "checkpoints",
        "machine": machine(),
        "model": asked.model,
        "parameters": parameters(architecture(asked.model, training.settings.image_size)),
        "bytes": size,
        "blocks": asked.blocks,
        "steps_of_a_block": asked.steps,
        "ways": ways,
    }
    leave(asked.out, facts, _as_markdown(facts))
    return facts


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.checkpoints", description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="ViT-w640d12-14")
    parser.add_argument("--blocks", type=int, default=5, help="blocks of each way")
    parser.add_argument("--steps", type=int, default=6, help="steps of a block")
    parser.add_argument("--out", metavar="NAME", help="keep the result in bench/results/NAME.json, or in a path .json")
    return parser


def _measure(training: Training, lease: Lease, blocks: int, steps: int) -> dict[str, dict[str, float]]:
    random = np.random.default_rng(0)
    side, length = training.settings.image_size, training.settings.text_length
    images = torch.from_numpy(random.integers(0, 256, (training.rows, 3, side, side), dtype=np.uint8))
    tokens = torch.from_numpy(random.integers(1, 49_408, (training.rows, length), dtype=np.int64))
    writer = CheckpointWriter(lease)

    def with_checksums() -> None:
        with lease.replace(CHECKPOINT_FILE) as file:
            torch.save(training.state(), file)

    ways: dict[str, Callable[[], None]] = {
        NONE: lambda: None,
        WAITING: with_checksums,
        THREAD: lambda: writer.write(training.state(), CHECKPOINT_FILE),
    }
    stops: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    step_seconds: dict[str, list[float]] = {way: [] for way in ways}
    for block in range(blocks + 1):
        for way, write in ways.items():
            os.sync()  # What the block before has written is not this one's.
            began, cpu = time.perf_counter(), time.thread_time()
            write()
            stop = time.perf_counter() - began, time.thread_time() - cpu
            began = time.perf_counter()
            for _ in range(steps):
                training.step(images, tokens)
            seconds = (time.perf_counter() - began) / steps
            writer.wait()
            if block:  # The first one allocates.
                stops[way].append(stop)
                step_seconds[way].append(seconds)
    writer.close()
    return {way: _facts(way, stops[way], step_seconds[way], step_seconds[NONE]) for way in (WAITING, THREAD)}


def _facts(
    way: str, stops: Sequence[tuple[float, float]], steps: Sequence[float], alone: Sequence[float]
) -> dict[str, float]:
    seconds, cpu_seconds = (median(stop[which] for stop in stops) for which in (0, 1))
    apart = interval(seconds, 1) if way == THREAD else max(30.0, 20 * seconds)
    return {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "interval_seconds": apart,
        "share": seconds / (seconds + apart),
        "step_seconds": median(steps),
        "slower": median(mine / other for mine, other in zip(steps, alone, strict=True)) - 1,
    }


def _as_markdown(facts: dict[str, Any]) -> str:
    rows = [
        (
            way,
            f"{each['seconds']:.2f}",
            f"{each['cpu_seconds']:.2f}",
            f"{each['interval_seconds']:.0f}",
            f"{100 * each['share']:.2f}",
            f"{100 * each['slower']:+.0f}",
        )
        for way, each in facts["ways"].items()
    ]
    columns = ("written", "s without a step", "CPU s", "s between two", "% of training", "% slower steps beside it")
    what = f"{facts['model']}, {facts['parameters'] / 1e6:.0f}M parameters, {facts['bytes'] / 1e9:.2f} GB.\n"
    return f"{table(columns, rows)}\n{what}{machine_words(facts['machine'])}"


if __name__ == "__main__":
    main()
