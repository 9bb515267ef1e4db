"""Which runs share a trunk, what that saves, and what it leaves as it was: planned, without torch."""

from dataclasses import replace
from pathlib import Path

import pytest

from flipscale.errors import StudyError
from flipscale.launch.order import in_turn
from flipscale.planning.runs import KeptTrunks, Plan, Trunk, plan
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
    assert "saved" not in found.sharing


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


def test_means_of_weights_are_branches_as_long_as_their_steps_lie_beyond_the_trunk(tmp_path):
    uncooled = {"couple: {cooldown: samples // 5}\n": ""}
    runs = planned(tmp_path, schedule="schedule: constant, average: 0.1", **uncooled).runs
    assert [run.trunk and run.trunk.samples for run in runs] == [None, 16_000, 32_000, 64_000]
    # The last 60 % of 32k samples begin at 12.8k, where 16k has passed; those of 64k begin at 25.6k.
    runs = planned(tmp_path, schedule="schedule: constant, average: 0.6", **uncooled).runs
    assert [run.trunk and run.trunk.samples for run in runs] == [None, None, 16_000, 32_000]


def test_cooled_and_uncooled_runs_share_a_trunk(tmp_path):
    base, axes = "schedule: constant, average: 0.1", "axes: {cooldown: [0, 20 %], samples: [16k, 32k]}\n"
    found = planned(
        tmp_path, schedule=base, **{f"axes: {{samples: {DOUBLED}}}\ncouple: {{cooldown: samples // 5}}\n": axes}
    )
    trunks = {(run.settings.samples, run.settings.cooldown): run.trunk and run.trunk.samples for run in found.runs}
    assert trunks == {
        (16_000, 3200): None,
        (16_000, 0): 12_800,
        (32_000, 6400): 16_000,
        (32_000, 0): 25_600,
    }


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


def test_a_run_goes_on_from_the_trunk_of_another_study_unless_it_was_asked_for_before(tmp_path):
    (shorter,) = planned(tmp_path, "[16k]", schedule="schedule: constant, warmup: 1.6k").runs
    (tmp_path / "longer.yaml").write_text((tmp_path / "study.yaml").read_text().replace("[16k]", "[32k, 64k]"))
    study, kept = read_study(tmp_path / "longer.yaml"), {shorter.id: (shorter.settings, shorter.resources)}
    first, second = plan(study, trunks=KeptTrunks(kept)).runs
    assert (first.trunk, first.after) == (Trunk(shorter.id, 12_800), (shorter.id,))
    assert (second.trunk, first.cost.samples_seen) == (Trunk(first.id, 25_600), 32_000 - 12_800)
    found = plan(study, trunks=KeptTrunks(kept))
    assert found.sharing.startswith("1 trunk (1 of other studies), 2 branches: 40 % saved; ")
    # It has begun alone, and is not to be said to have a trunk.
    assert plan(study, trunks=KeptTrunks(kept, {first.id: None})).runs == plan(study).runs
    # Two processes add up in another order than one.
    kept[shorter.id] = (shorter.settings, replace(shorter.resources, processes=2))
    assert plan(study, trunks=KeptTrunks(kept)).runs == plan(study).runs


@pytest.mark.parametrize(("first", "second"), [("linear", "1-sqrt"), ("1-sqrt", "linear")])
def test_another_shape_goes_on_from_the_trunk_that_is_there(tmp_path, first, second):
    schedule = f"schedule: constant, cooldown_shape: {first}"
    (done,) = planned(tmp_path, "[16k]", schedule=schedule).runs
    axes = f"axes: {{cooldown_shape: [{first}, {second}], samples: [16k]}}"
    planned(tmp_path, "[16k]", **{"axes: {samples: [16k]}": axes})
    kept = KeptTrunks({done.id: (done.settings, done.resources)}, {done.id: None})
    runs = plan(read_study(tmp_path / "study.yaml"), trunks=kept).runs
    assert {run.settings.cooldown_shape: run.trunk for run in runs} == {first: None, second: Trunk(done.id, 12_800)}


def test_run_json_says_from_which_run_it_goes_on(tmp_path):
    first, second, *_ = planned(tmp_path).runs
    folders = [RunFolder(tmp_path / "runs" / run.id) for run in (first, second)]
    for folder, run in zip(folders, (first, second), strict=True):
        folder.ask(RunRequest.of(run))
        assert folder.asked() == RunRequest.of(run)
    assert folders[1].asked().after == (first.id,)
    assert "trunk" not in (folders[0].path / "run.json").read_text()


def test_a_plan_says_why_lengths_of_drawn_images_share_no_trunk(tmp_path):
    drawn = planned(tmp_path, data="data: shapes")
    assert drawn.sharing == (
        "Lengths share no trunk: images that are drawn differ from length to length; write a data_size."
    )
    assert planned(tmp_path, "[16k]", data="data: shapes").sharing == ""
    assert planned(tmp_path, data="data: shapes, data_size: 64k").sharing.startswith("1 trunk, 4 branches: ")


def test_a_learning_rate_at_which_adamw_diverges_is_warned_of(tmp_path):
    def warnings(rate: str) -> list[str]:
        return planned(tmp_path, "[16k, 32k]", data=f"data: fashion, lr: {rate}, warmup: 640").warnings

    assert warnings("2e3") == ["lr 2000: AdamW diverges there: did you mean 2e-3?"]
    assert warnings("0.5") == ["lr 0.5: AdamW diverges there."]
    assert warnings("0.1") == []
