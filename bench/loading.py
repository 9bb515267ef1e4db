"""Images a second that are read, decoded and cropped from tar shards, beside open_clip's own pipeline on the same.

    python -m bench.loading --out loading

One way after the other, in processes of their own. `images/CPU s` counts the processor time of all of a way's
processes from its first batch on, `training process` that of the process that trains. Reads are those of the image and
caption files, and those after which the next one begins within 64 kB.
"""

import argparse
import io
import json
import multiprocessing
import os
import sys
import tarfile
import tempfile
import time
from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image

from bench.programs import settings_of
from bench.report import leave, machine, machine_words, table
from flipscale.run import RunFolder, RunRequest
from flipscale.settings.declarations import Resources, WebDataset, plain

SHARDS, LENGTH = 8, 32

NEAR = 2**16
"""Bytes between two reads of a shard that a disk or a network file system reads at once."""


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure and print; the facts that --out writes are returned."""
    asked = _parser().parse_args(arguments)
    ways = [("flipscale, threads", "flipscale", 0)]
    ways += [(f"flipscale, {number} loaders", "flipscale", number) for number in (1, 2, 4)]
    ways += [(f"open_clip, {number} workers", "open_clip", number) for number in (0, 2)]
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        size = write_shards(folder, SHARDS, asked.pairs // SHARDS)
        rows = []
        for way, program, workers in ways:
            file = folder / "facts.json"
            process = spawn.Process(target=_measure, args=(program, workers, folder, asked.pairs, file))
            process.start()
            process.join()
            assert process.exitcode == 0, way
            rows.append({"way": way, **json.loads(file.read_text())})
            print(rows[-1], file=sys.stderr)
    facts = {"benchmark": "loading", "machine": machine(), "pairs": asked.pairs, "jpeg_bytes": size, "ways": rows}
    leave(asked.out, facts, _as_markdown(facts))
    return facts


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.loading", description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=2048, help="pairs of the shards; each is seen twice")
    parser.add_argument("--out", metavar="NAME", help="keep the result in bench/results/NAME.json, or in a path .json")
    return parser


def write_shards(folder: Path, count: int, pairs: int) -> int:
    """Shards of so many JPEGs of 256 px and more, as img2dataset writes them; the mean bytes of an image."""
    draw, total = np.random.default_rng(0), 0
    for shard in range(count):
        with tarfile.open(folder / f"{shard:05}.tar", "w") as tar:
            for number in range(pairs):
                small = Image.fromarray(draw.integers(0, 256, (48, 48, 3), dtype=np.uint8))
                jpeg = io.BytesIO()
                small.resize((256, 341), Image.Resampling.BICUBIC).save(jpeg, "JPEG", quality=90)
                total += jpeg.tell()
                caption = f"a photo of {number} small things on table {shard}, seen from the {number % 7}th window"
                for ending, content in (("jpg", jpeg.getvalue()), ("txt", caption.encode())):
                    entry = tarfile.TarInfo(f"{shard:03}{number:06}.{ending}")
                    entry.size = len(content)
                    tar.addfile(entry, io.BytesIO(content))
    return total // (count * pairs)


def _measure(program: str, workers: int, folder: Path, pairs: int, file: Path) -> None:
    """Read all pairs once to warm up, and once with the clock running."""
    batch = 64
    urls = f"{folder}/{{00000..{SHARDS - 1:05}}}.tar"
    if program == "flipscale":
        feed: Iterator[Any] = _flipscale(folder / f"results{workers}", urls, pairs, batch, workers)
    else:
        feed = _open_clip(urls, 2 * pairs, batch, workers)
    reads = _noted_reads()
    clock: list[tuple[float, float, float]] = []
    for number in range(2 * pairs // batch):
        if number == pairs // batch:
            reads.clear()
            clock.append(_now())
        next(feed)
    clock.append(_now())
    wall, cpu, own = (after - before for before, after in zip(*clock, strict=True))
    facts = {"images_per_second": pairs / wall, "images_per_cpu_second": pairs / cpu, "own_ms": 1000 * own / pairs}
    if program == "flipscale" and not workers:
        facts |= {"reads": len(reads), "bytes": sum(size for _, _, size in reads), "near": _near(reads)}
    file.write_text(json.dumps(facts))
    os._exit(0)  # What was made ahead is not waited for.


def _now() -> tuple[float, float, float]:
    """Wall time, processor time of this process and those it started, and of this process."""
    own = time.process_time()
    children = [process.cpu_times() for process in psutil.Process().children(recursive=True)]
    return time.perf_counter(), own + sum(each.user + each.system for each in children), own


def _noted_reads() -> list[tuple[int, int, int]]:
    """Each read of this process from now on: the file, where it begins, and its length."""
    reads: list[tuple[int, int, int]] = []
    pread = os.pread

    def noted(file: int, size: int, start: int) -> bytes:
        reads.append((os.fstat(file).st_ino, start, size))
        return pread(file, size, start)

    os.pread = noted
    return reads


def _near(reads: list[tuple[int, int, int]]) -> int:
    """How many reads begin within NEAR bytes of the end of one before, of the same file."""
    ends: dict[int, int] = {}
    near = 0
    for file, start, size in reads:
        near += abs(start - ends.get(file, -2 * NEAR)) <= NEAR
        ends[file] = start + size
    return near


def _flipscale(results: Path, urls: str, pairs: int, batch: int, loaders: int) -> Iterator[Any]:
    from flipscale.train.distributed import Group
    from flipscale.train.sources import open_training_data
    from flipscale.train.trainers.builtin.loop import batches
    from flipscale.train.trainers.builtin.training import Training

    settings = settings_of("ViT-B-32", batch_size=batch, samples=4 * pairs, text_length=LENGTH, precision="fp32")
    settings = replace(settings, data=WebDataset(urls, None, "always", None), data_size=pairs, crop=0.9)
    run = RunFolder(results / "runs" / "run")
    run.ask(RunRequest("run", plain(settings)))
    training = Training(settings, Group(), Resources(loaders=loaders))
    return batches(open_training_data(run, settings), training, training.steps)


def _open_clip(urls: str, samples: int, batch: int, workers: int) -> Iterator[Any]:
    import open_clip
    from open_clip_train.data import get_wds_dataset

    multiprocessing.set_start_method("fork", force=True)  # What the pipeline is made of cannot be pickled.
    look = open_clip.image_transform(224, is_train=True)
    asked = Namespace(
        train_data=urls,
        train_num_samples=2 * samples,
        train_data_upsampling_factors=None,
        dataset_resampled=True,
        seed=0,
        batch_size=batch,
        workers=workers,
        world_size=1,
    )
    tokenizer = open_clip.get_tokenizer("ViT-B-32", context_length=LENGTH)
    return iter(get_wds_dataset(asked, look, is_train=True, tokenizer=tokenizer).dataloader)


def _as_markdown(facts: dict[str, Any]) -> str:
    rows = [
        (
            each["way"],
            f"{each['images_per_second']:,.0f}",
            f"{each['images_per_cpu_second']:,.0f}",
            f"{each['own_ms']:.2f}",
        )
        for each in facts["ways"]
    ]
    columns = ("way", "images/s", "images/CPU s", "training process, CPU ms an image")
    first = facts["ways"][0]
    reads = (
        f"flipscale reads {first['reads'] / facts['pairs']:.2f} times a pair, {first['bytes'] / first['reads']:,.0f} "
        f"bytes each; {100 * first['near'] / first['reads']:.0f} % begin within 64 kB of the one before.\n"
    )
    return f"{table(columns, rows)}\n{reads}{machine_words(facts['machine'])}"


if __name__ == "__main__":
    main()
