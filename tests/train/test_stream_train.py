"""Two processes train on thousands of pairs that stream from tar shards, and the one that leads is killed."""

import io
import signal
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from flipscale.run import RunFolder, RunRequest
from flipscale.settings.declarations import Resources
from flipscale.train import train
from tests.patience import PATIENCE, wait_until
from tests.train.conftest import SETTINGS
from tests.train.forks import SLOWLY, Forked
from tests.train.test_processes import children, gone

pytestmark = pytest.mark.slow

BAD = {150, 777, 2001}
"""Pairs of which the image is none."""


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2,400 pairs in 12 shards: squares of a colour that the caption names, three of them not readable."""
    folder = tmp_path_factory.mktemp("shards")
    colours = {"red": (200, 30, 30), "green": (30, 160, 40), "blue": (40, 60, 220), "grey": (120, 120, 120)}
    for shard in range(12):
        with tarfile.open(folder / f"{shard:05}.tar", "w") as tar:
            for number in range(shard * 200, (shard + 1) * 200):
                name, colour = list(colours.items())[number % 4]
                pixels = np.random.default_rng(number).integers(0, 40, (32, 36, 3)) + colour
                file = io.BytesIO()
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, "JPEG")
                for extension, content in (
                    ("jpg", b"<html>404</html>" if number in BAD else file.getvalue()),
                    ("txt", f"{name} square number {number}".encode()),
                ):
                    member = tarfile.TarInfo(f"{number:09}.{extension}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    return folder


def asked(folder: Path, name: str, urls: str) -> RunFolder:
    settings = {
        **SETTINGS,
        "data": {"webdataset": {"urls": urls, "name": "squares", "decode": "always"}},
        "samples": 2400,
        "crop": 0.5,
        "flip": True,
    }
    run = RunFolder(folder / "runs" / name)
    run.ask(RunRequest(name, settings, resources=Resources(processes=2)))
    return run


def kill_in_the_middle(run: RunFolder) -> None:
    """Train, with a checkpoint as often as can be, and kill process 0 some steps after the first one."""
    code = f"from flipscale.train import train\ntrain([{str(run.path)!r}], checkpoint_seconds=0)"
    process = Forked(f"{SLOWLY}\n{code}")
    until = time.monotonic() + PATIENCE
    while not (run.path / "checkpoint.pt").exists():
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.005)
    (child,) = children(process.pid)
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_until(lambda: gone(child), "the other process outlives the one that started it")


def test_a_run_of_two_processes_on_streamed_shards_that_is_killed_ends_as_one_that_is_not(
    tmp_path: Path, shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    urls = f"{shards}/{{00000..00005}}.tar::pipe:cat {shards}/{{00006..00011}}.tar"
    whole, killed = asked(tmp_path, "whole", urls), asked(tmp_path, "killed", urls)
    kill_in_the_middle(killed)
    assert killed.result() is None
    assert train([whole.path, killed.path]) == 0
    first, second = whole.result(), killed.result()
    assert first is not None
    assert second is not None
    assert (first.attempts, second.attempts) == (1, 2)
    assert (first.devices, second.devices) == (2, 2)
    assert second.final_loss == first.final_loss
    assert (first.unique_pairs, first.steps, first.corrupt_samples) == (2400, 75, 3)
    expected, found = (torch.load(run.path / "model.pt")["state_dict"] for run in (whole, killed))
    for name, weights in expected.items():
        assert torch.equal(found[name], weights), name
