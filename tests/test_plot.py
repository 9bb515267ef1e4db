import itertools
import math
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from flipscale.analysis.plotting import FIGURES, Undrawable, draw_figure, figure_data, plot_all, small_print
from flipscale.analysis.plotting.style import QUIET, arm_style
from flipscale.collecting import COLUMNS
from flipscale.door.columns import COLUMN_DTYPES
from flipscale.errors import ResultsError
from flipscale.words import short

pytestmark = pytest.mark.slow

BASELINE = {"mask_ratio": 0}
PARAMS = {"ViT-w48d3-4": 210_000, "ViT-w96d4-4": 880_000}


def table(rows):
    return pd.DataFrame(
        {name: pd.Series([row.get(name) for row in rows], dtype=COLUMN_DTYPES[c.kind]) for name, c in COLUMNS.items()}
    )


def study(models=("ViT-w48d3-4",), samples=(16000, 32000, 64000), masks=(0, 0.5), seeds=(0, 1, 2), **fixed):
    """Results of a full grid, and the curves of scores inside each run."""
    axes = [name for name, values in (("model", models), ("samples", samples)) if len(values) > 1]
    rows, points = [], []
    for model, n, mask, seed in itertools.product(models, samples, masks, seeds):
        top1 = 0.2 + 0.05 * math.log2(n / 8000) + 0.03 * (PARAMS[model] > 500_000) - 0.04 * mask + 0.004 * seed
        values = {"model": model, "samples": short(n)}
        row = {
            "id": f"{model}-{n}-{mask}-{seed}",
            "study": "mask",
            "cell": ", ".join(f"{name}={values[name]}" for name in axes),
            "model": model,
            "samples": n,
            "unique_pairs": n,
            "mask_ratio": mask,
            "seed": seed,
            "params": PARAMS[model],
            "flops_per_sample": PARAMS[model] * (1 - 0.7 * mask) * 300,
            "train_flops": n * PARAMS[model] * (1 - 0.7 * mask) * 300,
            "gpu_hours": n * PARAMS[model] * (1 - 0.5 * mask) / 3e9,
            "gpu_hours_predicted": n * PARAMS[model] * (1 - 0.5 * mask) / 4e9,
            "repeats": 1.0,
            "zero_shot_top1": top1,
            "held_out_loss": 3 - top1,
            "device": "cpu",
            "finished": 1.7e9 + seed,
            **fixed,
        }
        rows.append(row)
        for step, share in enumerate((0.5, 1.0)):
            points.extend(
                {"id": row["id"], "step": step, "samples": n * share, "metric": metric, "value": share * value}
                for metric, value in (("zero_shot_top1", top1), ("loss", 3 - top1))
            )
    return table(rows), pd.DataFrame(points)


def plot(tmp_path, tables, **options):
    figures = options.pop("figures", None)
    formats = options.pop("formats", ())
    data = figure_data(*tables, **{"study": "mask", "baseline": BASELINE, "or_loss": True, **options})
    return plot_all(data, tmp_path, figures, formats)


def drawn(name, tables, **options):
    figure = Figure()
    FigureCanvasAgg(figure)
    rows = draw_figure(name, figure, figure_data(*tables, **{"study": "mask", "baseline": BASELINE, **options}))
    return figure, rows


def named(figure):
    """What the legends of a figure say."""
    legends = [*figure.legends, *filter(None, (ax.get_legend() for ax in figure.axes))]
    return [text.get_text() for legend in legends for text in legend.get_texts()]


def texts(figure):
    return [text.get_text() for ax in figure.axes for text in ax.texts if text.get_text() and text.get_visible()]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A study drawn: where, and what came of it."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, plot(folder, study())


def test_every_figure_is_drawn_as_svg(whole):
    folder, done = whole
    assert list(done.skipped) == ["claims", "tune", "ablations", "repeats", "isoflop"]
    names = [name for name in FIGURES if name not in done.skipped]
    assert [path.name for path in done.files] == [f"{name}.svg" for name in names]
    assert sorted(path.name for path in folder.iterdir()) == sorted(path.name for path in done.files)


def test_a_study_of_two_lengths_draws_six_figures_and_any_that_it_names(tmp_path):
    tables = study(samples=(8000, 16000))
    done = plot(tmp_path, tables)
    assert [path.stem for path in done.files] == [
        "accuracy_vs_samples",
        "accuracy_vs_hours",
        "speedup",
        "scaling_axes",
        "gains",
        "mask_ratios",
    ]
    assert done.skipped["error_vs_compute"] == "a study of at most 2 lengths draws 6 figures; name it in `figures:`"
    (named,) = plot(tmp_path, tables, figures=["error_vs_compute"]).files
    assert named.name == "error_vs_compute.svg"


def test_further_formats_are_drawn_on_request_and_then_follow_the_results(tmp_path):
    done = plot(tmp_path, study(), figures=["speedup"], formats=["pdf"])
    assert [path.name for path in done.files] == ["speedup.svg", "speedup.pdf"]
    before = done.files[1].read_bytes()
    again = plot(tmp_path, study(seeds=(0, 1)), figures=["speedup"])
    assert again.files == done.files
    assert done.files[1].read_bytes() != before
    assert plot(tmp_path, study(samples=(16000,)), figures=["speedup"]).files == ()
    assert list(tmp_path.iterdir()) == []


def test_svg_ids_differ_between_figures_so_that_a_page_can_hold_several(tmp_path):
    files = plot(tmp_path, study(), figures=["accuracy_vs_samples", "accuracy_vs_flops"]).files
    ids = [
        {word for word in path.read_text().replace('"', " ").split() if word.startswith("#m")}
        for path in files
        if path.suffix == ".svg"
    ]
    assert ids[0]
    assert not ids[0] & ids[1]


def test_a_figure_that_cannot_be_drawn_is_skipped_with_its_reason_and_its_old_file_goes(tmp_path):
    plot(tmp_path, study(), figures=["speedup"])
    done = plot(tmp_path, study(samples=(16000,)))
    assert done.skipped == {
        "accuracy_vs_samples": "samples has one value; it takes runs of two schedule lengths",
        "speedup": "samples has one value; a speed-up is read between runs of two or more schedule lengths",
        "scaling_axes": "model, data_size and samples have one value each",
        "scaling_curves": "model, data_size and samples have one value each",
        "gains": "there is only one gain, of one arm in one cell; compare states it",
        "ablations": "the baseline names no setting but the mask ratio that varies",
        "claims": "the study states no claims",
        "repeats": "repeats has one value; it takes fewer unique pairs, or more samples of them",
        "error_vs_compute": "all runs of an arm took the same training FLOPs",
        "isoflop": "0 of 1 budgets of train_flops have an optimum, and a law takes 2; it takes models of several sizes "
        "trained with equal FLOPs",
        "tune": "the study tunes no setting",
    }
    assert not (tmp_path / "speedup.svg").exists()
    assert (tmp_path / "accuracy_vs_flops.svg").exists()


def test_a_table_without_its_schedule_lengths_draws_the_rest(tmp_path):
    results, curves = study()
    done = plot(tmp_path, (results.assign(samples=pd.array([None] * len(results), dtype="Int64")), curves))
    assert "scaling_axes" in done.skipped
    assert (tmp_path / "accuracy_vs_flops.svg").exists()
    figure, _ = drawn(
        "accuracy_vs_flops", (results.assign(samples=pd.array([None] * len(results), dtype="Int64")), curves)
    )
    assert named(figure) == ["no mask", "mask 50 %"]


def test_an_unknown_figure_is_named_with_the_nearest(tmp_path):
    with pytest.raises(ResultsError, match="did you mean 'speedup'"):
        plot(tmp_path, study(), figures=["speed_up"])


def test_small_print_counts_what_is_drawn_and_is_dated_by_the_newest_run():
    tables = study()
    tables[0].loc[0, "zero_shot_top1"] = np.nan
    figure, rows = drawn("accuracy_vs_samples", tables)
    assert small_print(rows, "mask") == "study mask · 17 runs · 3 seeds · newest run finished 2023-11-14"
    assert figure.texts[0].get_text() == (
        "study mask · 17 runs · 3 seeds · newest run finished 2023-11-14\n"
        "points: means over seeds, bars: ± 1 sd within what the score can be, rings: runs"
    )


def test_lines_are_named_in_the_order_of_the_arms():
    figure, _ = drawn("accuracy_vs_samples", study(masks=(0, 0.5, 0.75)))
    assert named(figure) == ["no mask", "mask 50 %", "mask 75 %"]


def test_panels_share_a_legend():
    figure, _ = drawn("accuracy_vs_flops", study(models=tuple(PARAMS)))
    assert [ax.get_title() for ax in figure.axes] == ["ViT-w48d3-4", "ViT-w96d4-4"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["no mask", "mask 50 %"]


def test_points_are_means_over_seeds():
    figure, _ = drawn("accuracy_vs_samples", study(masks=(0,), samples=(16000, 32000)))
    line = figure.axes[0].lines[0]
    assert line.get_xdata() == pytest.approx([16000, 32000])
    assert line.get_ydata() == pytest.approx([0.254, 0.304])


def test_scaling_axes_hold_the_other_axes_fixed():
    figure, rows = drawn("scaling_axes", study(models=tuple(PARAMS)))
    assert [ax.get_title() for ax in figure.axes] == ["model size\nat 64k samples", "samples seen\nat ViT-w96d4-4"]
    assert len(rows) == 2 * 3 + 2 * 3 * 3  # both models at 64k, and the other two lengths of the larger
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["w48d3\n63M", "w96d4\n260M"]
    assert figure.axes[0].get_xlabel() == "model ViT-…-4, FLOPs a sample unmasked"


def test_all_the_data_there_is_stands_where_its_unique_pairs_are():
    results, curves = study(samples=(16000,), masks=(0,))
    half = results.assign(data_size=pd.array([8000] * 3, dtype="Int64"), cell="data_size=8k", id=results["id"] + "-8k")
    figure, _ = drawn("scaling_axes", (pd.concat([results.assign(cell="data_size=null"), half]), curves))
    assert figure.axes[0].lines[0].get_xdata() == pytest.approx([8000, 16000])


def test_the_bar_of_flip_s_figure_1_is_as_long_as_the_speedup_that_is_claimed():
    # FLIP (arXiv 2212.00794) Fig 1: mask, epochs, hours on 256 TPU-v3 cores, zero-shot ImageNet top-1
    points = [(0, 6.4, 46.7, 68.6), (0, 12.8, 93.3, 71.1), (0, 32, 233.5, 72.4)]
    points += [(0.75, 6.4, 17.9, 69.5), (0.75, 12.8, 33.3, 71.3), (0.75, 32, 80.1, 73.0)]
    rows = [
        {
            "id": f"m{mask}-e{epochs}",
            "cell": f"samples={epochs}",
            "samples": int(epochs * 4e8),
            "mask_ratio": mask,
            "train_flops": 1.0,
            "gpu_hours": hours * 256,
            "zero_shot_top1": top1 / 100,
            "seed": 0,
            "device": "TPU v3",
        }
        for mask, epochs, hours, top1 in points
    ]
    figure, _ = drawn("speedup", (table(rows), study()[1]))
    assert {"mask 75 %: 3.0x (one seed)", "speed-up to 71.1 % (95 % CI)"} <= set(named(figure))
    (bar,) = (line for line in figure.axes[0].lines if line.get_linestyle() == "--" and line.get_color() == QUIET)
    assert bar.get_ydata() == pytest.approx([0.711, 0.711])
    assert bar.get_xdata() == pytest.approx([93.3 * 256 / 3.0, 93.3 * 256], rel=0.05)


def test_a_speedup_says_at_which_score_it_is_read():
    figure, _ = drawn("speedup", study())
    assert named(figure)[1:3] == ["mask 50 %: 1.01x (1.00, 1.02)", "speed-up to 30.4 % (95 % CI)"]


def test_the_bar_of_a_speedup_ends_on_the_drawn_curve_of_its_arm():
    for samples in ((16000, 32000, 64000), (16000, 64000)):
        figure, _ = drawn("speedup", study(samples=samples, masks=(0, 0.5, 0.75)))
        (ax,) = figure.axes
        assert ax.get_xscale() == "log"
        ends = [line for line in ax.lines if line.get_marker() in ("<", ">")]
        assert len(ends) == 2
        for end in ends:
            (curve,) = (line for line in ax.lines if line.get_color() == end.get_color() and len(line.get_xdata()) > 16)
            (x,), (y,) = end.get_xdata(), end.get_ydata()
            on_curve = np.interp(np.log(x), np.log(curve.get_xdata()), curve.get_ydata())
            assert on_curve == pytest.approx(y, abs=1e-9)


def test_lengths_that_are_far_apart_are_said():
    said = {n: drawn("speedup", study(samples=(16000, n)))[0].texts[0].get_text() for n in (64000, 128000)}
    assert "schedule lengths are up to a factor of 8 apart" in said[128000].replace("\n", " ")
    assert "apart" not in said[64000]


def test_controls_are_lighter_and_come_after_the_masks():
    results, curves = study(masks=(0, 0.5))
    small = results[results["mask_ratio"] == 0].assign(image_size=14)
    both = pd.concat([results.assign(image_size=28), small.assign(id=small["id"] + "-small")], ignore_index=True)
    figure, _ = drawn("speedup", (both, curves), baseline={"mask_ratio": 0, "image_size": 28})
    assert [name.split(":")[0] for name in named(figure)][:3] == ["no mask", "mask 50 %", "image size 14"]
    curve = {line.get_label().split(":")[0]: line.get_alpha() for line in figure.axes[0].lines}
    assert (curve["mask 50 %"], curve["no mask"]) == (1, 1)
    assert curve["image size 14"] < 1


def test_times_of_different_devices_make_no_figure():
    results, curves = study()
    results.loc[0, "device"] = "NVIDIA H100"
    for name in ("accuracy_vs_hours", "speedup"):
        with pytest.raises(Undrawable, match="different devices"):
            drawn(name, (results, curves))


def test_times_are_in_the_unit_that_suits_them():
    for factor, words in ((1, "CPU core-hours"), (0.01, "CPU core-minutes"), (0.0001, "CPU core-seconds")):
        results, curves = study()
        figure, _ = drawn("accuracy_vs_hours", (results.assign(gpu_hours=results["gpu_hours"] * factor), curves))
        assert figure.axes[0].get_xlabel() == f"training time ({words})"


def test_a_loss_is_no_percentage_and_says_that_lower_is_better():
    figure, _ = drawn("accuracy_vs_samples", study(), score="held_out_loss")
    assert figure.axes[0].get_ylabel() == "held-out loss, nats (lower is better)"
    assert "%" not in figure.axes[0].yaxis.get_major_formatter()(2.5)


def test_learning_curves_need_a_score_inside_the_run(tmp_path):
    results, curves = study()
    figure, rows = drawn("learning_curves", (results, curves))
    assert set(rows["samples"]) == {64000}
    assert figure.axes[0].lines[0].get_xdata() == pytest.approx([32000, 64000])
    ends = (results, curves[curves["step"] == 1])
    assert "evaluation.at" in plot(tmp_path, ends, figures=["learning_curves"]).skipped["learning_curves"]


def test_results_without_a_cell_are_parted_by_the_settings_that_vary():
    results, curves = study()
    figure, _ = drawn("accuracy_vs_samples", (results.drop(columns="cell"), curves))
    assert named(figure) == ["no mask", "mask 50 %"]


def test_gains_are_the_paired_ones_with_their_intervals_seeds_and_times():
    results, curves = study(samples=(16000,), masks=(0, 0.5, 0.75))
    extra = results["mask_ratio"].eq(0.5) & results["seed"].eq(2)
    results.loc[extra, "zero_shot_top1"] += 0.003
    figure, rows = drawn("gains", (results, curves))
    (ax,) = figure.axes
    assert [label.get_text() for label in ax.get_yticklabels()] == ["mask 50 %", "mask 75 %"]
    assert texts(figure) == ["training\ntime", "0.75×", "0.62×"]
    corrected, bar, mean, seeds = ax.lines[:4]
    half = 4.302653 * 0.3 / 3  # seeds at -2, -2 and -1.7 points: sd is 0.3 / sqrt(3)
    assert bar.get_xdata() == pytest.approx([-1.9 - half, -1.9 + half], abs=0.06)  # by the logit: not quite symmetric
    gain = figure_data(results, curves, baseline=BASELINE).comparison.pairs[0].gain
    assert bar.get_xdata() == pytest.approx([100 * gain.interval.low, 100 * gain.interval.high])
    assert corrected.get_xdata() == pytest.approx(
        [100 * gain.corrected.interval.low, 100 * gain.corrected.interval.high]
    )
    assert corrected.get_linewidth() < bar.get_linewidth()
    assert mean.get_xdata() == pytest.approx([-1.9])
    assert seeds.get_xdata() == pytest.approx([-2, -2, -1.7])
    assert figure.texts[0].get_text().splitlines()[1:] == [
        "points: mean gains, filled where significant",
        "bars: 95 % CIs, thick uncorrected, thin corrected for 2 gains",
        "rings: seeds; time: over the baseline's",
    ]
    assert len(rows) == 9
    assert ax.get_xlabel() == "zero-shot accuracy, top 1\npoints over the baseline (no mask) at equal samples"


def test_gains_stand_in_the_order_of_their_size():
    results, curves = study(samples=(16000,), masks=(0, 0.5, 0.75))
    results.loc[results["mask_ratio"].eq(0.75), "zero_shot_top1"] += 0.05
    figure, _ = drawn("gains", (results, curves))
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["mask 75 %", "mask 50 %"]


def test_a_gain_is_filled_where_it_is_significant_and_open_where_not():
    results, curves = study(samples=(16000,), masks=(0, 0.5, 0.75))
    results.loc[results["mask_ratio"].eq(0.5) & results["seed"].eq(2), "zero_shot_top1"] += 0.03
    results.loc[results["mask_ratio"].eq(0.75) & results["seed"].eq(2), "zero_shot_top1"] += 0.001
    figure, _ = drawn("gains", (results, curves))
    means = [line for line in figure.axes[0].lines if line.get_marker() == "o" and len(line.get_xdata()) == 1]
    assert [line.get_markerfacecolor() for line in means] == ["white", arm_style(1).color]  # -2, -2, 1; -3, -3, -2.9


def test_where_models_never_share_a_schedule_each_has_a_panel():
    results, curves = study(models=tuple(PARAMS), samples=(16000, 32000))
    other = results["model"].eq("ViT-w96d4-4")
    results.loc[other, "samples"] = (results.loc[other, "samples"] / 4).astype("int64")
    pairs = zip(results["model"], results["samples"], strict=True)
    results["cell"] = [f"model={model}, samples={short(n)}" for model, n in pairs]
    figure, _ = drawn("scaling_axes", (results, curves))
    assert [ax.get_title() for ax in figure.axes] == ["samples seen\nat ViT-w48d3-4", "samples seen\nat ViT-w96d4-4"]


def test_gains_of_several_cells_stand_under_their_cell():
    figure, _ = drawn("gains", study(samples=(16000, 32000)))
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["mask 50 %"] * 2
    assert texts(figure) == ["training\ntime", "16k samples", "0.75×", "32k samples", "0.75×"]
    # More than a page of them: the longest schedules.
    figure, rows = drawn("gains", study(samples=(16000, 32000), masks=np.linspace(0, 0.9, 31).tolist(), seeds=(0,)))
    assert len(figure.axes[0].get_yticklabels()) == 30
    assert set(rows["samples"]) == {32000}
    assert "at the longest schedule of each series" in figure.axes[0].get_xlabel().replace("\n", " ")
    with pytest.raises(Undrawable, match="60 gains do not fit the 48 rows of a page"):
        drawn("gains", study(samples=(16000,), masks=np.linspace(0, 0.9, 61).tolist(), seeds=(0,)))


def test_a_lower_loss_is_a_gain_to_the_right():
    results, curves = study(samples=(16000,), masks=(0, 0.5, 0.75))
    figure, _ = drawn("gains", (results, curves), score="held_out_loss")
    assert [-0.02] in [pytest.approx(line.get_xdata()) for line in figure.axes[0].lines]  # its loss is higher
    assert figure.axes[0].get_xlabel() == (
        "held-out loss, nats (lower is better)\nhow far below the baseline (no mask) at equal samples"
    )


def test_an_interval_that_dwarfs_its_seeds_is_cut_off_with_an_arrow():
    results, curves = study(samples=(16000,), masks=(0, 0.5, 0.75), seeds=(0, 1))
    results.loc[results["mask_ratio"].eq(0.5) & results["seed"].eq(1), "zero_shot_top1"] += 0.04
    figure, _ = drawn("gains", (results, curves))
    (ax,) = figure.axes
    low, high = ax.get_xlim()
    assert (low, high) == pytest.approx((-5.5 - 0.04 * 10, 4.5 + 0.04 * 10))  # seeds from -3 to 2, and half of 5
    arrows = {line.get_marker(): line.get_xdata() for line in ax.lines if line.get_marker() in ("<", ">")}
    assert arrows == {"<": [low], ">": [high]}
    assert "arrows: the CI goes on beyond the frame" in figure.texts[0].get_text()


def test_one_seed_has_a_gain_and_no_interval():
    figure, _ = drawn("gains", study(samples=(16000,), masks=(0, 0.5, 0.75), seeds=(0,)))
    assert [list(line.get_xdata()) for line in figure.axes[0].lines[:2]] == [[pytest.approx(-2)], [pytest.approx(-3)]]


def test_times_of_different_devices_are_no_ratio_beside_the_gains():
    results, curves = study(samples=(16000,), masks=(0, 0.5, 0.75))
    results.loc[results["mask_ratio"].eq(0.5), "device"] = "NVIDIA H100"
    figure, _ = drawn("gains", (results, curves))
    assert texts(figure) == ["training\ntime", "0.62×"]


def test_gains_take_twins_and_more_than_one():
    results, curves = study(samples=(16000,), masks=(0, 0.5, 0.75))
    for rows, reason in (
        (results[results["mask_ratio"].isin([0, 0.5])], "one arm in one cell"),
        (results[results["mask_ratio"] > 0], "No row is the baseline"),
        (results[results["mask_ratio"].eq(0) == results["seed"].eq(0)], "no run has a twin"),
        (pd.concat([results, results.assign(id=results["id"] + "-again")]), "are both"),
    ):
        with pytest.raises(Undrawable, match=reason):
            drawn("gains", (rows, curves))


def test_more_arms_than_can_be_told_apart_are_left_to_gains(tmp_path):
    masks = [round(0.1 * i, 1) for i in range(9)]
    small = {"models": tuple(PARAMS), "samples": (16000, 32000), "seeds": (0, 1)}
    done = plot(tmp_path, study(masks=masks, **small))
    assert {path.stem for path in done.files} == {"gains", "mask_ratios", "scaling_curves"}
    too_many = "9 arms are too many to tell apart in one figure; gains shows them, or make studies of fewer"
    assert {name for name, why in done.skipped.items() if why == too_many} == {
        *("accuracy_vs_samples", "accuracy_vs_flops", "accuracy_vs_hours", "speedup", "scaling_axes", "repeats"),
        *("error_vs_compute", "learning_curves"),
    }
    assert too_many not in plot(tmp_path, study(masks=masks[:8], **small)).skipped.values()


def test_arms_differ_without_colour():
    styles = [arm_style(i) for i in range(14)]
    assert len({(style.marker, style.dashes) for style in styles}) == 14


def test_plot_needs_no_pyplot():
    code = "import sys, flipscale.analysis.plotting; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
