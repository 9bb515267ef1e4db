"""`next`: the runs that tell most about a study's open questions for their cost."""

import json
import math
import re
import shutil
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flipscale.analysis.fitting import fit
from flipscale.analysis.stats import Design
from flipscale.cell import write_cell
from flipscale.cli import main
from flipscale.collecting import read_results, setting_value
from flipscale.door.columns import SETTING_COLUMNS
from flipscale.errors import PlanError, ResultsError
from flipscale.next_runs import Candidate, Quantity, Rung, choose, further_values, propose, study_with, with_grids
from flipscale.next_runs.choice import COST_POWER
from flipscale.next_runs.proposal import extended, proposal_parts
from flipscale.next_runs.quantities import claim_of, parameter_of, share_left
from flipscale.planning.runs import plan
from flipscale.study import read_study
from flipscale.workflow import proposed
from flipscale.workflow.compared import compare_study
from flipscale.workflow.opened import OpenStudy, open_study
from flipscale.workflow.proposed import next_rung, next_runs
from flipscale.workspace import Workspace

ROOT = Path(__file__).parents[1]


COMPARED = cache(lambda name: compare_study(open_study(ROOT / f"studies/{name}.yaml", Workspace(ROOT / "results"))))
"""The comparison of a committed study, made once for all tests."""


@pytest.fixture
def finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "Finished":
    monkeypatch.setattr(proposed, "compare_study", lambda opened: COMPARED(opened.study.name))
    return Finished(tmp_path)


@pytest.fixture
def rung(finished: "Finished") -> Rung:
    """The next rung of isoflop, found once for all tests."""
    if not RUNGS:
        RUNGS.append(next_rung(finished("isoflop"), 3e12, {}))
    return RUNGS[0]


RUNGS: list[Rung] = []


class Finished:
    """Committed studies as a fresh clone has them: a table, and no run folders."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __call__(self, name: str) -> OpenStudy:
        (self.folder / name).mkdir(exist_ok=True)
        shutil.copy(ROOT / f"results/{name}/results.csv", self.folder / name)
        return open_study(ROOT / f"studies/{name}.yaml", Workspace(self.folder))


def one(variance: float) -> Quantity:
    return Quantity(np.array([[variance]]), np.ones(1))


def a_run(name: str, *gradient: float, of: int = 0) -> Candidate:
    return Candidate(of, np.array(gradient), 1.0, (name,))


def test_a_further_seed_lowers_the_variance_of_a_mean_from_1_in_n_to_1_in_n_plus_1() -> None:
    assert one(1 / 4).after(np.ones(1), 1.0).variance == pytest.approx(1 / 5)
    _, (after,) = choose(
        [one(1 / 4)],
        [a_run(f"seed {n}", 1.0) for n in range(3)],
        dict.fromkeys("abc", 1.0) | {f"seed {n}": 1.0 for n in range(3)},
        budget=3.0,
    )
    assert after.variance == pytest.approx(1 / 7)


def test_at_equal_cost_the_run_is_chosen_after_which_the_variance_is_lowest() -> None:
    rng = np.random.default_rng(0)
    root = rng.standard_normal((3, 3))
    asked = Quantity(root @ root.T, rng.standard_normal(3))
    runs = [a_run(f"{n}", *rng.standard_normal(3)) for n in range(20)]
    chosen, _ = choose([asked], runs, {f"{n}": 1.0 for n in range(20)}, budget=1.0)
    precisions = [np.linalg.inv(asked.covariance) + np.outer(run.gradient, run.gradient) for run in runs]
    left = [asked.gradient @ np.linalg.inv(precision) @ asked.gradient for precision in precisions]
    assert [run.runs[0] for run in chosen] == [f"{int(np.argmin(left))}"]


def test_a_run_that_costs_more_must_tell_more() -> None:
    dear, cheap = a_run("dear", 1.0), a_run("cheap", 0.5)
    gains = [1 - one(1.0).after(run.gradient, 1.0).variance for run in (dear, cheap)]
    even = (gains[0] / gains[1]) ** (1 / COST_POWER)
    for factor, first in ((0.95, "dear"), (1.05, "cheap")):
        chosen, _ = choose([one(1.0)], [dear, cheap], {"dear": factor * even, "cheap": 1.0}, budget=100.0)
        assert chosen[0].runs == (first,)


def test_nothing_beyond_the_budget_is_chosen_and_a_run_of_two_contrasts_is_paid_once() -> None:
    baseline_and = [Candidate(of, np.ones(1), 1.0, ("baseline", f"arm {of}")) for of in (0, 1)]
    costs = {"baseline": 2.0, "arm 0": 1.0, "arm 1": 1.0}
    chosen, _ = choose([one(1.0), one(1.0)], baseline_and, costs, budget=4.0)
    assert {run for candidate in chosen for run in candidate.runs} == {"baseline", "arm 0", "arm 1"}
    chosen, _ = choose([one(1.0), one(1.0)], baseline_and, costs, budget=3.9)
    assert len(chosen) == 1


def test_seeds_that_show_two_sides_level_do_so_in_four_of_five_draws() -> None:
    design = Design(sd=1.0, prior_df=4.0)
    seeds = design.seeds_for_level(margin=1.0)
    assert seeds is not None
    rng = np.random.default_rng(1)
    # The shrunken variance has the prior's degrees of freedom beside those of the seeds.
    df = 4 + seeds - 1
    means = rng.standard_normal(20_000) / math.sqrt(seeds)
    errors = np.sqrt(rng.chisquare(df, 20_000) / df / seeds)
    from scipy.stats import t

    shown = np.abs(means) + t.ppf(0.95, df) * errors < 1.0
    assert 0.76 < shown.mean() < 0.92


def test_undecided_claims_of_a_committed_study_get_seeds_within_the_budget(finished: Finished) -> None:
    opened = finished("recipe")
    found = next_runs(opened, 0.3, None, {})
    assert 0.27 < found.hours <= 0.3
    assert {step.asked.name for step in found.steps} <= {claim.name for claim in opened.study.claims}
    ran = {run.id for run in opened.plan.runs}
    assert not ran & {run.id for run in found.runs}
    assert found.hours == pytest.approx(sum(run.cost.gpu_hours for run in found.runs))
    for step in found.steps:
        assert step.asked.contrast is not None
        have, more = step.asked.contrast.seeds, len(step.seeds)
        assert step.share**2 == pytest.approx(have / (have + more))


def test_a_row_names_its_seeds_with_their_gaps(finished: Finished) -> None:
    found = next_runs(finished("flip"), 0.1, "at equal samples a mask of 50 % is worse", {})
    for seeds, words in (((7,), "seed 7"), ((5, 6, 7), "seeds 5 to 7"), ((5, 7, 8, 10), "seeds 5, 7 to 8 and 10")):
        step = replace(found.steps[0], seeds=seeds)
        assert proposal_parts(replace(found, steps=(step,)))[0].rows[0][0] == f"{words} of 2 cells"


def test_the_study_that_is_written_has_the_runs_of_the_old_one_and_those_chosen(
    finished: Finished, tmp_path: Path
) -> None:
    opened = finished("flip")
    found = next_runs(opened, 0.3, "tuning is better than none (mask_ratio=0.75)", {})
    written = tmp_path / "more.yaml"
    written.write_text(study_with(found))
    study = read_study(written)
    assert {run.id for run in plan(study).runs} == {run.id for run in (*opened.plan.runs, *found.runs)}
    assert [claim.name for claim in study.claims] == [claim.name for claim in opened.study.claims]


def test_a_study_that_next_wrote_keeps_its_runs_when_next_adds_to_it(finished: Finished, tmp_path: Path) -> None:
    study = finished("fashion").study
    written, again = tmp_path / "once.yaml", tmp_path / "twice.yaml"
    at = {"model": ["ViT-w32d2-4"], "data_size": [60_000], "samples": [32_000], "mask_ratio": [0.0]}
    written.write_text(with_grids(study, [at | {"seed": [3, 4]}], "2 runs more"))
    again.write_text(with_grids(read_study(written), [at | {"seed": [5]}], "1 run more"))
    assert len(plan(read_study(again)).runs) == 90 + 2 + 1


@pytest.mark.parametrize(
    ("study", "of"),
    [
        ("plateau", "speedup of mask_ratio=0.5, batch_size=128"),
        ("flip", "a of mask_ratio=0.5"),
        ("flip", "forecast mask_ratio=0.5,samples=256k"),
    ],
)
def test_other_quantities_become_more_certain_too(finished: Finished, study: str, of: str) -> None:
    found = next_runs(finished(study), 1.0, of, {"samples": [256_000]})
    assert found.steps[-1].share < 1
    assert found.hours <= 1.0


def test_what_as_many_seeds_again_would_find_is_said_where_no_effect_is_named(finished: Finished) -> None:
    opened, claim = finished("flip"), "at equal samples a mask of 50 % is worse"
    (said,) = next_runs(opened, 0.001, claim, {}).instead
    judged = next(one for one in COMPARED("flip").stated.claims if one.claim.name == claim)
    moments = COMPARED("flip").stated.noise.moments[claim]
    size = Design(moments.error * 15**0.5, 0.0, *judged.difference.family).detectable(30)
    assert said.startswith(f"{claim}: as many seeds again, ")
    assert f" core-hours more, would find {size:.2f} points with a chance of 80 %; to show both level (" in said
    assert said.endswith("; 15 have run")


def test_the_seeds_that_find_an_effect_are_said_where_the_study_or_the_user_names_it(finished: Finished) -> None:
    opened, claim = finished("flip"), "at equal samples a mask of 50 % is worse"
    (asked,) = next_runs(opened, 0.001, claim, {}, effect=0.5).instead
    assert asked.startswith(f"{claim}: to find 0.50 points takes about ")
    document = replace(opened.study.document, data={**opened.study.document.data, "margin": 0.5})
    study = replace(opened.study, document=document, margin=0.5)
    (written,) = next_runs(replace(opened, study=study), 0.001, claim, {}).instead
    assert written.partition(";")[0] == asked.partition(";")[0]


def test_a_seed_that_lacks_one_run_does_not_lower_the_price_of_further_seeds(finished: Finished) -> None:
    opened, claim = finished("joint"), "more data alone are better"
    judged = COMPARED("joint").stated
    asked = [claim_of(each, judged) for each in judged.claims if each.claim.name == claim]
    ran = {run.id: run.settings for run in opened.plan.runs}
    lacking = {run: settings for run, settings in ran.items() if not run.endswith("_s2_b857a9bd4d")}
    whole, partly = (propose(opened.study, asked, runs, 0.01).instead for runs in (ran, lacking))
    assert whole == partly


def test_the_interval_now_of_a_parameter_is_the_one_that_fit_prints(finished: Finished) -> None:
    (of_arm,) = [
        law
        for law in json.loads((ROOT / "results/flip/fits.json").read_text())["fits"]
        if law["group"] == {"mask_ratio": 0.75, "tuning": None}
    ]
    step = next_runs(finished("flip"), 0.05, "a of mask_ratio=0.75", {}).steps[0]
    assert step.asked.interval() == "0.166 to 0.849"
    assert step.asked.ends == pytest.approx(of_arm["intervals"]["a"], rel=1e-3)


def test_a_forecast_that_fit_refuses_has_the_interval_of_the_law_and_is_said_to_be_refused(finished: Finished) -> None:
    asked = next_runs(finished("flip"), 0.05, "forecast mask_ratio=0.75,samples=256k", {}).steps[0].asked
    assert asked.name.endswith("samples=256000, refused by fit as untested")
    assert asked.fit is not None
    low, high = asked.fit.band({"samples_seen": [256_000]})
    assert asked.interval() == f"{100 * low[0]:.1f} % to {100 * high[0]:.1f} %"


def test_the_interval_now_of_a_speed_up_is_the_corrected_one_that_compare_prints(finished: Finished) -> None:
    step = next_runs(finished("plateau"), 1.0, "speedup of mask_ratio=0.5, batch_size=128", {}).steps[0]
    assert np.exp(step.asked.ends) == pytest.approx([1.434, 1.844], rel=1e-3)
    low, high = (math.log(float(end.rstrip("x"))) for end in step.asked.interval(step.share).split(" to "))
    share = step.share
    assert [low, high] == pytest.approx(
        [math.log(1.609) + share * math.log(e / 1.609) for e in (1.434, 1.844)], abs=0.01
    )


def test_an_arm_of_several_series_is_asked_for_by_its_series_too(finished: Finished) -> None:
    with pytest.raises(ResultsError, match=r"mask_ratio=0\.5 is an arm of 6 series: name one of model=ViT-w16d1-4"):
        next_runs(finished("isoflop"), 1.0, "speedup of mask_ratio=0.5", {})
    name = "model=ViT-w32d2-4, mask_ratio=0.5"
    (step,) = next_runs(finished("isoflop"), 1.0, f"speedup of {name}", {}).steps
    assert step.asked.name == f"speed-up of {name}"
    assert {run.settings.model for run in step.runs} == {"ViT-w32d2-4"}


def test_a_study_without_curves_says_why_once(finished: Finished) -> None:
    with pytest.raises(ResultsError) as raised:
        next_runs(finished("icons"), 1.0, None, {})
    assert str(raised.value).count("one schedule length") == 1


def test_why_a_claim_has_no_interval_to_narrow_is_a_sentence_that_leaves_its_name_as_it_is() -> None:
    judged = COMPARED("flip").stated
    claim = judged.claims[0]
    for interval, said in (
        (None, f"No interval of {claim.claim.name!r} to narrow: an exact test decides it."),
        ((-math.inf, 1.0), f"The interval of {claim.claim.name!r} is open at one end; a longer or shorter schedule"),
    ):
        with pytest.raises(ResultsError, match=f"^{re.escape(said)}"):
            claim_of(replace(claim, difference=replace(claim.difference, interval=interval, corrected=None)), judged)


def test_an_axis_whose_base_no_cell_has_is_asked_at_the_first_cell(finished: Finished) -> None:
    with pytest.raises(ResultsError, match="all runs have the same flops_per_sample and samples_seen"):
        next_runs(finished("icons"), 1.0, "a of mask_ratio=0.75", {})


def test_what_is_no_quantity_is_refused_with_those_that_there_are(finished: Finished) -> None:
    with pytest.raises(ResultsError, match=r"There is no arm 'mask_ratio=0.6': did you mean 'mask_ratio=0.5'"):
        next_runs(finished("flip"), 1.0, "speedup of mask_ratio=0.6", {})
    with pytest.raises(ResultsError, match=r"There is no arm 'foo': choices: model=ViT[^;]*, mask_ratio=0.5; m"):
        next_runs(finished("joint"), 1.0, "speedup of foo", {})
    with pytest.raises(ResultsError, match="'forecast SETTING=VALUE"):
        next_runs(finished("flip"), 1.0, "beauty", {})


@pytest.mark.parametrize(
    ("axis", "value", "why"),
    [
        (
            "text_mask_ratio",
            0.5,
            "--add text_mask_ratio: joint has no such axis; it varies model, ",
        ),
        ("model", "ViT-nope", "model: unknown model 'ViT-nope'"),
        ("samples", 32, "--add samples=32 gives no cell: samples 32 is less than one batch of 64"),
    ],
)
def test_what_cannot_be_added_to_an_axis_is_refused(axis: str, value: object, why: str) -> None:
    with pytest.raises(PlanError, match=re.escape(why)):
        further_values(read_study(ROOT / "studies/joint.yaml"), {axis: [value]})


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        (["--budget", "30 minutes"], "'30 minutes': write a number of hours, such as 10."),
        (["--budget", " "], "' ': write a number of hours, such as 10."),
        (["--rung", "0 FLOPs"], "'0 FLOPs': write a number of FLOPs, such as 1e13."),
        (["--rung", "1e13", "--for", "a claim"], "leave it out beside --rung"),
    ],
)
def test_an_amount_that_is_not_understood_is_refused(asked: list[str], why: str, capsys) -> None:
    assert main(["next", str(ROOT / "studies/joint.yaml"), *asked]) == 1
    assert why in capsys.readouterr().err


def test_a_file_that_exists_is_not_written_over(tmp_path: Path, capsys) -> None:
    study = Path(shutil.copy(ROOT / "studies/flip.yaml", tmp_path))
    assert main(["next", str(study), "--budget", "1", "--write", str(study)]) == 1
    assert capsys.readouterr().err == f"{study}: exists already; give another name: --write NAME.yaml\n"
    assert study.read_text() == (ROOT / "studies/flip.yaml").read_text()


def test_the_folder_of_the_file_to_write_is_made(finished: Finished, tmp_path: Path) -> None:
    opened, written = finished("flip"), tmp_path / "new" / "more.yaml"
    asked = ["--for", "at equal samples a mask of 50 % is worse", "--results", str(tmp_path)]
    assert main(["next", str(opened.file), "--budget", "0.1", *asked, "--write", str(written)]) == 0
    assert read_study(written).name == "more"


def test_no_seed_of_the_sweep_is_compared_next(tmp_path: Path) -> None:
    file = tmp_path / "tuned.yaml"
    base = "{model: ViT-w16d1-4, image_size: 28, text_length: 16, data: shapes, samples: 640, batch_size: 32}"
    tune = "{over: {lr: [1e-3, 2e-3, 4e-3]}, seeds: [3, 5]}"
    file.write_text(f"schema: 1\nbase: {base}\nseeds: 3\ntune: {tune}\n")
    seeds = [cell.seed for cell in extended(read_study(file), {}).cells if cell.samples == 640]
    assert seeds == [0, 1, 2, 4, *range(6, 25)]


LENGTHS = """\
schema: 1
base: {model: ViT-w16d1-4, image_size: 28, text_length: 16, data_size: 600, schedule: constant, warmup: 64,
       batch_size: 32, lr: 1e-3}
axes: {samples: [3200, 6400, 12800, 25600]}
couple: {cooldown: samples // 5}
seeds: 4
"""


def opened_with_lengths(tmp_path: Path) -> OpenStudy:
    """The study of lengths, finished."""
    (tmp_path / "lengths.yaml").write_text(LENGTHS)
    opened = open_study(tmp_path / "lengths.yaml", Workspace(tmp_path))
    rng = np.random.default_rng(0)
    luck = 0.1 * rng.standard_normal((4, 4)).cumsum(axis=1)
    rows = []
    for run in opened.plan.cells:
        settings, flops = run.settings, run.cost.flops_per_sample
        length = int(math.log2(settings.samples // 3200))
        score = 1 / (1 + math.exp(1 - 0.4 * length + luck[settings.seed, length] + 0.02 * rng.standard_normal()))
        row = {name: setting_value(getattr(settings, name)) for name in SETTING_COLUMNS if hasattr(settings, name)}
        row |= {"id": run.id, "study": "lengths", "cell": write_cell(run.cell or ()), "zero_shot_top1": score}
        rows.append(row | {"samples_seen": settings.samples, "flops_per_sample": flops, "params": 1e6})
    (tmp_path / "lengths").mkdir()
    pd.DataFrame(rows).to_csv(tmp_path / "lengths" / "results.csv", index=False)
    return opened


def test_a_law_over_lengths_of_trunks_is_sharpened_by_further_seeds(tmp_path: Path) -> None:
    found = next_runs(opened_with_lengths(tmp_path), 0.0005, "a of ", {})
    # Runs of the four seeds tell of their own luck.
    assert {run.settings.seed for step in found.steps for run in step.runs} <= set(range(4, 24))
    assert {run.settings.samples for run in found.runs} > {3200}
    asked = found.steps[0].asked
    low, high = asked.fit.intervals["a"]
    assert 1 <= 2 * 1.96 * math.sqrt(asked.quantity.variance) / (high - low) < 1.4


def test_eleven_seeds_of_one_setting_narrow_a_law_as_fit_then_prints() -> None:
    """Settings lie apart from the law, so that further seeds of one tell little: by the linear rule 1.5 times more."""
    promised = []
    for number in range(8):
        rng = np.random.default_rng(number)
        apart = 0.1 * rng.standard_normal(8)
        seeds = [2] * 7 + [13]
        rows = [
            {"id": f"{size} {seed}", "seed": seed, "samples_seen": 1000.0 * 2**size, "zero_shot_top1": float(score)}
            for size in range(8)
            for seed in range(seeds[size])
            for score in [1 / (1 + math.exp(1 - 0.3 * size + apart[size] + 0.05 * rng.standard_normal()))]
        ]
        table = pd.DataFrame(rows)
        before, after = (
            fit(part, "odds-power", x=["samples_seen"], y="zero_shot_top1")
            for part in (table[table["seed"] < 2], table)
        )
        asked = parameter_of(before, "a", "")
        place = before.law.parameters.index("a")
        low, high = after.theta_ends
        printed = (high - low)[place] / (asked.ends[1] - asked.ends[0])
        promised.append(share_left(asked, asked.quantity, np.full((11, 1), 128_000.0)) / printed)
    assert 0.8 < np.median(promised) < 1.25


def test_the_next_rung_is_the_nearest_model_and_its_neighbours(finished: Finished, rung: Rung, tmp_path: Path) -> None:
    opened = finished("isoflop")
    assert rung.refusal == ""
    said = " ".join((ROOT / "docs/next.md").read_text().split())
    assert f"The law said {100 * (rung.forecast.value or 0):.1f} %" in said
    assert f"with a model of {rung.size / 1e6:.2f}M FLOPs a sample" in said
    assert len(rung.models) in (2, 3)
    nearest = min(rung.sizes, key=lambda model: abs(math.log(rung.sizes[model] / rung.size)))
    assert nearest in rung.models
    written = tmp_path / "rung.yaml"
    written.write_text(with_grids(opened.study, [rung.grid()], "its next rung"))
    added = {run.id: run for run in plan(read_study(written)).runs if run.id not in {r.id for r in opened.plan.runs}}
    assert {run.settings.model for run in added.values()} == set(rung.models)
    assert all(2.7e12 < run.cost.train_flops < 3.3e12 for run in added.values())
    assert {run.settings.seed for run in added.values()} == {0, 1, 2}


def test_a_rung_beyond_the_models_at_hand_is_refused(finished: Finished, rung: Rung) -> None:
    assert rung.refusal == ""
    smallest = min(rung.sizes, key=rung.sizes.__getitem__)
    assert "add some by --add model=NAME" in replace(rung, sizes={smallest: rung.sizes[smallest]}).refusal
    assert next_rung(finished("isoflop"), 1e13, {}).refusal.startswith("The best size is not determined")


def test_a_study_without_an_axis_of_models_has_no_rung_and_says_why(tmp_path: Path) -> None:
    opened = opened_with_lengths(tmp_path)
    with pytest.raises(ResultsError, match="No law of this study says how a budget is best spent"):
        next_rung(opened, 1e13, {})


def test_the_next_rung_of_isoflop_came_out_as_predicted() -> None:
    table = read_results(ROOT / "results/isoflop_rung/results.csv")
    means = table.groupby("model").agg(score=("zero_shot_top1", "mean"), size=("flops_per_sample", "first"))
    assert (means["score"].idxmax(), f"{100 * means['score'].max():.1f}") == ("ViT-w32d2-4", "85.4")
    bend, slope, _ = np.polyfit(np.log(means["size"].astype(float)), means["score"].astype(float), 2)
    assert bend < 0
    assert f"{np.exp(-slope / (2 * bend)) / 1e6:.1f}" == "13.1"
    said = " ".join((ROOT / "docs/next.md").read_text().split())
    assert "ViT-w32d2-4, has 85.4 %, and the vertex of a parabola through their means is at 13.1M" in said
