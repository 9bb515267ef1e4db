"""The two programs that are compared, each run on the same shards as its user runs it: one process, one command.

flipscale:  `flipscale train FOLDER` on a run that names the shards as its data. It decodes a set of shards into its
            cache once, for all runs; that is done before, and its time is given separately.
open_clip:  `python -m open_clip_train.main` with the flags that `trainer: open_clip` gives it, so model, batch, mask,
            length of the texts, precision and schedule are the same. It differs in its log every 100 steps, and in 4
            loaders on a GPU. On a CPU it has none: they would take time from the training. It reads its first 1,000
            samples ahead of its first step, so its timed steps read a little less than those of a long run.

On a CPU each program has one thread, and time is CPU time of the process: other work on the machine then costs only
cache misses, not time spent waiting for a core. On a GPU time is wall time.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from flipscale.cost.arithmetic import steps_of
from flipscale.data.open_clip_flags import command, settle
from flipscale.errors import FlipscaleError
from flipscale.planning.identity import stage
from flipscale.run import RunFolder, RunRequest, write_json
from flipscale.settings.architecture import architecture
from flipscale.settings.declarations import Resources, Settings, WebDataset, plain
from flipscale.study.settings import read_settings
from flipscale.train.sources import open_training_data
from flipscale.train.trainers.open_clip.training_shards import Shards, shards_of

PROGRAMS = ("flipscale", "open_clip")

MOST_PAIRS = 8192
"""A run that sees more samples goes through this number of pairs several times."""

_STAMPS = Path(__file__).with_name("stamps.py")


@dataclass(frozen=True)
class Prepared:
    """What both programs train, and the shards that they train on."""

    settings: Settings
    shards: Shards
    text_length: int
    """Tokens of a text in open_clip's program; its model has no more positions than that."""
    decode_seconds: float
    """CPU seconds that flipscale took to open the shards for the first time, decoding included if it decodes once."""
    loaders: int | None = None
    """Processes that read and decode for each program; None: as many as each has by default."""


@dataclass(frozen=True)
class Measured:
    """One run of one program."""

    steps: int
    """Optimizer steps it took."""
    timed_steps: int
    """All but the first ones."""
    samples: int
    """Samples in the timed steps."""
    cpu_seconds: float
    """CPU seconds of the process over these samples. Loaders that are processes of their own are not in it."""
    wall_seconds: float
    """Wall seconds over these samples."""
    waited_seconds: float
    """Of these, how long the training loop waited for its batches."""
    whole_cpu_seconds: float
    """CPU seconds of the program and its children from its start to its end."""
    whole_wall_seconds: float
    peak_memory_bytes: int
    """Resident memory of the process, up to the last step."""
    peak_gpu_memory_bytes: int | None
    """Memory of tensors on the GPU, up to the last step."""

    @property
    def seconds(self) -> float:
        """By the clock that counts here: wall on a GPU, CPU elsewhere."""
        return self.cpu_seconds if self.peak_gpu_memory_bytes is None else self.wall_seconds

    @property
    def whole_seconds(self) -> float:
        return self.whole_cpu_seconds if self.peak_gpu_memory_bytes is None else self.whole_wall_seconds

    @property
    def start_seconds(self) -> float:
        """All but the steps, if the untimed first steps took as long as the others."""
        return self.whole_seconds - self.seconds * self.steps / self.timed_steps

    @property
    def images_per_second(self) -> float:
        return self.samples / self.seconds


def settings_of(model: str, *, batch_size: int, samples: int, text_length: int, precision: str) -> Settings:
    """A run's settings with all others at their defaults; its data are the shapes that shards are written of."""
    size = architecture(model).image.image_size
    return stage(
        read_settings(
            {
                "model": model,
                "image_size": size,
                "text_length": text_length,
                "data": {"shapes": {"pairs": 0.3, "seed": 0}},
                "data_size": min(samples, MOST_PAIRS),
                "samples": samples,
                "mask_ratio": 0.0,
                "batch_size": batch_size,
                "lr": 1e-3,
                "warmup": samples // 10,
                "precision": precision,
            }
        )
    )


def prepare(work: Path, settings: Settings, decode: str = "once", text_length: int | None = None) -> Prepared:
    """Write shards of these settings' pairs into the folder `work`, which has none of them, and open them.

    decode: "once" or "always", as a webdataset's option in a study. text_length: open_clip's, if not the settings'.
    """
    run = RunFolder(work / "runs" / "prepare")
    run.ask(RunRequest("prepare", plain(settings)))
    shards = shards_of(run, settings)
    data = WebDataset(shards.urls, name=None, decode=decode, sizes=None)
    # Both see all pairs of the shards, so there is nothing to leave out.
    own = replace(settings, data=data, data_size=None)
    began = time.process_time()
    open_training_data(run, own)
    return Prepared(own, shards, text_length or settings.text_length, time.process_time() - began)


def measure(program: str, prepared: Prepared, mask_ratio: float, skip: int, work: Path) -> Measured:
    """Run the program to its end, and time its steps after the first `skip`. FlipscaleError if it takes other steps."""
    prepared = replace(prepared, settings=replace(prepared.settings, mask_ratio=mask_ratio))
    settings = prepared.settings
    steps, batch = steps_of(settings), settings.batch_size
    folder = Path(tempfile.mkdtemp(prefix=f"{program}-", dir=work / "runs"))
    module, arguments = (_flipscale if program == "flipscale" else _open_clip)(folder, prepared)
    stamps = folder / "stamps.json"
    environment = os.environ if torch.cuda.is_available() else {**os.environ, "OMP_NUM_THREADS": "1"}
    with open(folder / "said.txt", "w+") as said:
        began = time.perf_counter()
        child = subprocess.Popen(
            [sys.executable, str(_STAMPS), str(stamps), str(skip), str(steps), module, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            env=environment,
        )
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        wall = time.perf_counter() - began
        said.seek(0)
        noted = json.loads(stamps.read_text()) if stamps.exists() else {"cpu": []}
        if child.returncode or len(noted["cpu"]) != steps:
            raise FlipscaleError(
                f"{program} ended with {child.returncode} after {len(noted['cpu'])} of {steps} steps; open_clip's "
                f"program needs webdataset up to 0.2.86. It said:\n{said.read()[-2000:]}"
            )
    return Measured(
        steps=len(noted["cpu"]),
        timed_steps=steps - skip,
        samples=(steps - skip) * batch,
        cpu_seconds=noted["cpu"][-1] - noted["cpu"][skip - 1],
        wall_seconds=noted["wall"][-1] - noted["wall"][skip - 1],
        waited_seconds=noted["waited"][-1] - noted["waited"][skip - 1],
        whole_cpu_seconds=used.ru_utime + used.ru_stime,
        whole_wall_seconds=wall,
        peak_memory_bytes=noted["peak_memory_bytes"],
        peak_gpu_memory_bytes=noted["peak_gpu_memory_bytes"],
    )


def _flipscale(folder: Path, prepared: Prepared) -> tuple[str, list[str]]:
    resources = Resources(loaders=prepared.loaders)
    RunFolder(folder).ask(RunRequest(folder.name, plain(prepared.settings), resources=resources))
    return "flipscale", ["train", str(folder)]


def _open_clip(folder: Path, prepared: Prepared) -> tuple[str, list[str]]:
    settings = prepared.settings
    device = "cuda" if torch.cuda.is_available() else "cpu"
    # One epoch: between two of them the program would write a checkpoint.
    wished = {"epochs": 1} | ({} if prepared.loaders is None else {"workers": prepared.loaders})
    job = settle(settings, Resources(), device, folder, prepared.shards, wished)
    config = architecture(settings.model, settings.image_size).open_clip_config
    config["text_cfg"]["context_length"] = prepared.text_length
    (folder / "model").mkdir()
    write_json(folder / "model" / "open_clip_config.json", {"model_cfg": config})
    python, dash_m, module, *arguments = command(job)
    assert (python, dash_m, module) == ("python", "-m", "open_clip_train.main")
    return module, [*arguments, "--log-every-n-steps", "100"]
