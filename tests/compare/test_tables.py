import io
import json
import math

import pandas as pd
import pytest

from flipscale.analysis.comparing import compare_table, comparison_json, comparison_text
from flipscale.cli import main
from flipscale.door.tables import read_table
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


ASKED = ("--baseline", "mask_percent=0", "--x", "hours", "--y", "top1", "--series", "tuned", "--at", "epochs")


def test_flip_s_numbers_come_out_of_its_table(flip, capsys):
    data, _ = said(capsys, "compare", flip, *ASKED)
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
    data, _ = said(capsys, "compare", flip, *ASKED)
    curve = read_along(data)[3]["speedup_curve"]
    assert [(level["score"], level["interval"]) for level in (curve[0], curve[-1])] == [(69.5, None), (72.4, None)]
    assert read_along(data)[1]["speedup_curve"][-1]["score"] == 71.7


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
    options = {"x": "hours", "y": "acc", "at": "epochs" if "epochs" in table else None, **options}
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
    from flipscale.analysis.comparing import compare

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
    found, _ = entries(table, series=["model"])
    assert [(entry["series"], entry["speedup"]["value"]) for entry in found] == [
        ("model=B", pytest.approx(2.0, rel=0.03)),
        ("model=L", pytest.approx(3.0, rel=0.03)),
    ]


def test_a_curve_that_mixes_values_of_a_column_is_refused_by_its_name(flip, capsys):
    asked = ("--baseline", "mask_percent=0", "--x", "hours", "--y", "top1")
    assert "Rows of one curve differ in figure, series and tuned." in refused(capsys, "compare", flip, *asked)
    data, _ = said(capsys, "compare", flip, *asked, "--series", "tuned")
    assert len(data["series"]) == 4
    data, _ = said(capsys, "compare", flip, *asked, "--ignore", "figure,series,tuned")
    assert len(data["series"]) == 2


def test_five_model_sizes_are_not_one_curve():
    sizes = [
        synthetic(seeds=(0,), size=size).assign(hours=lambda t, k=size: t["hours"] * k**0.55) for size in range(1, 6)
    ]
    table = pd.concat(sizes).drop(columns=["seed", "epochs"])
    with pytest.raises(ResultsError, match="Rows of one curve differ in size"):
        entries(table, at=None)
    found, _ = entries(table, series=["size"], at=None)
    assert len(found) == 5


def test_rows_of_one_schedule_that_differ_are_refused_with_the_columns_that_tell_them_apart(flip, capsys):
    asked = ("--baseline", "mask_percent=0", "--x", "hours", "--y", "top1", "--at", "epochs")
    assert "several rows at epochs=6.4, which are not one curve" in (words := refused(capsys, "compare", flip, *asked))
    assert "--series: figure, series, tuned, note" in words


def test_numbers_that_tell_curves_apart_are_asked_for_by_name():
    table = pd.concat([synthetic(width=64), synthetic(width=128)]).drop(columns="seed")
    table.loc[table["width"] == 128, "hours"] *= 1.3
    with pytest.raises(ResultsError, match=r"has several rows at epochs=1, which are .*--series: width;"):
        entries(table)
    found, _ = entries(table, series=["width"])
    assert [entry["series"] for entry in found] == ["width=64", "width=128"]


def test_rows_of_one_schedule_without_a_seed_are_replicates():
    table = synthetic().drop(columns="seed")
    found, _ = entries(table)
    assert len(found[0]["seeds"]) == 3
    assert found[0]["speedup"]["interval"] is not None


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
    assert comparison.unpaired == {"row 13": "no baseline of the same seed in cell 'epochs=1'"}
    assert found[0]["speedup"] is not None


def test_several_costs_are_read_at_once(flip, capsys):
    table = read_table(flip).assign(flops=lambda t: t["epochs"] * (1 - t["mask_percent"] / 104))
    table.to_csv(flip, index=False)
    several = ["hours,flops" if word == "hours" else word for word in ASKED]
    data, _ = said(capsys, "compare", flip, *several)
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
    gains = [found[0][0]["pair"]["gain"]["value"] for found in (percent, fraction)]
    assert gains[0] == pytest.approx(100 * gains[1])


def test_fractions_among_percentages_are_noticed():
    table = synthetic().assign(acc=lambda t: t["acc"] * 100)
    table.loc[3, "acc"] /= 100
    assert "1 of the values of acc are at most 1 and others above it" in entries(table)[1].notes[0]


# What cannot be compared


def test_a_table_without_cells_counts_each_seed_once() -> None:
    rows = "\n".join(
        f"{arm},{seed},{hours},{acc + seed / 10}"
        for arm, factor in (("no", 1.0), ("half", 0.6))
        for seed in range(3)
        for hours, acc in ((factor, 40), (2 * factor, 48), (4 * factor, 53))
    )
    table = pd.read_csv(io.StringIO(f"arm,seed,hours,acc\n{rows}"))
    comparison = compare_table(table, baseline={"arm": "no"}, x="hours", y="acc")
    assert (comparison.runs, comparison.seeds) == (18, (3, 3))


def test_a_ci_without_ends_is_explained_under_the_table():
    scores = {
        ("base", 0): (0.5, 0.6, 0.7),
        ("base", 1): (0.6, 0.75, 0.72),
        ("b", 0): (0.6, 0.7, 0.8),
        ("b", 1): (0.5, 0.7, 0.7),
    }
    rows = [(*run, hours, y) for run, ys in scores.items() for hours, y in zip((1, 2, 4), ys, strict=True)]
    table = pd.DataFrame(rows, columns=["arm", "seed", "hours", "acc"])
    text = comparison_text(compare_table(table, baseline={"arm": "base"}, x=["hours"], y="acc"))
    assert "(open)" in text
    assert "open: a CI without ends" in " ".join(text.split())
