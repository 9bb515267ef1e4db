"""Processes that read and decode batches: what they give is what the training process would have read itself."""

import contextlib
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch

from flipscale.errors import DataError
from flipscale.run import NodeFault, RunFolder, RunRequest
from flipscale.settings.declarations import Resources
from flipscale.train import train
from flipscale.train.distributed import Group
from flipscale.train.requests import request_of
from flipscale.train.sources import open_training_data
from flipscale.train.trainers.builtin.loop import batches
from flipscale.train.trainers.builtin.training import Training
from tests.train.conftest import SETTINGS
from tests.train.test_stream_train import shards

__all__ = ["shards"]

pytestmark = pytest.mark.slow


def asked(folder: Path, name: str, urls: str, **resources: int) -> RunFolder:
    data = {"webdataset": {"urls": urls, "name": "squares", "decode": "always"}}
    run = RunFolder(folder / "runs" / name)
    settings = {**SETTINGS, "data": data, "samples": 2400, "crop": 0.5, "flip": True}
    run.ask(RunRequest(name, settings, resources=Resources(**resources)))
    return run


def opened(run: RunFolder) -> tuple[Training, Iterator[tuple[torch.Tensor, torch.Tensor]], list[int]]:
    """A training, the batches that its loaders make, and after the last one how many pairs could not be read."""
    settings, resources = request_of(run)
    training = Training(settings, Group(), resources)
    data = open_training_data(run, settings)
    corrupt: list[int] = []

    def all_batches() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        yield from batches(data, training, training.steps)
        corrupt.append(data.corrupt())

    return training, all_batches(), corrupt


def test_loaders_make_the_batches_of_one_process_in_order_and_count_a_pair_once(tmp_path: Path, shards: Path) -> None:
    urls = f"{shards}/{{00000..00011}}.tar"
    _, own, own_corrupt = opened(asked(tmp_path, "own", urls))
    training, loaded, corrupt = opened(asked(tmp_path, "loaded", urls, loaders=2))
    state = torch.get_rng_state()
    for (images, tokens), (others, other_tokens) in zip(own, loaded, strict=True):
        assert torch.equal(images, others)
        assert torch.equal(tokens, other_tokens)
    assert own_corrupt == corrupt == [3]
    assert training.loading_seconds > 0
    assert torch.equal(torch.get_rng_state(), state)


def test_a_run_with_loaders_ends_as_one_without(tmp_path: Path, shards: Path) -> None:
    urls = f"{shards}/{{00000..00011}}.tar"
    runs = [asked(tmp_path, f"with {loaders}", urls, loaders=loaders) for loaders in (0, 2)]
    assert train([run.path for run in runs]) == 0
    first, second = (run.result() for run in runs)
    assert first is not None
    assert second is not None
    assert (first.final_loss, first.corrupt_samples) == (second.final_loss, second.corrupt_samples)
    assert first.corrupt_samples == 3
    expected, found = (torch.load(run.path / "model.pt")["state_dict"] for run in runs)
    assert all(torch.equal(found[name], weights) for name, weights in expected.items())


def test_a_loader_that_is_killed_fails_the_run_with_its_reason(tmp_path: Path, shards: Path) -> None:
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    _, loaded, _ = opened(asked(tmp_path, "run", f"{shards}/{{00000..00011}}.tar", loaders=1))
    next(loaded)
    started = [process for process in psutil.Process().children(recursive=True) if process.pid not in before]
    loaders = [process for process in started if not process.children()]
    for process in loaders:
        with contextlib.suppress(psutil.NoSuchProcess):
            if "resource_tracker" not in " ".join(process.cmdline()):
                os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(NodeFault, match="a process that reads data ended; the system does that when memory is short"):
        list(loaded)


def test_what_a_loader_cannot_read_is_said_in_the_words_of_one_process(tmp_path: Path, shards: Path) -> None:
    training, _, _ = opened(asked(tmp_path, "run", f"{shards}/{{00000..00011}}.tar", loaders=1))
    data = open_training_data(asked(tmp_path, "other", f"{shards}/{{00000..00011}}.tar"), training.settings)
    data = replace(data, reopen=_without_shards)
    with pytest.raises(DataError, match=r"^the shard is gone$"):
        next(batches(data, training, 5))


def _without_shards() -> None:
    raise DataError("the shard is gone")
