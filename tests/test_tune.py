"""`tune:`: what a sweep chooses, that what follows it starts by itself, and what is refused."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flipscale import Workspace
from flipscale.analysis.fitting import optimum_law
from flipscale.door.sweep import TriedValue, TunedArm, expected_best, vertex
from flipscale.errors import FlipscaleError, PlanError, ResultsError, StudyError
from flipscale.launch.launcher import JobState, Request
from flipscale.next_runs import further_values
from flipscale.next_runs.proposal import extended
from flipscale.planning.runs import plan, plan_at
from flipscale.run import FailureKind, Job, Result, RunFolder
from flipscale.settings.declarations import Settings
from flipscale.study import Sweep, read_study, with_choice
from flipscale.workflow.compared import compare_study
from flipscale.workflow.drawn import draw_study, report_study
from flipscale.workflow.opened import open_study, sweep_words, swept_table
from flipscale.workflow.submitted import train_study

STUDY = """\
schema: 1
question: Does a mask cost accuracy, each arm at its own rate?
base: {model: ViT-w16d1-4, image_size: 28, text_length: 16, data: shapes, batch_size: 32}
axes: {mask_ratio: [0, 0.5], samples: [640, 1280]}
seeds: 2
score: zero_shot_top1
tune:
  over: {lr: [1e-3, 2e-3, 4e-3, 8e-3]}
  seeds: [100, 101]
  at: {samples: 640}
"""

DIVIDES = "couple: {lr: 1e-3 / mask_ratio}\ntune:\n  over: {lr: 'x[0.5, 1, 2]'}"

GUESSING = math.log(64)

Loss = Callable[[Settings], float | None]


def bowl(run: Settings) -> float:
    """A parabola in log2 of the rate, with its least loss at 0.003 without a mask and at 0.0024 with one."""
    best = 0.003 if run.mask_ratio == 0 else 0.0024
    return 2 + 0.2 * math.log2(run.lr / best) ** 2 + 0.01 * (run.seed % 10)


class AtOnce:
    """A launcher whose runs end as they are submitted, with this held-out loss; None is a divergence."""

    ends_with_the_watcher = True
    poll_seconds = 0.01
    study = ""
    site_name = "made up"

    def __init__(self, loss: Loss = bowl, most: int | None = None):
        self.loss, self.most = loss, most
        self.trained: list[str] = []

    def submit(self, requests: Sequence[Request]) -> Iterator[Job]:
        for request in requests:
            if self.most is not None and len(self.trained) >= self.most:
                raise KeyboardInterrupt
            self.trained.append(request.id)
            settings = request.asked.settled
            loss = self.loss(settings)
            if loss is None:
                request.folder.write_error(FailureKind.DIVERGED, "The loss is not a number.", noted=True)
            else:
                with request.folder.hold() as lease:
                    scores = {"held_out_loss": loss, "zero_shot_top1": 1 / loss}
                    lease.write_result(Result(scores=scores, chance={"held_out_loss": GUESSING}, samples_seen=640))
            yield Job(request.id, "local", "1", submitted=0, log="")

    def preview(self, requests: Sequence[Request]) -> str:
        return ""

    def poll(self, jobs: Sequence[Job], *, closely: bool = False) -> dict[str, JobState]:
        return {}

    def cancel(self, jobs: Sequence[Job], study: str | None = None) -> Sequence[str]:
        return ()


@pytest.fixture
def study(tmp_path: Path) -> "Written":
    return Written(tmp_path)


class Written:
    """A study file, with parts of it replaced, and its results folder."""

    def __init__(self, folder: Path):
        self.workspace = Workspace(folder / "results", folder / "plots")
        self.file = folder / "tuned.yaml"

    def __call__(self, *changes: tuple[str, str]) -> Path:
        text = STUDY
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        self.file.write_text(text)
        return self.file

    def run(self, launcher: AtOnce, *changes: tuple[str, str]):
        opened = open_study(self(*changes), self.workspace)
        return train_study(opened, launcher)[0]


# What is chosen


def arm(losses: Sequence[float | None], *, error: float = 0.0, chance: float = GUESSING, **rule: Any) -> TunedArm:
    values = (1.0, 2.0, 4.0, 8.0)
    tried = [TriedValue(value, {f"run-{value}": (100, loss)}) for value, loss in zip(values, losses, strict=True)]
    return TunedArm(((),), "", tuple(tried), chance, error, replace(RULE, **rule))


RULE = Sweep("lr", (1, 2, 4, 8), None, (100,), "held_out_loss", "parabola", tie=0, extend=0, at={}, arm=())


def test_the_vertex_of_a_known_parabola_is_found_on_a_grid_of_any_spacing() -> None:
    for values in ((1e-3, 2e-3, 4e-3), (1e-3, 1.5e-3, 8e-3)):
        losses = [2 + 0.3 * math.log2(value / 2.2e-3) ** 2 for value in values]
        assert vertex(values, losses) == 2.2e-3


def test_the_middle_value_is_taken_beside_a_divergence_and_where_all_are_level() -> None:
    assert vertex((1, 2, 4), (3.0, 2.0, math.inf)) == 2
    assert vertex((1, 2, 4), (2.0, 2.0, 2.0)) == 2
    assert arm([3.0, 2.5, 2.0, None]).chosen == 4


def test_the_choice_is_the_vertex_or_the_best_of_the_grid() -> None:
    assert arm([3.0, 2.0, 2.0, 3.0]).chosen == pytest.approx(2.83)
    assert arm([3.0, 2.1, 2.0, 3.0], pick="grid").chosen == 4


def test_a_tie_takes_the_lower_value() -> None:
    assert arm([3.0, 2.0, 2.0, 3.0], pick="grid").chosen == 2
    assert arm([3.0, 2.01, 2.0, 3.0], pick="grid", tie=1).chosen == 2
    assert arm([3.0, 2.03, 2.0, 3.0], pick="grid", tie=1).chosen == 4
    accuracies = [0.5, 0.699, 0.7, 0.5]
    for tie, chosen in ((0.2, 2), (0, 4)):
        assert arm(accuracies, chance=0.1, pick="grid", tie=tie, by="zero_shot_top1").chosen == chosen


@pytest.mark.parametrize(
    ("losses", "why"),
    [
        ([2.0, 2.5, 3.0, 3.5], "its best value, 1, is the lowest tried; add one: over: {lr: [0.5, 1, 2, 4, 8]}"),
        ([3.5, 3.0, 2.5, 2.0], "its best value, 8, is the highest tried; add one: over: {lr: [1, 2, 4, 8, 16]}"),
        ([3.0, 2.0, None, 2.2], "its curve has two minima, at 2 and 8; add values between them, or more seeds"),
        (
            [GUESSING, GUESSING, GUESSING - 1e-9, GUESSING + 1e-9],
            "no value is better than guessing (4.159); give it more samples, or leave it out (exclude)",
        ),
        ([None] * 4, "training diverged at every value; try lower ones: over: {lr: [0.5, 1, 2, 4, 8]}"),
    ],
)
def test_no_value_is_chosen(losses: list[float | None], why: str) -> None:
    assert (arm(losses).chosen, arm(losses).refusal) == (None, why)


def test_a_dip_within_the_noise_is_no_second_minimum() -> None:
    assert arm([3.0, 2.0, 2.6, 2.55], error=0.1).chosen == 2.18
    assert arm([3.0, 2.0, 2.6, 2.55], error=0.01).chosen is None


def test_without_seeds_the_residual_of_a_parabola_is_the_noise_of_a_dip() -> None:
    dip = arm([3.0, 2.4, 2.403, 2.402])
    xs = [0, 1, 2, 3]
    residuals = dip.losses - np.polyval(np.polyfit(xs, dip.losses, 2), xs)
    assert dip.noise == pytest.approx(math.sqrt((residuals**2).sum()))
    assert (dip.refusal, dip.chosen) == ("", 2.82)


def test_a_wiggle_at_rates_that_learned_nothing_is_no_second_minimum() -> None:
    at_chance = [GUESSING - 1e-4, GUESSING + 7e-4]
    flat = arm([3.0, 2.0, *at_chance])
    assert (flat.refusal, flat.chosen) == ("", 1.76)
    dip = arm([GUESSING - 8e-4, GUESSING, 2.0, 3.0], error=1e-5)
    assert dip.refusal == ""


def test_the_expected_best_of_n_is_the_mean_over_all_choices_of_n() -> None:
    scores = [0.3, 0.9, 0.5, 0.6, 0.1]
    for lower, best in ((False, max), (True, min)):
        of_all = [list(map(best, combinations(scores, n))) for n in range(1, 6)]
        assert expected_best(scores, lower=lower) == pytest.approx([sum(each) / len(each) for each in of_all])


# What is planned


def test_the_sweep_comes_first_and_what_follows_is_counted_and_priced(study) -> None:
    planned = plan(read_study(study()))
    assert (len(planned.runs), len(planned.following), planned.cells) == (16, 8, ())
    assert {run.settings.samples for run in planned.runs} == {640}
    assert {run.settings.seed for run in planned.runs} == {100, 101}
    assert planned.runs[0].name == "no mask, 640 samples, lr 0.001, seed 100"
    assert planned.total.runs == 24
    assert planned.to_dict()["following"] == 8


def test_a_budget_names_the_cell_of_each_arm_that_tries_the_values(study) -> None:
    budgets = ("samples: [640, 1280]", "samples: [1e9 FLOPs, 2e9 FLOPs]"), ("samples: 640", "samples: 1e9 FLOPs")
    planned = plan(read_study(study(*budgets)))
    assert (len(planned.runs), len(planned.following)) == (16, 8)
    assert {(run.settings.mask_ratio, run.settings.samples) for run in planned.runs} == {(0, 352), (0.5, 495)}


def test_factors_multiply_the_studys_own_rule(study) -> None:
    rule = ("axes:", "couple: {lr: 4e-6 * samples}\naxes:")
    file = study(("[1e-3, 2e-3, 4e-3, 8e-3]", "'x[0.5, 1, 2]'"), ("  at: {samples: 640}\n", ""), rule)
    rates = {(run.settings.samples, run.settings.lr) for run in plan(read_study(file)).runs}
    assert rates == {(640, factor * 4e-6 * 640) for factor in (0.5, 1, 2)} | {
        (1280, factor * 4e-6 * 1280) for factor in (0.5, 1, 2)
    }


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("[100, 101]", "[1, 100]", "tuned.yaml:9: seed 1 is also compared"),
        ("{lr: [1e-3, 2e-3, 4e-3, 8e-3]}", "{lr: [1e-3, 2e-3]}", "2 values cannot show a best one between others"),
        ("{lr: [1e-3, 2e-3, 4e-3, 8e-3]}", "{rate: [1]}", "unknown setting 'rate'"),
        ("{lr: [1e-3, 2e-3, 4e-3, 8e-3]}", "{lr: [0, 1, 2]}", "0 is out of range"),
        ("{lr: [1e-3, 2e-3, 4e-3, 8e-3]}", "{samples: [640, 1280, 2560]}", "'samples' is also an axis"),
        (
            "{lr: [1e-3, 2e-3, 4e-3, 8e-3]}",
            "{crop: 'x[0.5, 0.7, 1]'}",
            "factors need a rule; give crop in base or couple",
        ),
        ("tune:\n  over: {lr: [1e-3, 2e-3, 4e-3, 8e-3]}", DIVIDES, "'tune.over.lr' divides by zero at mask_ratio 0"),
        ("batch_size: 32}", "batch_size: 32, lr: 1e-3}", "'lr' is chosen by tune; remove it here"),
        ("at: {samples: 640}", "at: {samples: 700}", "has samples 700; add it, or tune at another one"),
        ("at: {samples: 640}", "by: top2", "'top2' is not a score"),
        ("at: {samples: 640}", "by: other.zero_shot_top1", "is a score of the set 'other'"),
    ],
)
def test_what_is_wrong_in_a_study_is_said_with_its_line(study, old: str, new: str, why: str) -> None:
    with pytest.raises(StudyError) as error:
        read_study(study((old, new)))
    assert why in str(error.value)


def test_a_length_that_was_not_swept_can_be_forecast_and_is_no_run_of_the_study(study) -> None:
    read = read_study(study(("{lr: [1e-3", "{grad_clip: [1e-3"), ("  at: {samples: 640}\n", "")))
    tuned = with_choice(read, dict.fromkeys((each.arm for each in plan(read).swept), 2e-3))
    assert len(plan_at(tuned, {"mask_ratio": 0, "samples": 5120}).runs) == 1
    assert {cell.grad_clip for cell in extended(tuned, {}).cells} == {2e-3}
    with pytest.raises(PlanError, match=r"'tune.over.grad_clip' chose no value for this arm at mask_ratio 0"):
        further_values(tuned, {"samples": [5120]})


# From the sweep to the comparison


def test_what_follows_starts_by_itself_with_what_was_chosen_for_each_arm(study) -> None:
    launcher = AtOnce()
    opened = study.run(launcher)
    assert len(launcher.trained) == len(set(launcher.trained)) == 24
    assert {(run.settings.mask_ratio, run.settings.lr) for run in opened.plan.cells} == {(0, 0.003), (0.5, 0.0024)}
    assert sweep_words(opened) == (
        "lr was chosen from 4 values by held-out loss, nats on other seeds (100 and 101): "
        "0.003 for no mask and 0.0024 for mask 50 %."
    )
    written = study.file.with_name("by_hand.yaml")
    by_hand = STUDY[: STUDY.index("tune:")] + "couple: {lr: 0.003 if mask_ratio == 0 else 0.0024}\n"
    written.write_text(by_hand)
    assert [run.id for run in opened.plan.cells] == [run.id for run in plan(read_study(written)).runs]


def test_arms_that_share_their_runs_have_the_same_choice(study) -> None:
    shapes = ("samples: [640, 1280]}", "mask_shape: [random, gaussian]}\nbaseline: {mask_ratio: 0, mask_shape: random}")
    opened = study.run(
        AtOnce(), shapes, ("batch_size: 32", "batch_size: 32, samples: 640"), ("  at: {samples: 640}\n", "")
    )
    assert {(cell.mask_ratio, cell.mask_shape, cell.lr) for cell in opened.study.cells} == {
        *((0, shape, 0.003) for shape in ("random", "gaussian")),
        *((0.5, shape, 0.0024) for shape in ("random", "gaussian")),
    }
    assert (len(opened.plan.runs), len(swept_table(opened))) == (30, 24)
    assert compare_study(opened).runs == 6


def test_the_answer_the_report_and_a_figure_show_the_choice(study) -> None:
    opened = study.run(AtOnce())
    comparison = compare_study(opened)
    assert comparison.caveats[0] == sweep_words(opened)
    assert comparison.runs == 8
    assert study.workspace.plots / "tuned" / "tune.svg" in draw_study(opened).files
    page = report_study(opened).path.read_text()
    assert "Settings chosen for each arm" in page
    assert "Expected best score of n values" in page
    assert "(runs of the sweep)" in page
    assert "(parents of others)" not in page


def test_the_sizes_of_an_arm_share_a_value_by_one_parabola_with_an_intercept_for_each(study) -> None:
    def loss(run: Settings) -> float:
        return bowl(run) + (1 if run.samples == 640 else 0) + (0.3 if run.lr == 1e-3 and run.samples == 640 else 0)

    opened = study.run(AtOnce(loss), ("at: {samples: 640}", "pool: budgets"))
    assert len(opened.plan.swept) == 2 * 2 * 4 * 2
    assert {(run.settings.mask_ratio, run.settings.lr) for run in opened.plan.cells} == {(0, 0.003), (0.5, 0.00251)}
    assert [arm.words for arm in opened.sweep.arms] == ["no mask", "mask 50 %"]


def test_the_best_values_of_a_sweep_follow_a_law(study) -> None:
    lengths = ("samples: [640, 1280]", "samples: [640, 1280, 2560, 5120]")
    opened = study.run(
        AtOnce(lambda run: 2 + 0.2 * math.log2(run.lr / (0.0025 * (run.samples / 640) ** 0.25)) ** 2),
        lengths,
        ("  at: {samples: 640}\n", ""),
    )
    table = swept_table(opened).query("mask_ratio == 0")
    law = optimum_law(table, "lr", x=["samples"], y="held_out_loss")
    assert law.exponents == pytest.approx((0.25,), abs=0.002)


def test_a_killed_sweep_goes_on_and_trains_nothing_twice(study) -> None:
    first = AtOnce(most=5)
    with pytest.raises(KeyboardInterrupt):
        study.run(first)
    second = AtOnce()
    opened = study.run(second)
    assert (len(first.trained), len(second.trained)) == (5, 19)
    assert len(opened.plan.cells) == 8


def test_a_kill_between_sweep_and_comparison_loses_nothing(study) -> None:
    first, second = AtOnce(most=16), AtOnce()
    with pytest.raises(KeyboardInterrupt):
        study.run(first)
    study.run(second)
    assert len(second.trained) == 8
    assert not {*first.trained} & {*second.trained}


def test_a_fresh_clone_has_the_choice_by_tune_json(study) -> None:
    opened = study.run(AtOnce())
    compare_study(opened)
    (study.workspace.runs).rename(study.workspace.results / "elsewhere")
    again = open_study(opened.file, opened.workspace)
    assert [run.id for run in again.plan.cells] == [run.id for run in opened.plan.cells]
    assert compare_study(again).runs == 8


def test_an_edge_stops_the_study_before_what_follows_and_says_what_to_add(study) -> None:
    launcher = AtOnce(lambda run: 2 + 0.2 * math.log2(run.lr / 0.0005) ** 2)
    with pytest.raises(FlipscaleError) as error:
        study.run(launcher)
    assert str(error.value).startswith(
        "The sweep chose no lr, so 8 runs do not start. no mask: its best value, 0.001, is the lowest tried; "
        "add one: over: {lr: [0.0005, 0.001, 0.002, 0.004, 0.008]}. mask 50 %: "
    )
    assert len(launcher.trained) == 16
    assert (study.workspace.plots / "tuned" / "tune.svg").exists()
    with pytest.raises(ResultsError, match="The sweep chose no lr"):
        compare_study(open_study(study.file, study.workspace))


def test_the_report_of_a_sweep_that_chose_nothing_says_why(study) -> None:
    baseline = ("seeds: 2", "seeds: 2\nbaseline: {mask_ratio: 0}")
    with pytest.raises(FlipscaleError, match="is the lowest tried"):
        study.run(AtOnce(lambda run: 2 + run.lr), baseline)
    page = report_study(open_study(study.file, study.workspace)).path.read_text()
    assert "no mask: its best value, 0.001, is the lowest tried" in page
    assert "16 of 16 runs finished" in page
    assert "no compared run has finished yet" in page
    assert "0 runs on" not in page


def test_runs_of_the_sweep_that_lack_only_their_score_have_ended(study) -> None:
    with pytest.raises(KeyboardInterrupt):
        study.run(AtOnce(most=16))
    later = "base: {evaluation: {sets: {later: shapes}}, "
    opened = open_study(study(("base: {", later), ("  at:", "  by: later.zero_shot_top1\n  at:")), study.workspace)
    assert sweep_words(opened) == (
        "16 of 16 runs of the sweep have ended, 16 of them not scored yet, which flipscale submit does; "
        "8 runs follow with the lr that it chooses."
    )


def test_one_run_that_follows_is_said_in_the_singular(study) -> None:
    one = (", samples: [640, 1280]", ""), ("[0, 0.5]", "[0.5]"), ("batch_size: 32", "batch_size: 32, samples: 640")
    file = study(*one, ("seeds: 2", "seeds: 1"), ("  at: {samples: 640}\n", ""))
    said = sweep_words(open_study(file, study.workspace))
    assert said == "0 of 8 runs of the sweep have ended; 1 run follows with the lr that it chooses."


def test_extend_adds_values_at_an_edge_and_no_more_than_allowed(study) -> None:
    def loss(run: Settings) -> float:
        return 2 + 0.2 * math.log2(run.lr / (0.0004 if run.mask_ratio else 0.003)) ** 2

    launcher = AtOnce(loss)
    opened = study.run(launcher, ("at: {samples: 640}", "at: {samples: 640}\n  extend: 2"))
    assert {run.settings.lr for run in opened.plan.cells} == {0.003, 0.0004}
    assert len(launcher.trained) == 16 + 2 * 2 + 8
    with pytest.raises(FlipscaleError, match="is the lowest tried"):
        study.run(
            AtOnce(lambda run: run.lr), ("at: {samples: 640}", "at: {samples: 640}\n  extend: 1"), ("shapes", "fashion")
        )


def test_a_divergence_counts_as_the_worst_and_a_failure_stops_the_study(study) -> None:
    launcher = AtOnce(lambda run: None if run.lr > 0.005 else bowl(run))
    opened, unfinished = train_study(open_study(study(), study.workspace), launcher)
    assert unfinished == 0
    assert {run.settings.lr for run in opened.plan.cells} == {0.004, 0.0024}
    lost = RunFolder(study.workspace.run(opened.plan.runs[0].id))
    lost.path.joinpath("result.json").unlink()
    study.workspace.study("tuned").tune.unlink()
    assert sweep_words(open_study(opened.file, opened.workspace)) == (
        "15 of 16 runs of the sweep have ended; 8 runs follow with the lr that it chooses."
    )
