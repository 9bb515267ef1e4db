"""A run in stages: which runs it is made of, what a study says of them and what they cost. Planned, without torch."""

from dataclasses import replace
from pathlib import Path

import pytest

from flipscale.cell import setting_words, write_cell
from flipscale.cli import main
from flipscale.collecting.columns import setting_value
from flipscale.cost.arithmetic import cost
from flipscale.errors import StudyError
from flipscale.launch import held_back
from flipscale.planning.identity import WHOLE, Course, course_of, goes_on, lineage, parent_of, run_id, stage
from flipscale.planning.runs import Plan, plan
from flipscale.run import Result, RunFolder, RunRequest
from flipscale.settings.declarations import Settings, plain
from flipscale.study import read_study
from flipscale.study.settings import read_settings
from tests.asked import settings_of

STUDY = """\
schema: 1
base: {model: ViT-w16d1-4, image_size: 28, text_length: 16, samples: 3200, batch_size: 32, mask_ratio: 0.5}
axes:
  stages: STAGES
"""

SMALL_FIRST = "[{samples: 50 %, image_size: 12}, 50 %]"


def planned(folder: Path, *stages: str, **changes: str) -> Plan:
    text = STUDY.replace("STAGES", f"[{', '.join(stages)}]")
    for old, new in changes.items():
        text = text.replace(old, new)
    (folder / "study.yaml").write_text(text)
    return plan(read_study(folder / "study.yaml"))


def staged(*stages: object, **values: object) -> Settings:
    return settings_of(**values, stages=list(stages))


def test_the_first_stages_are_the_parent_of_one_more(tmp_path: Path) -> None:
    stages = "[{samples: 50 %, image_size: 12}, 30 %, {samples: 0.2, flip: true}]"
    _, first, second, third = planned(tmp_path, "null", stages).runs
    assert [run.parents for run in (first, second, third)] == [(), (first.id,), (second.id,)]
    assert [run.cell and write_cell(run.cell) for run in (first, second)] == [None, None]
    assert write_cell(third.cell or ()) == "stages=(samples=0.5, image_size=12) 0.3 (samples=0.2, flip=true)"
    assert [stage(run.settings).samples for run in (first, second, third)] == [1600, 960, 640]
    assert [stage(run.settings).image_size for run in (first, second, third)] == [12, 28, 28]
    assert third.name.endswith("stages 50 % image size 12, then 30 %, then 20 % flip")
    assert second.name == f"{third.name}, stage 2 of 3"


def test_shares_and_counts_add_up_to_the_samples(tmp_path: Path) -> None:
    thirds, counts = planned(tmp_path, "[33.3 %, 33.3 %, 33.4 %]", "[1k, 1k, 37.5 %]").cells
    assert [stage(run).samples for run in lineage(thirds.settings)] == [1066, 1065, 1069]
    assert [stage(run).samples for run in lineage(counts.settings)] == [1000, 1000, 1200]


@pytest.mark.parametrize(
    ("stages", "complaint"),
    [
        ("[50 %, 40 %]", "the stages have 2880 samples together, and the run has 3200"),
        ("[1k, 1k]", "the stages have 2000 samples together, and the run has 3200"),
        ("[3190, 10]", "samples of stage 2 10 is less than one batch of 32"),
        ("[50 %, {samples: 50 %, warmup: 32}]", "warmup of stage 2 belongs to a new schedule"),
        ("[{samples: 50 %, restart: true}, 50 %]", "restart of stage 1 has nothing to begin again"),
        ("[50 %, {samples: 50 %, restart: true, warmup: 1.7k}]", "warmup 1700 is longer than the schedule of 1600"),
        ("[50 %, {samples: 50 %, model: ViT-w32d2-4}]", "model of stage 2 ViT-w32d2-4 has other towers"),
        ("[50 %, {samples: 50 %, image_size: 30}]", "stages: ViT-w16d1-4"),
        ("[50 %, {samples: 50 %, masks: 0}]", "unknown key 'masks' in stage"),
        ("[50 %, {samples: 120 %}]", "'120 %' is not a count"),
    ],
)
def test_stages_that_are_not_those_of_one_run_are_refused(tmp_path: Path, stages: str, complaint: str) -> None:
    with pytest.raises(StudyError) as error:
        planned(tmp_path, stages)
    assert complaint in str(error.value)


@pytest.mark.parametrize(
    ("base", "complaint"),
    [
        ("tuning: 320", "a tuning is a last stage with restart: true"),
        ("trainer: open_clip, data: {webdataset: a.tar}", "open_clip's program cannot go on with a schedule"),
    ],
)
def test_stages_do_not_go_with(tmp_path: Path, base: str, complaint: str) -> None:
    with pytest.raises(StudyError) as error:
        planned(tmp_path, SMALL_FIRST, **{"mask_ratio: 0.5": base})
    assert complaint in str(error.value)


def test_open_clips_program_takes_stages_that_restart(tmp_path: Path) -> None:
    given = {"mask_ratio: 0.5": "trainer: open_clip, data: {webdataset: a.tar}"}
    runs = planned(tmp_path, "[50 %, {samples: 50 %, restart: true, warmup: 32, lr: 1e-5}]", **given).runs
    assert runs[0].settings.stages is None


def test_one_schedule_goes_over_all_stages_unless_one_restarts() -> None:
    growing = staged(800, 400, 400)
    assert [course_of(run) for run in lineage(growing)] == [Course(0, 1600), Course(800, 1600), Course(1200, 1600)]
    again = staged(800, {"samples": 400, "restart": True, "warmup": 0, "lr": 1e-5}, 400)
    assert [course_of(run) for run in lineage(again)] == [WHOLE, Course(0, 800), Course(400, 800)]
    assert [goes_on(run) for run in lineage(again)] == [False, False, True]
    assert [(stage(run).lr, stage(run).warmup) for run in lineage(again)] == [(1e-3, 160), (1e-5, 0), (1e-5, 0)]
    assert course_of(settings_of(tuning={"samples": 320})) == WHOLE


def test_a_stages_own_rate_is_its_own() -> None:
    assert [stage(run).lr for run in lineage(staged({"samples": 800, "lr": 1e-4}, 800))] == [1e-4, 1e-3]


def test_a_prefix_is_one_run_however_it_is_said() -> None:
    small = {"samples": 800, "image_size": 12}
    tail, larger = staged(small, 800), staged(small, 800, image_size=56)
    assert run_id(tail) != run_id(larger)
    assert run_id(parent_of(tail)) == run_id(parent_of(larger))
    shares = staged({"samples": "50 %", "image_size": 12, "flip": False}, "50 %")
    assert run_id(shares) == run_id(tail)
    assert read_settings(plain(tail)) == tail


@pytest.mark.parametrize(
    "last", [{"samples": 800, "restart": True, "lr": 1e-5}, {"samples": 800, "mask_ratio": 0.0}], ids=str
)
def test_a_prefix_that_does_not_depend_on_what_follows_is_the_plain_run(last: dict[str, object]) -> None:
    alone = settings_of(samples=800, image_size=12, warmup=160, schedule="constant")
    run = staged({"samples": 800, "image_size": 12}, last, warmup=160, schedule="constant", cooldown=400)
    parent = parent_of(run)
    if "restart" in last:  # It has a cooldown of its own.
        alone = replace(alone, cooldown=400)
    assert run_id(parent) == run_id(alone)
    assert parent.stages is None


def test_the_mean_of_the_last_weights_is_the_last_stages() -> None:
    averaged = staged(800, 800, average=0.5)
    assert run_id(parent_of(averaged)) == run_id(parent_of(staged(800, 800)))
    assert [stage(run).average for run in lineage(averaged)] == [0.0, 0.5]


def test_a_cosine_over_another_length_has_another_prefix() -> None:
    assert run_id(parent_of(staged(800, 800))) != run_id(parent_of(staged(800, 1600, samples=2400)))


def test_a_tuning_is_the_last_stage_that_restarts() -> None:
    tuned = settings_of(mask_ratio=0.5, tuning={"samples": 320, "image_size": 12})
    last = {"samples": 320, "restart": True, "lr": 1e-5, "warmup": 64, "mask_ratio": 0.0, "image_size": 12}
    as_stage = staged(1600, last, samples=1920, mask_ratio=0.5)
    assert vars(stage(tuned)) == {**vars(stage(as_stage)), "tuning": tuned.tuning}
    assert run_id(parent_of(tuned)) == run_id(parent_of(as_stage))


def test_a_plan_says_what_a_shared_prefix_saves(tmp_path: Path) -> None:
    found = planned(tmp_path, SMALL_FIRST, "[{samples: 50 %, image_size: 12}, {samples: 50 %, mask_ratio: 0}]", "null")
    assert len(found.runs) == 4
    first = found.runs[0]
    whole = found.total.train_flops + first.cost.train_flops
    saved = 100 * first.cost.train_flops / whole
    assert found.sharing == f"1 trunk, 2 branches: {saved:.0f} % saved"
    assert planned(tmp_path, SMALL_FIRST, "null").sharing == ""


def test_lengths_with_one_constant_prefix_share_it_and_those_prefixes_share_a_trunk(tmp_path: Path) -> None:
    given = {"mask_ratio: 0.5": "data_size: 600, schedule: constant, warmup: 64"}
    axis = {"axes:\n": "axes:\n  samples: [3200, 6400]\n"}
    runs = planned(tmp_path, "[50 %, {samples: 50 %, flip: true}]", **given, **axis).runs
    assert [run.trunk and run.trunk.samples for run in runs] == [None, None, 1600, None]
    assert [run.settings.samples for run in runs] == [1600, 3200, 3200, 6400]


def test_a_stage_costs_what_a_run_of_its_settings_costs(tmp_path: Path) -> None:
    first, last = planned(tmp_path, "[{samples: 50 %, image_size: 12}, {samples: 50 %, mask_ratio: 0}]").runs
    alone = {"model": "ViT-w16d1-4", "text_length": 16, "batch_size": 32, "samples": 1600}
    assert first.cost == cost(settings_of(**alone, image_size=12, mask_ratio=0.5), first.resources)
    assert last.cost == cost(settings_of(**alone), last.resources)


def test_flops_pay_for_stages_by_their_shares(tmp_path: Path) -> None:
    (run,) = planned(tmp_path, SMALL_FIRST, **{"samples: 3200": "samples: 1e10 FLOPs"}).cells
    path = [cost(stage(each)).train_flops for each in lineage(run.settings)]
    assert sum(path) == pytest.approx(1e10, rel=0.01)
    with pytest.raises(StudyError, match="the stages have counts of samples; write shares such as 60 %"):
        planned(tmp_path, "[1600, 1600]", **{"samples: 3200": "samples: 1e10 FLOPs"})


def test_coupled_stages_follow_the_cell(tmp_path: Path) -> None:
    coupled = """couple:
  stages: [1.6k, {samples: samples - 1600, image_size: image_size * 2, mask_ratio: 0 if samples > 4000 else 0.5}]"""
    given = {"axes:\n  stages: [null]": f"axes: {{samples: [3200, 6400], image_size: [12, 28]}}\n{coupled}"}
    found = [cell.settings.stages[1] for cell in planned(tmp_path, "null", **given).cells]
    assert [(each.samples, each.image_size, each.mask_ratio) for each in found] == [
        (1600, 24, 0.5),
        (1600, 56, 0.5),
        (4800, 24, 0.0),
        (4800, 56, 0.0),
    ]
    given = {name: text.replace("image_size * 2", "image_sise * 2") for name, text in given.items()}
    with pytest.raises(StudyError, match=r"study.yaml:5: stages at .*: 'image_sise \* 2' is not a count"):
        planned(tmp_path, "null", **given)


def test_stages_that_are_added_after_gc_say_which_runs_to_train_anew(tmp_path: Path, capsys) -> None:
    stages = SMALL_FIRST, "[{samples: 50 %, image_size: 12}, {samples: 50 %, flip: true}]"
    file, results = tmp_path / "study.yaml", tmp_path / "results"
    runs = planned(tmp_path, *stages, **{"axes:\n": "seeds: 2\naxes:\n"}).runs
    first = [run for run in runs if not run.parents]
    for run in first:
        folder = RunFolder(results / "runs" / run.id)
        folder.ask(RunRequest.of(run))
        with folder.hold() as lease:
            (folder.path / "model.pt").touch()
            lease.write_result(Result(scores={}))
    assert main(["plan", str(file), "--results", str(results)]) == 0
    assert (
        f"4 runs cannot start: the last states of {first[0].id} and 1 other run are not here, as archives and gc leave "
        f"them out. Put each trunk.pt into its folder and submit again, or train them anew: submit with --redo "
        f"{first[0].id} {first[1].id}.\n"
    ) in capsys.readouterr().err
    (results / "runs" / first[0].id / "trunk.pt").touch()
    held, why = held_back([run for run in runs if run not in first], results)
    assert held == [run.id for run in runs if run.parents == (first[1].id,)]
    assert why.endswith(f"or train it anew: submit with --redo {first[1].id}.")


def test_words_of_stages() -> None:
    held = setting_value(staged({"samples": 0.6, "image_size": 12}, {"samples": 0.4, "mask_ratio": 0.0}).stages)
    assert held == "(samples=0.6, image_size=12) (samples=0.4, mask_ratio=0)"
    assert setting_words("stages", held) == "stages 60 % image size 12, then 40 % no mask"
    assert setting_words("stages", "null") == "stages none"
