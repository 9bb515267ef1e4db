import re

import pytest

from flipscale.errors import FlipscaleError, RunFolderError
from flipscale.run import RunFolder, RunRequest
from flipscale.settings.declarations import Resources, plain
from flipscale.train.profile import STAGES, profile


def rows(table):
    """The numbers of each line that begins with a name: ms a step and the share."""
    return {
        name: (float(ms), float(share))
        for name, ms, share in re.findall(r"^([a-z ]+?) +([\d.]+) +([\d.]+)%$", table, re.MULTILINE)
    }


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"reconstruction": {"weight": 1.0, "width": None, "depth": 1}, "grad_clip": 1.0},
        {"mask_shape": "resize", "text_mask": "block"},
    ],
)
def test_a_profile_names_every_stage_and_leaves_the_folder_as_it_is(run, changes):
    folder = run(text_mask_ratio=0.5, **changes)
    before = sorted(path.name for path in folder.path.iterdir())
    table = profile(folder.path, steps=3)
    found = rows(table)
    assert list(found) == [*STAGES, "all stages"]
    assert sum(share for name, (_, share) in found.items() if name != "all stages") == pytest.approx(100, abs=0.5)
    assert sum(ms for name, (ms, _) in found.items() if name != "all stages") == pytest.approx(
        found["all stages"][0], abs=0.1
    )
    assert all(ms > 0 for ms, _ in found.values())
    assert re.search(r"^whole steps +[\d.]+ ms, [\d,]+ images/s$", table, re.MULTILINE)
    assert re.search(
        r"^model FLOPs +[\d.]+ TFLOP/s, \d+% of the 0\.04 assumed for its cores in use$", table, re.MULTILINE
    )
    assert re.search(r"^peak memory +\d+\.\d\d GiB$", table, re.MULTILINE)
    assert sorted(path.name for path in folder.path.iterdir()) == before


def test_a_profile_is_of_one_micro_batch(tmp_path, settings):
    folder = RunFolder(tmp_path / "runs" / "split")
    folder.ask(RunRequest("split", plain(settings()), resources=Resources(processes=2, accumulate=4)))
    assert profile(folder.path, steps=1).startswith("split: 1 steps of 4 pairs, of the batch of 32, fp32, on cpu\n")


def test_what_flipscale_does_not_train_has_no_profile(run, tmp_path):
    with pytest.raises(FlipscaleError, match="run was not pre-trained by flipscale's trainer"):
        profile(run(trainer={"command": {"arguments": ["true"], "name": None}}).path)
    with pytest.raises(RunFolderError, match=r"there is no run\.json"):
        profile(tmp_path / "nothing")
