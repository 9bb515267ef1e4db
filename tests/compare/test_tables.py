import io
import json
import math

import pandas as pd
import pytest

from flipscale.cli import main
from flipscale.collect import read_table
from flipscale.compare import baseline_from, columns_from, compare_table, comparison_json, verdicts
from flipscale.errors import ResultsError

# FLIP (arXiv 2212.00794) Figs 1 and 3, ViT-L/16 on LAION-400M: hours on 256 TPU-v3 cores, zero-shot ImageNet top-1.
# Points that are also in Tables 1 and 2 are the tables'; the others are read off the figures.
FLIP = """\
figure,series,mask_percent,batch,tuned,epochs,hours,top1,note
fig1+3,mask 0% (unmasked baseline),0,16384,no,6.4,46.7,68.6,value = Table 1a
fig1+3,mask 0% (unmasked baseline),0,16384,no,12.8,93.3,71.1,digitised
fig1+3,mask 0% (unmasked baseline),0,16384,no,32,233.5,72.4,value = Table 2 L/16
fig3,mask 50% (w/o tuning),50,32768,no,6.4,22.9,69.6,value = Table 1a
fig3,mask 50% (w/o tuning),50,32768,no,12.8,46.3,71.6,digitised
fig3,mask 50% (w/o tuning),50,32768,no,32,115.4,73.1,digitised
fig1+3,mask 50%,50,32768,0.32ep,6.4,25.7,70.1,value = Table 1e
fig1+3,mask 50%,50,32768,0.32ep,12.8,48.4,71.9,digitised
fig1+3,mask 50%,50,32768,0.32ep,32,117.8,73.3,digitised (= +0.9 label)
fig3,mask 75% (w/o tuning),75,65536,no,6.4,15.6,68.2,value = Table 1a
fig3,mask 75% (w/o tuning),75,65536,no,12.8,30.9,70.0,digitised
fig3,mask 75% (w/o tuning),75,65536,no,32,77.4,71.7,digitised
fig1+3,mask 75%,75,65536,0.32ep,6.4,17.9,69.5,value = Table 1e
fig1+3,mask 75%,75,65536,0.32ep,12.8,33.3,71.3,digitised
fig1+3,mask 75%,75,65536,0.32ep,32,80.1,73.0,digitised (= +0.6 label)
"""


@pytest.fixture
def flip(tmp_path):
    path = tmp_path / "flip.csv"
    path.write_text(FLIP)
    return path


def said(capsys, *arguments):
    """What the command line answers, from JSON, and what it says beside."""
    assert main([*map(str, arguments), "--json"]) == 0
    out, talk = capsys.readouterr()
    return json.loads(out), talk


def refused(capsys, *arguments):
    assert main([*map(str, arguments)]) == 1
    out, talk = capsys.readouterr()
    assert out == ""
    return talk.strip()


def read_along(data):
    """The series of a comparison with the readings along its first cost, and its pair at the longest schedule."""
    found = []
    for series in data["series"]:
        pairs = [p for p in data["pairs"] if f"{p['series']}, {p['arm']}".removeprefix(", ") == series["name"]]
        longest = max(pairs, key=lambda pair: pair["at"] or 0, default=None)
        found.append({**series, **series["costs"][data["x"][0]], "pair": longest})
    return found


# FLIP's arithmetic


@pytest.mark.parametrize("series", [(), ("--series", "tuned"), ("--series", "figure"), ("--at", "epochs")])
def test_flip_s_numbers_come_out_of_its_table_with_or_without_being_told_the_series(flip, capsys, series):
    data, _ = said(capsys, "compare", flip, "--baseline", "mask_percent=0", "--x", "hours", "--y", "top1", *series)
    found = read_along(data)
    assert [entry["arm"] for entry in found] == [{"mask_percent": mask} for mask in (50, 75, 50, 75)]
    half, three_quarters = found[2:]  # after unmasked tuning, whose time is counted
    assert round(three_quarters["speedup_if_straight_in_x"], 1) == 3.7
    assert three_quarters["speedup_if_straight_in_x"] == pytest.approx(233.5 / (33.3 + (80.1 - 33.3) * 1.1 / 1.7))
    assert (three_quarters["target"], three_quarters["target_at"]) == (71.1, 12.8)
    speedup = three_quarters["speedup"]
    assert (speedup["interval"], speedup["why"]) == (None, "one seed gives no interval")
    for entry, speedup, gain in ((half, 2.0, 0.9), (three_quarters, 2.9, 0.6)):
        equal = entry["pair"]
        assert (data["at"], equal["at"]) == ("epochs", 32)
        assert round(1 / equal["ratios"]["hours"]["value"], 1) == speedup
        assert round(equal["gain"]["value"], 1) == gain


def test_what_was_found_without_being_told_is_said(flip, capsys):
    data, talk = said(capsys, "compare", flip, "--baseline", "mask_percent=0", "--x", "hours", "--y", "top1")
    assert data["notes"] == [
        "rows of mask_percent=50 are several curves, told apart by tuned (--series; figure, series would do the same)",
        "twins are the rows of equal epochs (--at)",
    ]
    assert talk.splitlines() == data["notes"]
    told = said(
        capsys, "compare", flip, "--baseline", "mask_percent=0", "--x", "hours", "--y", "top1", "--series", "tuned",
        "--at", "epochs",
    )  # fmt: skip
    assert told[1] == ""


def test_the_baseline_is_in_every_series_that_it_has_no_rows_of():
    table = pd.read_csv(io.StringIO(FLIP))
    comparison = compare_table(table, baseline={"mask_percent": 0}, x="hours", y="top1", series=["tuned"], at="epochs")
    assert [(curve.series, curve.speedup.score) for curve in comparison.curves] == [
        ("tuned=no", 71.1),
        ("tuned=no", 71.1),
        ("tuned=0.32ep", 71.1),
        ("tuned=0.32ep", 71.1),
    ]
    assert len(comparison.pairs) == 12
    assert not comparison.unpaired


def test_the_speedup_curve_stays_inside_the_overlap(flip, capsys):
    data, _ = said(capsys, "compare", flip, "--baseline", "mask_percent=0", "--x", "hours", "--y", "top1")
    curve = read_along(data)[3]["speedup_curve"]
    assert [(level["score"], level["interval"]) for level in (curve[0], curve[-1])] == [(69.5, None), (72.4, None)]
    assert read_along(data)[1]["speedup_curve"][-1]["score"] == 71.7


def test_a_person_sees_the_same_in_words(flip, capsys):
    assert main(["compare", str(flip), "--baseline", "mask_percent=0", "--x", "hours", "--y", "top1"]) == 0
    out = capsys.readouterr().out
    assert (
        "- tuned=0.32ep, mask_percent=75: to 71.1, the baseline's mean at 12.8, it is 3.0x faster in hours "
        "(one seed, no CI): 2.8x cheaper a sample, 0.91x as many samples; at equal epochs (32) "
        "it is 0.6 better (one seed, no CI), and 2.9x faster in hours."
    ) in out


# What makes a curve, and what makes twins


def synthetic(seeds=(0, 1, 2), arms=(0, 0.5), shift=2.0, wobble=0.001, **more):
    """log2 accuracy; an arm is as good for 1/shift of the hours, of which it takes 0.6 for a schedule."""
    rows = [
        {
            "mask": mask,
            "epochs": epochs,
            "hours": hours,
            "seed": seed,
            "acc": y,
            **more,
        }
        for mask in arms
        for epochs in (1, 2, 4, 8)
        for seed in seeds
        for hours, by in [(epochs * (0.6 if mask else 1), shift if mask else 1)]
        for y in [0.1 * math.log2(4 * by * hours) + wobble * math.sin(7 * seed + epochs + mask)]
    ]
    return pd.DataFrame(rows)


def entries(table, baseline=None, **options):
    options = {"x": "hours", "y": "acc", **options}
    comparison = compare_table(table, baseline=baseline or {"mask": 0}, **options)
    return read_along(comparison_json(comparison)), comparison


def test_a_known_speedup_lies_in_its_interval_and_in_that_of_every_level():
    (entry,), _ = entries(synthetic(shift=2.0, wobble=0.003))
    assert entry["seeds"] == [0, 1, 2]
    for level in entry["speedup_curve"]:
        assert level["speedup"] == pytest.approx(2.0, rel=0.03)
        low, high = level["interval"][0] or 0.0, level["interval"][1] or math.inf
        assert low < level["speedup"]
        assert 0.99 * low < 2.0 < 1.01 * high
    assert entry["speedup"]["value"] == pytest.approx(2.0, rel=0.03)
    assert entry["speedup_if_straight_in_x"] == pytest.approx(2.0, rel=0.07)


def test_the_keys_are_those_of_a_study():
    from flipscale.compare import compare

    results = synthetic().rename(columns={"mask": "mask_ratio", "acc": "zero_shot_top1", "epochs": "samples"})
    results = results.assign(gpu_hours=results["hours"], train_flops=1e9 * results["hours"])
    of_study = compare(results, baseline={"mask_ratio": 0})
    comparison = compare_table(synthetic(), baseline={"mask": 0}, x="hours", y="acc")
    (entry,), (other,) = (comparison_json(found)["series"] for found in (comparison, of_study))
    assert list(entry) == list(other)
    assert list(comparison_json(comparison)) == list(comparison_json(of_study))
    assert list(other["costs"]) == ["gpu_hours", "train_flops"]


def test_two_models_are_two_series_of_their_own_baselines():
    table = pd.concat([synthetic(model="B"), synthetic(model="L", shift=3.0)])
    table.loc[table["model"] == "L", "hours"] *= 5
    found, comparison = entries(table)
    assert [(entry["series"], entry["speedup"]["value"]) for entry in found] == [
        ("model=B", pytest.approx(2.0, rel=0.03)),
        ("model=L", pytest.approx(3.0, rel=0.03)),
    ]
    assert comparison.notes[0] == "rows of the baseline are several curves, told apart by model (--series)"


def test_models_and_tuning_are_told_apart_at_once():
    tables = [
        synthetic(seeds=(0,), arms=arms, model=model, tuned=tuned, shift=shift)
        for model in ("B", "L")
        for arms, tuned, shift in (((0, 0.5), "no", 2.0), ((0.5,), "yes", 2.5))
    ]
    table = pd.concat(tables).drop(columns="seed")
    table.loc[table["model"] == "L", "hours"] *= 5
    table.loc[table["tuned"] == "yes", "hours"] *= 1.05
    found, _ = entries(table)
    assert sorted(entry["name"] for entry in found) == [
        "model=B, tuned=no, mask=0.5",
        "model=B, tuned=yes, mask=0.5",
        "model=L, tuned=no, mask=0.5",
        "model=L, tuned=yes, mask=0.5",
    ]
    assert all(entry["speedup_curve"] for entry in found)


def test_a_column_of_words_does_not_split_a_curve_that_is_one():
    table = synthetic()
    table["host"] = ["a", "b"] * (len(table) // 2)
    found, comparison = entries(table)
    assert [entry["name"] for entry in found] == ["mask=0.5"]
    assert comparison.notes == ("twins are the rows of equal epochs (--at)",)


def test_numbers_that_tell_curves_apart_are_asked_for_by_name():
    table = pd.concat([synthetic(width=64), synthetic(width=128)])
    table.loc[table["width"] == 128, "hours"] *= 1.3
    with pytest.raises(ResultsError, match=r"has several rows at epochs=1, which are .*--series: width;"):
        entries(table)
    found, _ = entries(table, series=["width"])
    assert [entry["series"] for entry in found] == ["width=64", "width=128"]


def test_without_a_schedule_curves_that_zig_zag_are_told_apart():
    rows = [
        ("none", "paper", 1, 50), ("none", "paper", 2, 60), ("none", "paper", 4, 70),
        ("half", "paper", 0.6, 52), ("half", "paper", 1.1, 62), ("half", "paper", 2.3, 72),
        ("half", "ours", 0.7, 40), ("half", "ours", 1.3, 45), ("half", "ours", 2.5, 51),
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=["mask", "by", "hours", "acc"])
    found, comparison = entries(table, {"mask": "none"})
    assert [entry["name"] for entry in found] == ["by=paper, mask=half", "by=ours, mask=half"]
    assert "told apart by by (--series)" in comparison.notes[0]
    assert found[0]["speedup_if_straight_in_x"] == pytest.approx(4 / (1.1 + 1.2 * 0.8))
    assert found[0]["pair"] is None


def test_rows_of_one_schedule_without_a_seed_are_replicates():
    table = synthetic().drop(columns="seed")
    found, comparison = entries(table)
    assert len(found[0]["seeds"]) == 3
    assert found[0]["speedup"]["interval"] is not None
    assert comparison.notes[1] == (
        "without a column 'seed', rows of one arm at one epochs are replicates: the first of an arm is set against the "
        "first of the baseline, in the order of rows"
    )


def test_rows_of_one_cost_without_seed_or_schedule_are_replicates():
    table = synthetic().drop(columns=["seed", "epochs"])
    (entry,), _ = entries(table)
    assert len(entry["seeds"]) == 3
    assert entry["speedup"]["value"] == pytest.approx(2.0, rel=0.07)


def test_seeds_that_are_words_pair_like_numbers():
    table = synthetic()
    named = table.assign(seed=table["seed"].map({0: "a", 1: "b", 2: "c"}))
    assert entries(named)[0][0]["speedup"] == entries(table)[0][0]["speedup"]


def test_an_arm_with_seeds_of_its_own_is_set_against_the_baseline_s_in_order():
    table = synthetic()
    other = table.assign(seed=table["seed"] + 10 * (table["mask"] > 0))
    (entry,), comparison = entries(other)
    assert entry["speedup"] == entries(table)[0][0]["speedup"]
    assert comparison.notes[-1] == (
        "mask=0.5 has no seed of its baseline's, so their seeds are set against each other in order"
    )
    fewer = other[(other["mask"] > 0) | (other["seed"] == 1)]
    assert entries(fewer)[0][0]["seeds"] == [1]


def test_a_column_of_truths_is_a_baseline_too():
    table = synthetic().assign(masked=lambda t: t["mask"] > 0).drop(columns="mask")
    (entry,), _ = entries(table, {"masked": False})
    assert (entry["name"], entry["arm"]) == ("masked=True", {"masked": True})


def test_two_rows_of_one_seed_and_schedule_are_an_error_that_names_them():
    table = pd.concat([synthetic(), synthetic().iloc[[13]]])
    with pytest.raises(ResultsError, match=r"row 14 and row 25 are both mask=0\.5 at seed 1 and epochs=1\. .*--series"):
        entries(table)


def test_a_row_without_a_score_or_a_cost_takes_no_part():
    table = synthetic()
    table.loc[0, "acc"] = None
    table.loc[13, "hours"] = None
    found, comparison = entries(table)
    assert comparison.left_out == {"row 1": "no acc"}
    assert comparison.unpaired == {"row 13": "no baseline at seed 0 of cell 'epochs=1'"}
    assert found[0]["speedup"] is not None


def test_several_costs_are_read_at_once(flip, capsys):
    table = read_table(flip).assign(flops=lambda t: t["epochs"] * (1 - t["mask_percent"] / 104))
    table.to_csv(flip, index=False)
    data, _ = said(capsys, "compare", flip, "--baseline", "mask_percent=0", "--x", "hours,flops", "--y", "top1")
    entry = data["series"][3]
    assert data["x"] == list(entry["costs"]) == ["hours", "flops"]
    assert entry["costs"]["flops"]["speedup"]["value"] > entry["costs"]["hours"]["speedup"]["value"] > 2.5


def test_several_columns_make_a_baseline():
    tables = [synthetic(seeds=(0,), lr=lr) for lr in (0.1, 0.2)]
    found, _ = entries(pd.concat(tables), {"mask": 0, "lr": 0.1})
    assert [entry["arm"] for entry in found] == [
        {"mask": 0, "lr": 0.2},
        {"mask": 0.5, "lr": 0.1},
        {"mask": 0.5, "lr": 0.2},
    ]
    assert [entry["name"] for entry in found] == ["lr=0.2", "mask=0.5", "mask=0.5, lr=0.2"]


def test_less_of_a_loss_is_better_by_its_name_unless_it_is_said_otherwise():
    table = synthetic().assign(val_loss=lambda t: 2 - t["acc"])
    found, comparison = entries(table, y="val_loss")
    assert found[0]["speedup"]["value"] == pytest.approx(2.0, rel=0.03)
    assert found[0]["target"] == pytest.approx(2 - 0.4, abs=0.01)
    assert not any("taken as better" in note for note in comparison.notes)
    _, other = entries(table, y="val_loss", lower_is_better=False)
    assert other.notes[0] == "higher val_loss is taken as better, though its name says the opposite"
    assert (comparison.lower_is_better, other.lower_is_better) == (True, False)


def test_fractions_are_shown_in_percent_and_percentages_as_they_are():
    fraction, percent = (entries(synthetic().assign(acc=lambda t, by=by: t["acc"] * by)) for by in (1, 100))
    assert "to 39.9 %, the baseline's mean at 4," in verdicts(fraction[1])[0]
    assert "to 39.92, the baseline's mean at 4," in verdicts(percent[1])[0]
    gains = [found[0][0]["pair"]["gain"]["value"] for found in (percent, fraction)]
    assert gains[0] == pytest.approx(100 * gains[1])


def test_fractions_among_percentages_are_noticed():
    table = synthetic().assign(acc=lambda t: t["acc"] * 100)
    table.loc[3, "acc"] /= 100
    assert "1 of the values of acc are at most 1 and others above it" in entries(table)[1].notes[0]


# What cannot be compared


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--baseline", "mask=0", "--x", "hours", "--y", "top1"], "has no column 'mask': did you mean 'mask_percent'?"),
        (["--baseline", "mask_percent=0", "--x", "hour", "--y", "top1"], "has no column 'hour': did you mean 'hours'?"),
        (["--baseline", "mask_percent=10", "--x", "hours", "--y", "top1"],
         "No row is the baseline mask_percent=10; there is mask_percent=0; mask_percent=50; mask_percent=75."),
        (["--baseline", "mask_percent=none", "--x", "hours", "--y", "top1"], "the baseline mask_percent=null"),
        (["--baseline", "mask_percent=lots", "--x", "hours", "--y", "top1"],
         "'mask_percent' holds numbers, and 'lots' is not one; it has 0, 50, 75."),
        (["--baseline", "mask_percent", "--x", "hours", "--y", "top1"], "is not a baseline; write COLUMN=VALUE"),
        (["--baseline", "mask_percent=0", "--x", "tuned", "--y", "top1"],
         "row 1: tuned is 'no', which is not a number"),
        (["--baseline", "mask_percent=0", "--x", "top1", "--y", "top1"], "x and y are both 'top1'"),
        (["--baseline", "mask_percent=0", "--y", "top1"], "and --x is not given; write flipscale compare"),
        (["--y", "top1"], "and --baseline and --x are not given; write flipscale compare"),
    ],
)  # fmt: skip
def test_a_table_that_lacks_what_was_asked_is_refused_in_a_sentence(flip, capsys, arguments, sentence):
    assert sentence in refused(capsys, "compare", flip, *arguments)


def test_costs_and_scores_without_overlap_are_absent_with_the_reason():
    table = synthetic()
    table.loc[table["mask"] == 0.5, "hours"] /= 1000
    (entry,), comparison = entries(table)
    assert entry["gain_at_equal_x"]["value"] is None
    assert "no cost in common" in entry["gain_at_equal_x"]["why"]
    table.loc[table["mask"] == 0.5, "acc"] += 1
    (entry,), comparison = entries(table)
    assert entry["speedup_curve"] == []
    assert entry["speedup"]["interval"][1] is None
    assert "it is at least " in verdicts(comparison)[0]
    assert "as its shortest schedule is better already" in verdicts(comparison)[0]


def test_one_schedule_gives_gains_and_the_reason_why_there_is_no_curve():
    table = synthetic()
    (entry,), _ = entries(table[table["epochs"] == 8], at="epochs")
    assert (entry["speedup"], entry["why"]) == (None, "one schedule length here, and a curve takes two")
    assert entry["pair"]["gain"]["interval"] is not None


def test_a_table_of_the_baseline_alone_has_nothing_to_compare():
    with pytest.raises(ResultsError, match="Every row is the baseline"):
        entries(synthetic(arms=(0,)))
    with pytest.raises(ResultsError, match="Column 'acc' is empty"):
        entries(synthetic().assign(acc=None))


def test_tables_are_read_from_csv_tsv_and_parquet(tmp_path):
    table = synthetic()
    table.to_csv(tmp_path / "t.csv", index=False)
    table.to_csv(tmp_path / "t.tsv", index=False, sep="\t")
    table.to_parquet(tmp_path / "t.parquet")
    for name in ("t.csv", "t.tsv", "t.parquet"):
        pd.testing.assert_frame_equal(read_table(tmp_path / name), table)


def test_a_file_that_is_no_table_is_refused_in_a_sentence(tmp_path, capsys):
    (tmp_path / "none.parquet").write_text("no parquet")
    (tmp_path / "empty.csv").write_text("mask,hours,acc\n")
    (tmp_path / "void.csv").write_text("")
    options = ["--baseline", "mask=0", "--x", "hours", "--y", "acc"]
    assert "gone.csv: there is no such file." in refused(capsys, "compare", tmp_path / "gone.csv", *options)
    assert "none.parquet: cannot be read as a table" in refused(capsys, "compare", tmp_path / "none.parquet", *options)
    assert "void.csv: cannot be read as a table" in refused(capsys, "compare", tmp_path / "void.csv", *options)
    assert "empty.csv: has no rows." in refused(capsys, "compare", tmp_path / "empty.csv", *options)


def test_options_of_a_table_are_refused_for_a_study(capsys):
    talk = refused(capsys, "compare", "studies/quickstart.yaml", "--x", "gpu_hours")
    assert "studies/quickstart.yaml is a study, which already defines its comparison" in talk


def test_a_baseline_s_value_is_read_as_its_column_has_it():
    table = pd.DataFrame({"samples": [12.8e9], "data": ["400M"], "tuned": [False], "note": [None]})
    asked = ["samples=12.8B,data=400M", "tuned=no", "note=null"]
    assert baseline_from(table, asked) == {"samples": 12.8e9, "data": "400M", "tuned": False, "note": None}


def test_commas_in_names_and_values_are_theirs():
    table = pd.DataFrame({"hours, all": [1.0], "lr": [1], "tuning": ["a=1, b=2"]})
    assert baseline_from(table, ["tuning=a=1, b=2"]) == {"tuning": "a=1, b=2"}
    assert columns_from(table, "hours, all") == ["hours, all"]
    assert columns_from(table, "lr, tuning") == ["lr", "tuning"]


def test_deltas_are_a_table_and_json(tmp_path, capsys):
    path = tmp_path / "t.csv"
    path.write_text("model,data,top1\nL,400M,74.3\nH,400M,75.5\nL,2B,75.8\nH,2B,77.6\n")
    asked = ["compare", str(path), "--baseline", "model=L,data=400M", "--y", "top1", "--deltas"]
    data, _ = said(capsys, *asked)
    assert data["cells"][2]["interaction"]["value"] == pytest.approx(0.6)
    assert main(asked) == 0
    assert "model=H, data=2B  77.6  +3.3   +2.7            +0.6" in capsys.readouterr().out


def test_one_row_an_arm_is_compared_as_it_is():
    # FLIP's Table 1a.
    table = pd.DataFrame(
        {"mask": [0, 50, 75], "batch": [16, 32, 64], "time": [1, 0.5, 0.33], "acc": [68.6, 69.6, 68.2]}
    )
    found, comparison = entries(table, x="time")
    assert comparison.notes == ()
    assert [round(entry["pair"]["gain"]["value"], 1) for entry in found] == [1.0, -0.4]
    assert found[0]["pair"]["ratios"]["time"]["value"] == 0.5
    assert verdicts(comparison)[0] == "mask=50: it is 1 better (one seed, no CI), and 2.0x faster in time."


def test_a_column_that_varies_between_series_alone_is_no_schedule():
    rows = [(mask, batch, 1000 // batch, 10 * mask + batch, 50 + mask + batch) for mask in (0, 1) for batch in (5, 10)]
    table = pd.DataFrame(rows, columns=["mask", "batch", "steps", "hours", "acc"])
    found, comparison = entries(table, series=["batch"])
    assert comparison.at is None
    assert [entry["pair"]["gain"]["value"] for entry in found] == [1, 1]


def test_scores_that_go_up_and_down_are_refused_if_a_setting_may_be_the_reason_and_noticed_otherwise():
    rows = [(mask, rate, hours * (1.1 - 0.6 * mask + 0.1 * rate), 50 + 10 * hours - 20 * rate + mask)
            for mask in (0, 1) for rate in (0, 1) for hours in (1, 2, 3, 4)]  # fmt: skip
    table = pd.DataFrame(rows, columns=["mask", "rate", "hours", "acc"])
    with pytest.raises(ResultsError, match=r"go up and down as those of several curves do\. .* one or more of rate\."):
        entries(table)
    found, comparison = entries(table[table["rate"] == 0].assign(acc=[60, 70, 69, 80, 61, 71, 81, 91]))
    assert comparison.notes == (
        "along hours some scores go down and up again; if these are several curves, name them by --series",
    )
    assert found[0]["speedup"] is not None
