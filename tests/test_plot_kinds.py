"""Each kind of figure: on anybody's Axes, on the committed studies, and what it says."""

import itertools
import re
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.axis import Tick, XTick
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from flipscale.analysis.comparing import comparison_json, judge_claims
from flipscale.analysis.plotting import (
    FIGURES,
    RC,
    Undrawable,
    draw,
    draw_figure,
    figure_data,
    plot_all,
)
from flipscale.analysis.plotting.style import REFERENCE
from flipscale.collecting import read_curves, read_results
from flipscale.collecting.record import as_in_tables
from flipscale.collecting.references import read_references
from flipscale.cost import arithmetic as cost
from flipscale.door.statements import MARGIN
from flipscale.errors import ResultsError
from flipscale.settings.architecture import architecture
from flipscale.study import read_study
from tests.made_up import GROWTH, isoflop_runs
from tests.test_plot import drawn, named, study

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]

BASELINES = {
    "fashion": {"mask_ratio": 0.0},
    "icons": {"mask_ratio": 0.0},
    "recipe": {
        "mask_ratio": 0.0,
        "batch_size": 64,
        "text_mask_ratio": 0.0,
        "text_mask": "prioritised",
        "tuning": None,
        "reconstruction": None,
        "mask_shape": "random",
    },
}
SCORES = {"icons": "image_retrieval_r10"}


def committed(name):
    folder = ROOT / "results" / name
    tables = read_results(folder / "results.csv"), read_curves(folder / "curves.parquet")
    return figure_data(*tables, study=name, baseline=BASELINES[name], score=SCORES.get(name, "zero_shot_top1"))


def words(figure):
    """Every text of a figure that is seen, with its box."""
    figure.draw_without_rendering()
    hidden = set()
    for tick in figure.findobj(Tick):
        axis = tick.axes.xaxis if isinstance(tick, XTick) else tick.axes.yaxis
        low, high = sorted(axis.get_view_interval())
        if not low * (1 - 1e-9) <= tick.get_loc() <= high * (1 + 1e-9):
            hidden |= {id(text) for text in tick.findobj(Text)}
    return [
        (text.get_text(), text.get_window_extent())
        for text in figure.findobj(Text)
        if text.get_text().strip() and text.get_visible() and id(text) not in hidden
    ]


def collisions(seen):
    return [
        (one, other)
        for (one, a), (other, b) in itertools.combinations(seen, 2)
        if min(a.x1, b.x1) - max(a.x0, b.x0) > 1 and min(a.y1, b.y1) - max(a.y0, b.y0) > 1.5
    ]


def outside(figure, seen):
    width, height = figure.bbox.width, figure.bbox.height
    return [text for text, box in seen if box.x0 < -1 or box.y0 < -1 or box.x1 > width + 1 or box.y1 > height + 1]


@pytest.mark.parametrize("study", BASELINES)
def test_no_words_of_a_committed_study_s_figures_collide_or_are_cut_off(study):
    s = committed(study)
    drawn = 0
    for name in FIGURES:
        with mpl.rc_context(RC):
            figure = Figure()
            FigureCanvasAgg(figure)
            try:
                draw_figure(name, figure, s)
            except Undrawable:
                continue
            drawn += 1
            seen = words(figure)
            assert (name, collisions(seen), outside(figure, seen)) == (name, [], [])
    assert drawn > 2


def test_words_that_collide_and_words_that_are_cut_off_would_be_seen():
    figure = Figure()
    FigureCanvasAgg(figure)
    figure.text(0.5, 0.5, "one thing")
    figure.text(0.51, 0.5, "another")
    figure.text(0.95, 0.1, "too far to the right")
    seen = words(figure)
    assert collisions(seen) == [("one thing", "another")]
    assert outside(figure, seen) == ["too far to the right"]


# On anybody's Axes


# The runs of a sweep are in no table: tests/test_tune.py draws them.
@pytest.mark.parametrize("name", [name for name in FIGURES if name != "tune"])
def test_every_figure_is_drawn_on_anybody_s_axes(name):
    figure = Figure()
    FigureCanvasAgg(figure)
    ax, other = figure.subplots(1, 2)
    results, curves = study(models=("ViT-w48d3-4", "ViT-w96d4-4"))
    data = figure_data(results.assign(repeats=results["samples"] / 8000), curves)
    if name in ("ablations", "claims"):
        stated = read_study(ROOT / "studies/recipe.yaml")
        data = committed("recipe")
        data = replace(
            data,
            stated=judge_claims(data.rows, list(map(as_in_tables, stated.claims)), score=stated.score, margin=MARGIN),
        )
    if name == "isoflop":
        data = figure_data(isoflop_runs())
    try:
        rows = draw(name, data, ax)
    except ResultsError as several:
        panel = str(several).split("There are: ")[1].rstrip(".").split("; ")[0]
        rows = draw(name, data, ax, panel=panel)
    figure.draw_without_rendering()
    assert len(rows) > 1
    assert set(rows["id"]) <= set(data.rows["id"])
    assert ax.has_data()
    assert ax.get_xlabel() or name == "ablations"
    assert not other.has_data()
    assert not figure.texts


def test_an_axes_takes_one_panel_and_says_which_there_are():
    results, _ = study(models=("ViT-w48d3-4", "ViT-w96d4-4"))
    ax, data = Figure().subplots(), figure_data(results)
    with pytest.raises(
        ResultsError, match="2 panels, and an Axes holds one; name it by panel=, for example 'ViT-w48d3-4'"
    ):
        draw("accuracy_vs_samples", data, ax)
    with pytest.raises(ResultsError, match="no panel 'ViT-B-16'\\. There are: ViT-w48d3-4; ViT-w96d4-4"):
        draw("accuracy_vs_samples", data, ax, panel="ViT-B-16")
    rows = draw("accuracy_vs_samples", data, ax, panel="ViT-w96d4-4")
    assert set(rows["model"]) == {"ViT-w96d4-4"}


def test_the_documents_example_runs():
    data = figure_data(read_results(ROOT / "results" / "fashion" / "results.csv"))
    figure = Figure(figsize=(8, 3), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    draw("accuracy_vs_flops", data, left)
    draw("speedup", data, right)
    figure.draw_without_rendering()
    assert [text.get_text() for text in left.get_legend().get_texts()] == ["no mask", "mask 50 %", "mask 75 %"]


# What they say


def test_the_words_of_an_svg_are_text(tmp_path):
    plot_all(figure_data(*study(), study="mask"), tmp_path, ["accuracy_vs_samples"])
    svg = (tmp_path / "accuracy_vs_samples.svg").read_text()
    said = re.findall(r"<text[^>]*>([^<]*)</text>", svg)
    assert {"no mask", "mask 50 %", "16k", "samples seen", "zero-shot accuracy, top 1"} <= set(said)
    assert "DejaVu Sans', 'Verdana'" in svg


def test_a_longer_schedule_stands_a_second_time_with_its_x_halved():
    figure, rows = drawn("scaling_curves", study(samples=(16000, 32000), masks=(0,)))
    (ax,) = figure.axes
    (copy,) = (line for line in ax.lines if line.get_linestyle() == "-.")
    assert copy.get_xdata() == pytest.approx([8000, 16000])  # measured at 16,000 and 32,000 samples
    assert [text for text in named(figure) if "/" in text] == ["32k samples (dash-dotted: x / 2)"]
    assert len(rows) == 6


def test_the_starting_point_is_in_every_panel_of_scaling_curves():
    figure, _ = drawn("scaling_curves", study(models=("ViT-w48d3-4", "ViT-w96d4-4"), masks=(0.5,)))
    black = [next(line for line in ax.lines if line.get_color() == "#000000") for ax in figure.axes]
    assert [ax.get_title().split("\n")[0] for ax in figure.axes] == ["model size, mask 50 %", "samples seen, mask 50 %"]
    assert black[0].get_ydata() == pytest.approx(black[1].get_ydata())


def test_the_score_against_the_mask_ratio_has_a_line_a_schedule():
    figure, _ = drawn("mask_ratios", study(masks=(0, 0.5, 0.75)))
    (ax,) = figure.axes
    assert sorted(named(figure)) == ["16k samples", "32k samples", "64k samples"]
    lines = [line for line in ax.lines if len(line.get_xdata()) == 3 and line.get_linestyle() == "-"]
    assert [line.get_xdata().tolist() for line in lines] == [[0, 0.5, 0.75]] * 3
    with pytest.raises(Undrawable, match="mask_ratio has one value"):
        drawn("mask_ratios", study(masks=(0.5,)))


def test_a_strip_holds_a_part_of_the_recipe_with_all_others_as_the_baseline_s():
    with mpl.rc_context(RC):
        figure = Figure()
        FigureCanvasAgg(figure)
        draw_figure("ablations", figure, committed("recipe"))
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert titles == ["batch size", "text mask ratio, text mask", "tuning", "reconstruction", "mask shape"]
    of = dict(zip(titles, figure.axes, strict=True))
    assert [label.get_text() for label in of["batch size"].get_xticklabels()] == ["64", "128", "256"]
    small = figure.texts[0].get_text()
    assert (
        "of the difference from that level, paired by seed: thick uncorrected, thin corrected for the 2, 7 and 9"
        in small.replace("\n", " ")
    )


def test_bars_of_an_ablation_are_the_paired_spread_and_not_that_of_seeds():
    seeds = {0: 0.57, 1: 0.60, 2: 0.63}  # seeds move all runs; the arm is 3, 4 and 5 points better than its twin
    rows = []
    for shape, gains in (("random", (0, 0, 0)), ("grid", (0.03, 0.04, 0.05))):
        results, _ = study(samples=(16000,), masks=(0.5,))
        scores = [seeds[seed] + gains[seed] for seed in results["seed"]]
        rows.append(results.assign(id=results["id"] + shape, mask_shape=shape, zero_shot_top1=scores))
    data = figure_data(pd.concat(rows, ignore_index=True), baseline={"mask_ratio": 0.5, "mask_shape": "random"})
    figure = Figure()
    FigureCanvasAgg(figure)
    draw_figure("ablations", figure, data)
    (bar,) = (line for line in figure.axes[0].lines if len(set(line.get_xdata())) == 1 and len(line.get_xdata()) == 2)
    low, high = bar.get_ydata()
    half = 4.302653 * 0.01 / 3**0.5
    assert (low, high) == pytest.approx((0.64 - half, 0.64 + half), abs=0.004)  # by the logit: not quite symmetric


def test_repeats_stand_beside_the_gain():
    results, curves = study(samples=(16000,))
    results.loc[results["mask_ratio"].eq(0.5) & results["seed"].eq(2), "zero_shot_top1"] += 0.003
    few = results.assign(id=results["id"] + "-few", cell="data_size=2k", unique_pairs=2000, data_size=2000, repeats=8.0)
    both = pd.concat([results.assign(cell="data_size=16k", data_size=16000), few], ignore_index=True)
    figure, _ = drawn("repeats", (both, curves))
    assert [ax.get_title() for ax in figure.axes] == ["score", "gain"]
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["1×", "8×"]
    pair = figure_data(both, curves).comparison.pairs[0]
    bars = [line for line in figure.axes[1].lines if len(line.get_xdata()) == 2 and len(set(line.get_xdata())) == 1]
    corrected, alone = sorted(bars[:2], key=lambda line: line.get_linewidth())
    assert alone.get_ydata() == pytest.approx([100 * pair.gain.interval.low, 100 * pair.gain.interval.high])
    assert corrected.get_ydata() == pytest.approx(
        [100 * pair.gain.corrected.interval.low, 100 * pair.gain.corrected.interval.high]
    )


def test_the_law_through_the_front_is_recovered():
    results, _ = study(masks=(0,), samples=(1000, 4000, 16000, 64000, 256000), seeds=(0, 1))
    results["zero_shot_top1"] = 1 - 8 * results["train_flops"] ** -0.13
    figure, _ = drawn("error_vs_compute", (results, study()[1]))
    assert named(figure)[0] == "no mask: a = 0.13 (0.13, 0.13)"


def test_the_best_size_grows_as_the_law_has_it():
    figure = Figure()
    FigureCanvasAgg(figure)
    ax = figure.subplots()
    draw("isoflop", figure_data(isoflop_runs()), ax, panel="the best size")
    found = float(re.search(r"no mask: a = ([\d.]+)", named(figure)[0])[1])
    assert found == pytest.approx(GROWTH, abs=0.03)
    s = figure_data(isoflop_runs(), baseline={"mask_ratio": 0})
    with mpl.rc_context(RC):
        whole = Figure()
        FigureCanvasAgg(whole)
        draw_figure("isoflop", whole, s)
    assert [ax.get_title(loc="left") for ax in whole.axes] == ["no mask", "mask 50 %", "the best size"]
    seen = words(whole)
    assert (collisions(seen), outside(whole, seen)) == ([], [])


def test_the_small_print_says_how_many_arms_the_curves_leave_out():
    two = isoflop_runs()
    masked = two[two["mask_ratio"] == 0.5]
    others = [masked.assign(mask_ratio=mask, id=masked["id"] + f"-{mask}") for mask in (0.25, 0.6, 0.75)]
    said, runs = {}, {}
    for arms, results in ((2, two), (5, pd.concat([two, *others]))):
        figure = Figure()
        FigureCanvasAgg(figure)
        with mpl.rc_context(RC):
            rows = draw_figure("isoflop", figure, figure_data(results, baseline={"mask_ratio": 0}))
        assert len(figure.axes) == min(arms, 3) + 1
        said[arms] = re.findall(r"\d of \d arms", "".join(text.get_text() for text in figure.texts))
        runs[arms] = len(rows)
    assert said == {2: [], 5: ["3 of 5 arms"]}
    assert runs == {2: len(two), 5: len(two) // 2 * 3}


# References

REFERENCES = """# typed from papers
name,source,evaluated_on,model,image_size,text_length,samples,mask_ratio,zero_shot_top1
a paper,"arXiv 0000.00000, Table 1",ImageNet-1K,,,,20000,0.5,0.25
a paper,"arXiv 0000.00000, Table 1",ImageNet-1K,,,,40000,0.5,0.31
another model's,its page,ImageNet-1K,ViT-B-16,224,77,32000,0,0.4
"""


def references(tmp_path, text=REFERENCES):
    (tmp_path / "references.csv").write_text(text)
    return read_references(tmp_path / "references.csv")


def test_references_are_drawn_hollow_and_grey_and_are_no_runs(tmp_path):
    figure, rows = drawn("accuracy_vs_samples", study(), references=references(tmp_path))
    (line,) = (line for line in figure.axes[0].lines if line.get_color() == REFERENCE)
    assert line.get_xdata() == pytest.approx([20000, 40000])  # of another model: not in a panel of this one
    assert line.get_markerfacecolor() == "white"
    assert "a paper" in named(figure)
    assert len(rows) == 18
    assert (
        figure.texts[0]
        .get_text()
        .endswith("\nhollow grey: published by others, evaluated on ImageNet-1K; neither fitted nor compared")
    )


def test_references_change_no_fit_and_no_comparison(tmp_path):
    same = ("gains", "mask_ratios", "learning_curves", "speedup")
    compared = {}
    for published in (None, references(tmp_path, REFERENCES.replace("0.25", "0.999"))):
        tables = study(samples=(8000, 16000, 32000, 64000))
        data = figure_data(*tables, study="mask", references=published)
        compared[published is None] = comparison_json(data.comparison)
        plot_all(data, tmp_path / str(published is None), [*same, "error_vs_compute"])
    assert compared[True] == compared[False]
    for name in same:
        assert (tmp_path / "True" / f"{name}.svg").read_bytes() == (tmp_path / "False" / f"{name}.svg").read_bytes()
    fits = [
        re.findall(r": a = ([^<]*)<", (tmp_path / which / "error_vs_compute.svg").read_text())
        for which in ("True", "False")
    ]
    assert fits[0] == fits[1] != []


def test_a_reference_s_flops_are_counted_as_a_run_s():
    table = read_references(ROOT / "studies" / "references.csv")
    flip = table[(table["name"] == "FLIP L/16, mask 50 %") & (table["samples"] == 2.56e9)].iloc[0]
    per_sample = cost.flops(architecture("ViT-L-16", 224), 0.5, 32)
    assert flip["train_flops"] == pytest.approx(2.56e9 * (per_sample.image + per_sample.text))


def test_published_numbers_are_as_printed():
    table = read_references(ROOT / "studies" / "references.csv").set_index(["name", "samples"])["zero_shot_top1"]
    # FLIP (arXiv 2212.00794) Tables 1a, 2 and 8
    assert table["FLIP L/16, mask 75 %", 2.56e9] == 0.682
    assert table["FLIP L/16, no mask", 12.8e9] == 0.724
    assert table["FLIP H/14 on 2B, mask 50 %, tuned", 25.6e9] == 0.788
    assert table["OpenCLIP B/32, 400M", 34e9] == 0.641


def test_what_was_evaluated_on_imagenet_is_also_the_score_of_a_set_of_that_name(tmp_path):
    file = tmp_path / "references.csv"
    file.write_text("name,source,evaluated_on,zero_shot_top1\na,x,ImageNet-1K,0.7\nb,x,ImageNet-V2,0.6\n")
    table = read_references(file).set_index("name")
    assert table["zero_shot_top1"].tolist() == [0.7, 0.6]
    assert table.loc["a", "imagenet.zero_shot_top1"] == 0.7
    assert np.isnan(table.loc["b", "imagenet.zero_shot_top1"])


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("source,samples\nx,1\n", "has no column 'name'"),
        ("name,source,samples\nx,,1\n", "row 1 has no source"),
        ("name,source,sample\nx,y,1\n", "a column 'sample', did you mean 'samples'"),
        ("name,source,samples\nx,y,many\n", "'samples' must hold numbers"),
        ("name,source,model,image_size,text_length,samples\nx,y,ViT-L-15,224,32,1\n", "train_flops cannot be counted"),
    ],
)
def test_a_file_of_references_is_checked(tmp_path, text, complaint):
    with pytest.raises(ResultsError, match=complaint):
        references(tmp_path, text)


def test_references_that_are_not_there_are_said(tmp_path):
    with pytest.raises(ResultsError, match="no such file of references"):
        read_references(tmp_path / "no.csv")


# Many


def test_of_many_panels_four_are_shown_and_the_small_print_says_so():
    results, curves = study()
    many = pd.concat(
        [
            results.assign(id=results["id"] + f"-{i}", cell=results["cell"] + f", batch_size={i}", batch_size=i)
            for i in range(12)
        ],
        ignore_index=True,
    )
    figure, rows = drawn("accuracy_vs_samples", (many, curves))
    assert [ax.get_title() for ax in figure.axes] == [f"batch size {i}" for i in (0, 4, 7, 11)]
    assert figure.texts[0].get_text().endswith("\n4 of 12 panels")
    assert len(rows) == 4 * 18


def test_cells_of_gains_go_by_numbers_and_not_by_letters() -> None:
    figure = Figure()
    draw_figure("gains", figure, figure_data(*study(samples=(8000, 16000, 128000)), study="mask"))
    heads = [text.get_text() for text in figure.axes[0].texts if text.get_fontweight() == "bold"]
    assert heads == ["8k samples", "16k samples", "128k samples"]
