"""The papers' tables in studies/references, and that `compare` says of them what the papers say."""

import json
from pathlib import Path

import pandas as pd
import pytest

from flipscale.cli import main
from flipscale.collecting import COLUMNS
from flipscale.settings.architecture import architecture

FOLDER = Path(__file__).parents[1] / "studies" / "references"
FLIP, FOLLOW_UPS = FOLDER / "flip.csv", FOLDER / "follow_ups.csv"
SETTINGS = [
    "model",
    "data",
    "samples",
    "mask_ratio",
    "mask_shape",
    "batch_size",
    "text_mask",
    "text_length",
    "inference",
]
OURS = "case=CLIP our repro"
GLIP = "source == 'MingliangLiang3/GLIP at eef32ef4' and data == 'CC12M'"


def said(capsys, table, where, *options):
    """What `flipscale compare TABLE` answers."""
    conditions = [part for one in where for part in ("--where", one)]
    assert main(["compare", str(table), *conditions, "--y", "score", *options]) == 0
    return capsys.readouterr().out


def compared(*asked):
    """The same as data."""
    return json.loads(said(*asked, "--json"))


def steps(capsys, where, baseline, *options):
    """For each arm of FLIP's table, what it gains over the baseline, to one decimal."""
    found = compared(capsys, FLIP, where, "--baseline", baseline, "--higher-is-better", *options)["gains"]
    assert {gain["verdict"] for gain in found} == {"one run each"}
    return {f"{gain['cell']}, {gain['arm']}".removeprefix(", "): round(gain["gain"]["value"], 1) for gain in found}


def gains(data):
    """The gain of each arm in each series, to two decimals."""
    return {entry["name"]: round(longest_pair(data, entry)["gain"]["value"], 2) for entry in data["series"]}


def longest_pair(data, entry):
    """The pair of a series and arm at its longest schedule."""
    pairs = [pair for pair in data["pairs"] if f"{pair['series']}, {pair['arm']}".removeprefix(", ") == entry["name"]]
    return max(pairs, key=lambda pair: pair["at"] or 0)


# The files


def test_every_row_says_where_it_is_printed_and_what_was_measured_on_what():
    for path in (FLIP, FOLLOW_UPS):
        table = pd.read_csv(path, dtype={"table": "str"})
        assert list(table.columns) == list(pd.read_csv(FLIP).columns)
        assert set(SETTINGS) <= set(table.columns)
        assert set(SETTINGS) - set(COLUMNS) == {"inference"}  # A setting of evaluation: its scores are columns.
        assert not table[["source", "table", "case", "evaluated_on", "metric", "score"]].isna().any(axis=None)
        assert not table.drop(columns="note").duplicated().any()
        assert table["score"].between(10, 140).all()


def test_all_tables_of_the_paper_are_there():
    rows = pd.read_csv(FLIP, dtype={"table": "str"})["table"].value_counts()
    assert rows.to_dict() == {
        "1a": 3, "1b": 6, "1c": 3, "1d": 6, "1e": 4, "1f": 4, "2": 11, "3": 15, "4": 125, "5": 72, "6": 54, "7": 32,
        "8": 60, "README": 1, "Fig 3": 15,
    }  # fmt: skip


def test_references_of_figures_are_rows_of_the_papers_tables():
    """studies/references.csv holds some of these rows in the form of results.csv, for `plot --references`."""
    drawn = pd.read_csv(FOLDER.parent / "references.csv", comment="#")
    drawn = drawn[drawn["source"].str.contains("arXiv 2212.00794")]
    flip = pd.read_csv(FLIP, dtype={"table": "str"})
    flip = flip[flip["metric"].isin(["top-1", "zero-shot top-1"]) & (flip["evaluated_on"] == "ImageNet-1K")]
    for _, row in drawn.iterrows():
        table = row["source"].partition("Table ")[2].split()[0]
        same = (flip["table"] == table) & (flip["score"] == round(100 * row["zero_shot_top1"], 1))
        for name in ("model", "data", "samples", "mask_ratio"):
            same &= flip[name] == row[name]
        assert same.sum() == 1, row["name"]


def test_table_9_is_what_flipscale_takes_these_models_for():
    towers = pd.read_csv(FOLDER / "flip_encoders.csv").set_index(["model", "tower"])
    for model in ("ViT-B-16", "ViT-L-16", "ViT-H-14"):
        found = architecture(model, 224)
        for tower, shape in (("image", found.image), ("text", found.text)):
            row = towers.loc[(model, tower)]
            assert (shape.layers, shape.width, shape.heads) == (row["layers"], row["width"], row["heads"])
        assert (towers.loc[model, "embed_dim"] == found.embed_dim).all()
        image, text, both = towers.loc[model, "million_parameters"]
        assert abs(image + text - both) <= 2


# Figures 1 and 3


def test_figs_1_and_3_say_3_7_times_2_times_and_2_9_times(capsys):
    data = compared(
        capsys, FLIP, ["table == 'Fig 3'"], "--baseline", "mask_ratio=0", "--x", "hours", "--series", "tuning_samples",
        "--at", "samples",
    )  # fmt: skip
    entries = {entry["name"]: entry for entry in data["series"]}
    half, three_quarters = (entries[f"tuning_samples=128M, mask_ratio={mask}"] for mask in (0.5, 0.75))
    assert (
        round(three_quarters["costs"]["hours"]["speedup_if_straight_in_x"], 1) == 3.7
    )  # the arrow of Fig 1: at equal accuracy
    for entry, speedup, gain in ((half, 2.0, 0.9), (three_quarters, 2.9, 0.6)):  # Fig 3: at equal epochs
        equal = longest_pair(data, entry)
        assert (equal["at"], round(equal["gain"]["value"], 1)) == (12.8e9, gain)
        assert round(1 / equal["ratios"]["hours"]["value"], 1) == speedup


# Table 1


def test_table_1a_half_of_the_patches_gains_1_0_at_half_the_time(capsys):
    costs = ["relative_time", "relative_flops"]
    data = compared(capsys, FLIP, ["table == '1a'"], "--baseline", "mask_ratio=0", "--x", ",".join(costs))
    assert gains(data) == {"mask_ratio=0.5": 1.0, "mask_ratio=0.75": -0.4}
    saved = [longest_pair(data, entry)["ratios"] for entry in data["series"]]
    assert [[round(one[cost]["value"], 2) for cost in costs] for one in saved] == [[0.5, 0.52], [0.33, 0.28]]


def test_table_1b_a_batch_four_times_as_large_gains_1_9_and_2_4(capsys):
    found = steps(capsys, ["table == '1b'"], "batch_size=16384", "--at", "mask_ratio")
    assert found == {
        "mask_ratio=0.5, batch_size=32.77k": 1.1,
        "mask_ratio=0.5, batch_size=65.54k": 1.9,
        "mask_ratio=0.75, batch_size=32.77k": 1.5,
        "mask_ratio=0.75, batch_size=65.54k": 2.4,
    }


def test_table_1c_random_text_masks_lose_2_2_and_prioritised_ones_0_4(capsys):
    found = steps(capsys, ["table == '1c'"], "text_mask=no")
    assert found == {"text_mask=random": -2.2, "text_mask=prioritised": -0.4}


def test_table_1d_masked_inference_loses_3_2_and_7_3_and_an_ensemble_less(capsys):
    found = steps(capsys, ["table == '1d'"], "inference=full", "--at", "mask_ratio")
    assert found["mask_ratio=0.5, inference=masked"] == -3.2
    assert found["mask_ratio=0.5, inference=ensemble"] == -1.5
    assert found["mask_ratio=0.75, inference=masked"] == -7.3


def test_table_1e_tuning_gains_0_5_and_1_3(capsys):
    found = steps(capsys, ["table == '1e'"], "tuning_samples=0", "--at", "mask_ratio")
    assert found == {"mask_ratio=0.5, tuning_samples=128M": 0.5, "mask_ratio=0.75, tuning_samples=128M": 1.3}


def test_table_1f_reconstruction_loses_0_2_and_0_3(capsys):
    found = steps(capsys, ["table == '1f'"], "reconstruction=no", "--at", "mask_ratio")
    assert found == {"mask_ratio=0.5, reconstruction=yes": -0.2, "mask_ratio=0.75, reconstruction=yes": -0.3}


# Tables 2 to 7: FLIP against the authors' own CLIP


@pytest.mark.parametrize(
    ("where", "series", "cells", "means"),
    [
        (["table == '3'", "model == 'ViT-L-16'"], "metric", 3, "mean 81.6 against 80.43"),
        (["table == '5'"], "evaluated_on,metric", 12, "mean 81.29 against 80.63"),
        (["table == '6'"], "evaluated_on,metric", 9, "mean 74.53 against 71.84"),
        (["table == '7'"], "evaluated_on,metric", 8, "mean 56.17 against 55.25"),
    ],
)
def test_flip_wins_all_of_tables_3_5_6_and_7(capsys, where, series, cells, means):
    where = [*where, "case in ['FLIP', 'CLIP our repro']"]
    words = said(capsys, FLIP, where, "--baseline", OURS, "--x", "samples", "--series", series)
    assert f"better in {cells} and worse in 0 of {cells} cells of one seed, {means}." in " ".join(words.split())


def test_table_4_flip_wins_22_of_25_and_loses_on_pets_gtsrb_and_pcam(capsys):
    where = ["table == '4'", "case in ['FLIP', 'CLIP our repro']"]
    data = compared(capsys, FLIP, where, "--baseline", OURS, "--x", "samples", "--series", "evaluated_on")
    (arm,) = data["head"]["arms"]
    means = {"baseline": pytest.approx(64.32, abs=0.005), "score": pytest.approx(65.97, abs=0.005)}
    assert arm["single_runs"] == {"cells": 25, "better": 22, "worse": 3, **means}
    assert {name.split(",")[0] for name, gain in gains(data).items() if gain < 0} == {
        "evaluated_on=Pets", "evaluated_on=GTSRB", "evaluated_on=PCam",
    }  # fmt: skip


def test_table_2_flip_gains_1_9_at_l_16_and_nothing_at_b_16(capsys):
    where = ["table == '2'", "case in ['FLIP', 'CLIP our repro']", "model != 'ViT-H-14'"]
    data = compared(capsys, FLIP, where, "--baseline", OURS, "--x", "samples", "--series", "model")
    names = [f"model={model}, case=FLIP" for model in ("ViT-B-16", "ViT-L-16", "ViT-L-14")]
    assert gains(data) == dict(zip(names, (-0.2, 1.9, 1.5), strict=True))


# Table 8

SMALLEST = "model=ViT-L-16,data=LAION-400M,samples=12.8B"


def test_table_8_model_and_data_gain_and_a_longer_schedule_alone_does_not(capsys):
    found = steps(capsys, ["table in ['8', 'README']", "metric == 'zero-shot top-1'"], SMALLEST)
    assert found == {
        "model=ViT-H-14": 1.2,
        "data=LAION-2B": 1.5,
        "samples=25.6B": -0.4,
        "model=ViT-H-14, data=LAION-2B": 3.3,
        "data=LAION-2B, samples=25.6B": 2.3,
        "model=ViT-H-14, data=LAION-2B, samples=25.6B": 4.5,
    }
    of_both = ["table == '8'", "metric == 'zero-shot top-1'", "data == 'LAION-2B'", "model == 'ViT-H-14'"]
    assert steps(capsys, of_both, "samples=12.8B") == {"samples=25.6B": 1.2}


def test_table_8_data_favours_zero_shot_transfer_and_the_model_transfer_learning(capsys):
    """As the paper puts it: the larger of both deltas, metric by metric."""
    table = pd.read_csv(FLIP, dtype={"table": "str"})
    of_table = table[table["table"] == "8"][["evaluated_on", "metric"]].drop_duplicates()
    better = {"data": [], "model": []}
    for _, (evaluated_on, metric) in of_table.iterrows():
        found = steps(capsys, ["table == '8'", f"metric == '{metric}'", f"evaluated_on == '{evaluated_on}'"], SMALLEST)
        model, data = found["model=ViT-H-14"], found["data=LAION-2B"]
        assert min(model, data) > 0  # both beat the baseline on all metrics
        better["data" if data > model else "model"].append(metric)
    assert better == {
        "data": ["zero-shot top-1", *2 * ["text retrieval R@1"], *2 * ["image retrieval R@1"]],
        "model": ["linear probe top-1", "fine-tuned top-1", "CIDEr", "CIDEr", "accuracy"],
    }


# Follow-ups


def test_on_cc12m_random_masks_lose_per_sample_with_and_without_tuning(capsys):
    where = [GLIP, "inference == 'full'", "case in ['CLIP', 'FLIP']"]
    options = ["--baseline", "mask_ratio=0", "--x", "samples", "--series", "tuning_samples"]
    data = compared(capsys, FOLLOW_UPS, where, *options)
    masks = [f"mask_ratio={mask}" for mask in (0.5, 0.75, 0.918)]
    assert gains(data) == {
        **dict(zip([f"tuning_samples=0, {mask}" for mask in masks], (-0.4, -4.5, -13.0), strict=True)),
        **dict(zip([f"tuning_samples=11M, {mask}" for mask in masks], (-0.3, -3.9, -12.0), strict=True)),
    }
    assert [arm["single_runs"]["worse"] for arm in data["head"]["arms"]] == [2, 2, 2]


def test_on_cc12m_other_reductions_lose_less_at_half_of_the_patches(capsys):
    where = [GLIP, "inference == 'full'", "tuning_samples == 0"]
    options = ["--baseline", "mask_ratio=0", "--x", "samples", "--series", "mask_shape"]
    found = gains(compared(capsys, FOLLOW_UPS, where, *options))
    assert [found[f"mask_shape={shape}, mask_ratio=0.5"] for shape in ("random", "resize", "gaussian")] == [
        -0.4,
        0.1,
        0.6,
    ]


@pytest.mark.parametrize(
    ("where", "options", "found"),
    [
        (
            ["source == 'MingliangLiang3/CLIPF at 5a24b8b1'", "text_mask == 'no'"],
            ["--baseline", "mask_ratio=0", "--x", "samples", "--series", "tuning_samples"],
            {"tuning_samples=0, mask_ratio=0.75": -4.6, "tuning_samples=11M, mask_ratio=0.75": -2.9},
        ),
        (
            ["source == 'microsoft/A-CLIP at 0e51942f'"],
            ["--baseline", "case=CLIP", "--x", "samples"],
            {"case=FLIP": -2.6, "case=two masked views": 0.4},
        ),
        (
            ["data == 'MUGE'"],
            ["--baseline", "mask_ratio=0", "--x", "hours", "--series", "inference"],
            {"inference=full, mask_ratio=0.5": 0.54, "inference=masked, mask_ratio=0.5": -0.83},
        ),
    ],
)
def test_follow_ups_gains_over_no_mask(capsys, where, options, found):
    assert gains(compared(capsys, FOLLOW_UPS, where, *options)) == found


# Rows of a table


def test_a_condition_that_no_row_meets_says_what_there_is(capsys):
    assert main(
        ["compare", str(FLIP), "--where", "table == '10'", "--baseline", "mask_ratio=0", "--x", "hours", "--y", "score"]
    )
    assert "No row has table == '10'; table is one of 1a, 1b, 1c" in capsys.readouterr().err


def test_conditions_are_refused_for_a_study(capsys):
    assert main(["compare", "studies/quickstart.yaml", "--where", "mask_ratio == 0.5"]) == 1
    assert "studies/quickstart.yaml is a study, which already defines its comparison" in capsys.readouterr().err
