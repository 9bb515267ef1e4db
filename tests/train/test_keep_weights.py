"""The weights that stay when a run has finished, by keep_weights of its study."""

import pytest

from flipscale.run import RunRequest
from flipscale.settings.declarations import KeepWeights
from flipscale.train import train
from tests.train.conftest import SETTINGS

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("keep", KeepWeights)
def test_weights_of_a_finished_run_stay_unless_they_are_never_kept(run, keep):
    folder = run(samples=64)
    folder.ask(RunRequest("run", {**SETTINGS, "samples": 64}, keep_weights=keep))
    assert folder.asked().keep_weights is keep
    assert train([folder.path]) == 0
    assert folder.result() is not None
    assert (folder.path / "model.pt").exists() is (keep is not KeepWeights.NEVER)


def test_weights_of_a_run_that_failed_are_left_alone(run):
    folder = run()
    folder.ask(RunRequest("run", {**SETTINGS, "lr": 1e30, "warmup": 0}, keep_weights=KeepWeights.NEVER))
    (folder.path / "model.pt").write_bytes(b"of an attempt before")
    assert train([folder.path]) == 1
    assert (folder.path / "model.pt").exists()


def test_an_asked_run_of_an_older_version_keeps_its_weights(run):
    folder = run()
    text = (folder.path / "run.json").read_text()
    assert "keep_weights" not in text
    assert folder.asked().keep_weights is KeepWeights.ALWAYS
