"""The figure of claims: its verdicts differ in shape, and it says what comparison.json and the report say."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from flipscale.analysis.comparing import judge_claims
from flipscale.analysis.plotting import Undrawable, draw, figure_data
from flipscale.analysis.plotting.claims import VERDICT_STYLES
from flipscale.analysis.reporting import write_report
from flipscale.door.statements import MARGIN, Contrast, Expectation, StatedClaim
from flipscale.planning.runs import plan
from flipscale.study import read_study

ROOT = Path(__file__).parents[1]


def drawn(*stated: StatedClaim) -> Figure:
    values = {0.0: (0.700, 0.710, 0.690), 0.5: (0.650, 0.661, 0.639), 0.75: (0.690, 0.730, 0.680)}
    results = pd.DataFrame(
        [
            {"id": f"m{mask}s{seed}", "mask_ratio": mask, "seed": seed, "zero_shot_top1": score}
            for mask, scores in values.items()
            for seed, score in enumerate(scores)
        ]
    )
    figure = Figure()
    FigureCanvasAgg(figure)
    family = judge_claims(results, stated, score="zero_shot_top1", margin=MARGIN)
    draw("claims", figure_data(results, score="zero_shot_top1", stated=family), figure.subplots())
    return figure


def claim(name: str, mask: float, expect: Expectation, published: float | None = None) -> StatedClaim:
    return StatedClaim(name, Contrast({"mask_ratio": mask}, {"mask_ratio": 0.0}), None, expect, published)


def test_a_claim_that_holds_one_that_is_contradicted_and_one_that_is_undecided_differ_without_colour() -> None:
    figure = drawn(
        claim("half costs", 0.5, Expectation.WORSE, -4.0),
        claim("half helps", 0.5, Expectation.BETTER),
        claim("most helps", 0.75, Expectation.BETTER),
    )
    (ax,) = figure.axes
    assert [label.get_text() for label in ax.get_yticklabels()] == ["half costs", "half helps", "most helps"]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "holds",
        "contradicted",
        "undecided",
        "published",
    ]
    assert len({style.marker for style in VERDICT_STYLES.values()}) == 3
    markers = [line.get_marker() for line in ax.lines if len(line.get_xdata()) == 1]
    assert [marker for marker in markers if marker not in "<>"] == ["o", "X", "D", "|"]


def test_without_claims_there_is_no_figure() -> None:
    with pytest.raises(Undrawable, match="the study states no claims"):
        drawn()


def test_claims_without_runs_are_no_figure() -> None:
    with pytest.raises(
        Undrawable, match=r"no claim about a difference can be judged: no finished run is mask_ratio=0\.9"
    ):
        drawn(claim("nearly all", 0.9, Expectation.WORSE))


def test_figure_report_and_comparison_of_the_recipe_study_state_the_same_claims(tmp_path: Path) -> None:
    written = json.loads((ROOT / "results/recipe/comparison.json").read_text())["claims"]
    counts = written["counts"]
    sentence = (
        f"29 claims: {counts['holds']} hold, {counts['contradicted']} contradicted, {counts['undecided']} undecided"
    )
    assert sentence in (ROOT / "results/recipe/comparison.md").read_text()
    assert sentence in "\n".join(re.findall(r"<text[^>]*>([^<]*)", (ROOT / "plots/recipe/claims.svg").read_text()))
    file = ROOT / "studies/recipe.yaml"
    study = read_study(file)
    page = write_report(study, plan(study), file, ROOT / "results", tmp_path).path.read_text()
    section = re.search(r'<section id="claims".*?</section>', page, re.DOTALL)
    assert section
    assert sentence in section[0]
    assert [entry["verdict"] for entry in written["claims"]] == re.findall(
        r"<td>(holds|contradicted|undecided)<", section[0]
    )
