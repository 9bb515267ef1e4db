"""Which runs share a trunk, what that saves, and what it leaves as it was: planned, without torch."""

from pathlib import Path

import pytest

from flipscale.errors import StudyError
from flipscale.launch.order import in_turn
from flipscale.planning import Plan, plan
from flipscale.run import RunFolder, RunRequest
from flipscale.study import read_study

STUDY = """\
schema: 1
base: {model: ViT-w16d1-4, image_size: 28, text_length: 16, data: fashion, batch_size: 32, schedule: constant}
axes: {samples: LENGTHS}
couple: {cooldown: samples // 5}
"""

DOUBLED = "[16k, 32k, 64k, 128k]"


def planned(folder: Path, lengths: str = DOUBLED, **changes: str) -> Plan:
    text = STUDY.replace("LENGTHS", lengths)
    for old, new in changes.items():
        text = text.replace({"schedule": "schedule: constant", "data": "data: fashion"}.get(old, old), new)
    (folder / "study.yaml").write_text(text)
    return plan(read_study(folder / "study.yaml"))


def test_each_length_goes_on_from_the_end_of_the_next_shorter_ones_constant_rate(tmp_path):
    runs = planned(tmp_path).runs
    assert [run.trunk and run.trunk.samples for run in runs] == [None, 12_800, 25_600, 51_200]
    assert [run.trunk.run for run in runs[1:]] == [run.id for run in runs[:-1]]
    assert [run.cost.samples_seen for run in runs] == [16_000, 19_200, 38_400, 76_800]
    assert [run.whole_cost.samples_seen for run in runs] == [16_000, 32_000, 64_000, 128_000]
    assert [run.whole_cost.train_flops // run.whole_cost.flops_per_sample for run in runs] == [
        16_000,
        32_000,
        64_000,
        128_000,
    ]


@pytest.mark.parametrize(
    ("lengths", "cooldown", "saved"),
    [(DOUBLED, 5, 0.375), (DOUBLED, 10, 0.42), ("[16k, 32k, 48k, 64k]", 5, 0.48), ("[16k, 32k, 64k]", 20, 0.41)],
)
def test_a_plan_costs_less_by_what_is_shared(tmp_path, lengths, cooldown, saved):
    found = planned(tmp_path, lengths, **{"samples // 5": f"samples // {cooldown}"})
    whole = sum(run.whole_cost.train_flops for run in found.runs)
    assert 1 - found.total.train_flops / whole == pytest.approx(saved, abs=0.01)
    assert found.sharing.startswith(f"1 trunk, {len(found.runs)} branches: ")


def test_whatever_the_order_of_lengths_the_ids_are_the_same_and_a_trunk_comes_first(tmp_path):
    runs, turned = planned(tmp_path).runs, planned(tmp_path, "[128k, 16k, 64k, 32k]").runs
    assert [run.id for run in turned] == [run.id for run in runs]
    assert [run.id for run in in_turn({run.id: run for run in turned})] == [run.id for run in runs]


def test_the_warm_up_is_that_of_the_shortest_length_or_the_studys(tmp_path):
    assert {run.settings.warmup for run in planned(tmp_path).runs} == {1600}
    assert {run.settings.warmup for run in planned(tmp_path, schedule="schedule: constant, warmup: 640").runs} == {640}
    assert {run.settings.warmup for run in planned(tmp_path, schedule="schedule: cosine").runs} == {
        1600,
        3200,
        6400,
        12_800,
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"schedule": "schedule: cosine"},
        {"schedule": "schedule: constant, trainer: open_clip"},
        {"data": "data: shapes"},
    ],
    ids=str,
)
def test_what_depends_on_the_length_is_not_shared(tmp_path, changes):
    found = planned(tmp_path, **changes)
    assert not any(run.trunk for run in found.runs)
    assert found.sharing == ""


def test_a_length_that_is_scored_elsewhere_on_the_trunk_goes_on_from_a_shorter_part_or_none(tmp_path):
    scored = {"couple:": "evaluation: {at: [0.25, 0.5]}\ncouple:"}
    assert [bool(run.trunk) for run in planned(tmp_path, **scored).runs] == [False, True, True, True]
    scored = {"couple:": "evaluation: {at: [0.3]}\ncouple:"}
    # 9,600 of 32k samples lie on the trunk of 16k, which was scored at 4,800.
    assert [bool(run.trunk) for run in planned(tmp_path, **scored).runs] == [False, False, True, True]


def test_shapes_and_shares_of_the_cooldown_are_branches_of_one_trunk(tmp_path):
    axes = "axes: {cooldown: [20 %, 0.4k], cooldown_shape: [linear, 1-sqrt, cosine], samples: [16k, 32k]}"
    found = planned(tmp_path, **{f"axes: {{samples: {DOUBLED}}}\ncouple: {{cooldown: samples // 5}}": axes})
    assert sorted({(run.settings.samples, run.settings.cooldown) for run in found.runs}) == [
        (16_000, 400),
        (16_000, 3200),
        (32_000, 400),
        (32_000, 6400),
    ]
    assert found.sharing.startswith("1 trunk, 12 branches: ")
    # The first run trains 12.8k samples at a constant rate, and no other does these again.
    assert sum(run.trunk is None for run in found.runs) == 1


def test_a_cooldown_given_as_a_share_is_the_run_that_the_count_gives(tmp_path):
    of_count = planned(tmp_path)
    of_share = planned(
        tmp_path, schedule="schedule: constant, cooldown: 20 %", **{"couple: {cooldown: samples // 5}\n": ""}
    )
    assert [run.id for run in of_share.runs] == [run.id for run in of_count.runs]
    assert [run.settings.cooldown for run in of_share.runs] == [3200, 6400, 12_800, 25_600]


@pytest.mark.parametrize(
    ("base", "couple", "complaint"),
    [
        ("cooldown: 0.2", "", "0.2 is no count; write 20 % for a share of the run's samples"),
        ("cooldown: 120 %", "", "'120 %' is not a count"),
        (
            "cooldown: 20 %",
            "couple: {samples: batch_size * 100}",
            "cooldown 20 % depend on samples, which follows from",
        ),
        ("cooldown: 95 %", "", "warmup and cooldown, 1600 + 15200, are longer than the schedule of 16000 samples"),
        ("lr: 1", "baseline: {cooldown: 20 %}", "20 % are a different number of samples in each cell"),
    ],
)
def test_a_share_that_cannot_be_is_refused(tmp_path, base, couple, complaint):
    samples = "" if "samples:" in couple else ", samples: 16k"
    (tmp_path / "study.yaml").write_text(
        f"schema: 1\nbase: {{model: ViT-w16d1-4, batch_size: 32, schedule: constant, {base}{samples}}}\n{couple}\n"
    )
    with pytest.raises(StudyError) as error:
        read_study(tmp_path / "study.yaml")
    assert complaint in str(error.value)


def test_run_json_says_from_which_run_it_goes_on(tmp_path):
    first, second, *_ = planned(tmp_path).runs
    folders = [RunFolder(tmp_path / "runs" / run.id) for run in (first, second)]
    for folder, run in zip(folders, (first, second), strict=True):
        folder.ask(RunRequest.of(run))
        assert folder.asked() == RunRequest.of(run)
    assert folders[1].asked().after == (first.id,)
    assert "trunk" not in (folders[0].path / "run.json").read_text()
