"""Groups of rows of any table against its baseline."""

import io
import json
import math
from pathlib import Path

import pandas as pd
import pytest
from scipy import stats

from flipscale.analysis.comparing import compare_groups, groups_text
from flipscale.cli import main
from flipscale.errors import ResultsError

# Six losses of one configuration (github.com/wandb/senpai issue 1007), and an arm of three, of which two are made up.
ROOT = Path(__file__).parents[2]
BASE = [2.1997, 2.2065, 2.2532, 2.2566, 2.2650, 2.2667]
ARM = [2.2155, 2.19, 2.20]


def losses(**arms):
    rows = [(name, loss) for name, values in arms.items() for loss in values]
    return pd.DataFrame(rows, columns=["arm", "val_loss"])


def groups_of(table, base="base", **options):
    return compare_groups(table, baseline={"arm": base}, y="val_loss", **options)


def only(groups):
    (gain,) = groups.gains
    return gain


def ends(gain):
    return [round(end, 4) for end in gain.gain.interval]


def command(tmp_path, capsys, table, *options):
    """Exit code, output and message of the command on a table."""
    file = tmp_path / "runs.csv"
    file.write_text(table if isinstance(table, str) else table.to_csv(index=False))
    code = main(["compare", str(file), *options])
    out, talk = capsys.readouterr()
    return code, out, talk


# Two groups


def test_six_runs_against_three_are_welch_s_t():
    gain = only(groups_of(losses(base=BASE, arm=ARM)))
    assert (round(gain.gain.value, 4), ends(gain)) == (0.0394, [0.0055, 0.0734])
    assert gain.gain.p == pytest.approx(stats.ttest_ind(BASE, ARM, equal_var=False).pvalue)
    assert (gain.verdict, gain.method, gain.runs) == ("better", "all rows (Welch)", (6, 3))


def test_one_run_has_a_prediction_interval_by_the_scatter_of_the_others_either_way_round():
    gain = only(groups_of(losses(base=BASE, arm=ARM[:1])))
    assert (round(gain.gain.value, 4), ends(gain)) == (0.0258, [-0.0577, 0.1093])  # .0258 +- .0835
    assert (gain.verdict, gain.method) == ("undecided", "one run, prediction interval")
    mirrored = only(groups_of(losses(base=BASE, arm=ARM[:1]), base="arm"))
    assert ends(mirrored) == [-0.1093, 0.0577]


def test_one_run_against_one_is_a_difference_without_a_verdict(tmp_path, capsys):
    groups = groups_of(losses(base=BASE[:1], arm=ARM[:1]), margin=0.1)
    gain = only(groups)
    assert (round(gain.gain.value, 4), gain.gain.interval) == (-0.0158, None)
    assert gain.verdict == "one run each"
    assert not groups.passes


def test_equal_runs_are_undecided_and_runs_without_scatter_decide():
    assert only(groups_of(losses(base=[2.0, 2.0], arm=[2.0, 2.0]))).verdict == "undecided"
    assert only(groups_of(losses(base=[2.0, 2.0], arm=[1.9, 1.9]))).verdict == "better"


def test_rows_are_twins_only_where_a_column_says_so_and_every_row_has_one():
    table = losses(base=[3.0, 4.0, 5.0], arm=[2.9, 3.8, 4.9]).assign(seed=[0, 1, 2, 2, 0, 1])
    assert only(groups_of(table)).method == "all rows (Welch)"
    table = losses(base=[3.0, 4.0, 5.0], arm=[4.9, 2.8, 3.9]).assign(seed=[0, 1, 2, 2, 0, 1])
    gain = only(groups_of(table, seed="seed"))
    assert (gain.method, gain.groups.paired) == ("twins", True)
    assert gain.gain.p == pytest.approx(stats.ttest_rel([3, 4, 5], [2.8, 3.9, 4.9]).pvalue)
    without = only(groups_of(table.replace({"seed": {2: 7}}).drop(index=2), seed="seed"))
    assert (without.method, without.without_twin) == ("all rows (Welch)", ("7",))


def test_two_rows_of_one_seed_are_refused():
    table = losses(base=[3.0, 4.0], arm=[2.9, 3.8]).assign(seed=[0, 0, 0, 1])
    with pytest.raises(
        ResultsError, match=r"The baseline has several rows of 0, so none is the twin\. Name the column"
    ):
        groups_of(table, seed="seed")


def test_arms_are_corrected_together_by_holm():
    table = losses(base=BASE, arm=[*ARM, 2.22, 2.21, 2.21], other=[2.21, 2.25, 2.26, 2.2, 2.2, 2.2])
    first, second = (gain.gain for gain in groups_of(table).gains)
    assert first.corrected.p == pytest.approx(2 * first.p)
    assert second.corrected.p == pytest.approx(max(second.p, 2 * first.p))
    assert first.corrected.of == 2


def test_in_a_family_an_arm_of_few_runs_has_no_degrees_of_freedom_by_luck():
    # Three arms of three runs against ten erred together in .11 where Welch's degrees of freedom went by the scatter.
    many = [*BASE, 2.21, 2.23, 2.24, 2.25]
    alone = only(groups_of(losses(base=many, arm=ARM))).gain
    first, _ = (gain.gain for gain in groups_of(losses(base=many, arm=ARM, other=[2.21, 2.25, 2.26])).gains)
    assert (first.interval, first.p) == (alone.interval, alone.p)
    assert first.corrected.p > 3 * alone.p


# Rows that are not repeats


def sizes(*tokens):
    return losses(base=BASE[:4], arm=ARM[:2]).assign(tokens=tokens)


def test_rows_that_differ_in_a_column_nobody_named_are_no_repeats():
    table = sizes(12e9, 12e9, 120e9, 120e9, 12e9, 120e9)
    said = r"Rows of the baseline differ in tokens \(12B, 120B\), so they are no repeats\. Write --at tokens to compare"
    with pytest.raises(ResultsError, match=said):
        groups_of(table)
    small, large = groups_of(table, at=["tokens"]).gains
    assert (small.cell, small.runs, large.cell, large.runs) == ("tokens=12B", (2, 1), "tokens=120B", (2, 1))
    assert only(groups_of(table, ignore=["tokens"])).runs == (4, 2)


def test_a_seed_of_another_size_is_no_twin():
    table = sizes(12e9, 12e9, 120e9, 120e9, 120e9, 120e9).assign(seed=[0, 1, 0, 1, 0, 1])
    gain = only(groups_of(table, seed="seed", at=["tokens"]))
    assert gain.gain.value == pytest.approx(-(2.2155 - 2.2532 + 2.19 - 2.2566) / 2)


def test_names_and_measurements_are_no_settings_and_what_arms_differ_in_besides_is_said():
    table = losses(base=BASE[:2], arm=ARM[:2]).assign(
        Name=["a", "a", "b", "c"], State="finished", Runtime=[5, 5, 6, 7], train_loss=[2.0, 2.0, 1.9, 2.1],
        seed=[0, 1, 0, 1], lr=[1e-3, 1e-3, 3e-4, 3e-4], throughput=[10.5, 10.7, 11.1, 11.3],
    )  # fmt: skip
    groups = groups_of(table)
    assert groups.confounded == ("lr",)
    assert "! Arms also differ in lr, so gains may owe something to that." in groups_text(groups)


# Several data sets


def test_each_data_set_has_a_row_and_all_of_them_one_more_by_the_means_of_seeds():
    table = pd.DataFrame(
        [
            (arm, seed, name, level + 0.1 * seed - gain + 0.01 * ((seed * 7 + len(name)) % 3))
            for arm, gain in (("base", 0), ("new", 0.05))
            for seed in (0, 1, 2)
            for name, level in (("c4", 3), ("wiki", 2))
        ],
        columns=["arm", "seed", "dataset", "val_loss"],
    )  # fmt: skip
    *each, over_all = groups_of(table, by=["dataset"], seed="seed").gains
    assert [gain.cell for gain in each] == ["dataset=c4", "dataset=wiki"]
    assert (over_all.is_overall, over_all.method, over_all.runs) == (True, "twins", (3, 3))
    assert over_all.gain.value == pytest.approx(0.05)


def test_without_seeds_the_mean_over_data_sets_has_an_interval_over_data_sets():
    rows = [("base", f"d{i}", 70 + i) for i in range(5)] + [("new", f"d{i}", 71 + i + 0.1 * (i % 2)) for i in range(5)]
    table = pd.DataFrame(rows, columns=["arm", "dataset", "acc"])
    groups = compare_groups(table, baseline={"arm": "base"}, y="acc", by=["dataset"])
    over_all = groups.deciding[0]
    assert (over_all.method, over_all.verdict, over_all.gain.n) == ("mean of the rows above", "better", 5)
    assert over_all.gain.value == pytest.approx(1.04)
    assert {gain.verdict for gain in groups.gains[:-1]} == {"one run each"}


# Verdicts, and what more runs would do


def test_within_a_margin_arms_are_level_and_undecided_ones_say_what_more_runs_find():
    table = losses(base=[2.00, 2.01, 2.02, 2.01], arm=[2.01, 2.02, 2.00, 2.01])
    assert only(groups_of(table, margin=0.03)).verdict == "level"
    gain = only(groups_of(table))
    assert (gain.verdict, gain.more.more) == ("undecided", 4)
    needed = only(groups_of(table, effect=0.005)).more
    assert gain.groups.smallest_found(needed.more, 0.05) <= 0.005 < gain.groups.smallest_found(needed.more - 1, 0.05)
    closer = only(groups_of(table, margin=0.004)).more
    assert closer.is_margin
    assert closer.more > 4


def test_failed_rows_are_counted_and_are_no_numbers(tmp_path, capsys):
    table = (
        "arm,val_loss\n"
        + "".join(f"base,{loss}\n" for loss in BASE)
        + "new,2.2155\nnew,2.19\nnew,\nnew,inf\nbase,nan\n"
    )
    code, out, _ = command(tmp_path, capsys, table, "--baseline", "arm=base", "--y", "val_loss")
    assert code == 0
    assert "Without a finite val_loss, so left out: 2 of arm=new and 1 of the baseline." in out
    assert "6 : 2" in out


def test_rows_that_where_leaves_out_are_counted(tmp_path, capsys):
    options = ("--baseline", "arm=base", "--y", "val_loss", "--where", "arm != 'other'")
    _, out, _ = command(tmp_path, capsys, losses(base=BASE, arm=ARM, other=[9.0]), *options)
    assert "9 of 10 rows; --where leaves out the others." in out


# The gate


@pytest.mark.parametrize(
    ("arm", "options", "code"),
    [
        (ARM, (), 0),
        (BASE, (), 1),
        (BASE, ("--margin", "0.1"), 0),
        ([2.3, 2.31, 2.32], ("--margin", "0.1"), 1),
        (ARM, ("--at", "tokns"), 2),
        (ARM, ("--margin", "-1"), 2),
    ],
)
def test_a_gate_says_by_its_exit_code_whether_the_arm_is_better(tmp_path, capsys, arm, options, code):
    options = ("--baseline", "arm=base", "--y", "val_loss", "--gate", *options)
    try:
        found, _, _ = command(tmp_path, capsys, losses(base=BASE, arm=arm), *options)
    except SystemExit as stopped:
        found = stopped.code
    assert found == code


def test_a_gate_of_several_arms_names_those_that_pass_and_can_ask_for_one(tmp_path, capsys):
    table = losses(base=BASE, good=[1.9, 1.91, 1.92], same=BASE, none=[math.nan])
    options = ("--baseline", "arm=base", "--y", "val_loss", "--gate")
    code, screen, talk = command(tmp_path, capsys, table, *options)
    assert (code, talk) == (1, "gate passed: arm=good\ngate not passed: arm=same and arm=none\n")
    assert command(tmp_path, capsys, table, *options, "good") == (0, screen, "gate passed: arm=good\n")
    assert command(tmp_path, capsys, table, *options, "arm=same")[::2] == (1, "gate not passed: arm=same\n")
    assert command(tmp_path, capsys, table, *options, "god")[::2] == (
        2,
        "--gate: no arm is 'god'; there is arm=good, arm=same and arm=none.\n",
    )


def test_a_table_may_stand_after_the_gate(tmp_path, capsys):
    file = tmp_path / "runs.csv"
    losses(base=BASE, good=[1.9, 1.91, 1.92]).to_csv(file, index=False)
    assert main(["compare", "--baseline", "arm=base", "--y", "val_loss", "--gate", str(file)]) == 0
    assert capsys.readouterr().err == "gate passed: arm=good\n"


def test_twins_are_pairs_and_seeds_without_one_are_named(tmp_path, capsys):
    rows = [(arm, seed, 2 + seed / 10 - gain) for arm, n, gain in (("base", 6, 0), ("a", 4, 0.1)) for seed in range(n)]
    table = pd.DataFrame(rows, columns=["arm", "seed", "val_loss"])
    options = ("--baseline", "arm=base", "--y", "val_loss", "--seed", "seed")
    _, out, _ = command(tmp_path, capsys, table, *options)
    assert "arm=a  4 pairs " in out
    assert "Without a twin: arm=a at seed 4, 5." in out


def test_json_has_the_same_in_fields(tmp_path, capsys):
    _, out, _ = command(
        tmp_path, capsys, losses(base=BASE, arm=ARM), "--baseline", "arm=base", "--y", "val_loss", "--json"
    )
    data = json.loads(out)
    (gain,) = data["gains"]
    assert data["passes"] is True
    assert (gain["arm"], gain["verdict"], gain["runs"]) == ("arm=arm", "better", {"baseline": 6, "arm": 3})
    assert gain["gain"]["interval"] == pytest.approx([0.005513662, 0.073386338])
    assert gain["more_runs"] is None


def test_a_score_whose_direction_nobody_knows_is_asked_for(tmp_path, capsys):
    table = losses(base=BASE, arm=ARM).rename(columns={"val_loss": "reward"})
    code, _, talk = command(tmp_path, capsys, table, "--baseline", "arm=base", "--y", "reward")
    assert (code, talk.strip()) == (1, "Is more of reward better? Write --higher-is-better or --lower-is-better.")


# Exports


WANDB = """\
Name,State,Created,Runtime,arm,config.lr,summary/val_acc,_step
brave-sun-1,finished,2026-05-01T10:00:00Z,3600,base,0.001,0.701,1000
calm-sea-2,finished,2026-05-01T11:00:00Z,3610,base,0.001,0.705,1000
dry-lake-3,finished,2026-05-01T12:00:00Z,3590,base,0.001,0.703,1000
fast-owl-4,finished,2026-05-01T13:00:00Z,3600,new,0.003,0.721,1000
grey-fox-5,finished,2026-05-01T14:00:00Z,3600,new,0.003,0.722,1000
hot-wind-6,crashed,2026-05-01T15:00:00Z,120,new,0.003,,31
"""

MLFLOW = """\
run_id,status,artifact_uri,params.lr,params.seed,metrics.val_loss,metrics.train_loss,tags.mlflow.runName
a1,FINISHED,file:///m/a1,0.001,0,3.10,2.9,one
a2,FINISHED,file:///m/a2,0.001,1,3.14,2.9,two
a3,FINISHED,file:///m/a3,0.001,2,3.12,2.8,three
b1,FINISHED,file:///m/b1,0.003,0,3.04,2.8,one
b2,FINISHED,file:///m/b2,0.003,1,3.07,2.8,two
b3,FAILED,file:///m/b3,0.003,2,,,three
"""

TRACKIO = """\
run,timestamp,_step,lr,loss,val_acc
r1,2026-05-01,100,0.001,1.2,0.701
r2,2026-05-01,100,0.001,1.2,0.705
r3,2026-05-01,100,0.003,1.1,0.72
r4,2026-05-01,100,0.003,1.1,0.721
"""


@pytest.mark.parametrize(
    ("export", "options", "gain"),
    [
        (WANDB, ("--baseline", "arm=base", "--y", "summary/val_acc"), 0.0185),
        (WANDB, ("--baseline", "config.lr=1e-3", "--y", "summary/val_acc", "--ignore", "arm"), 0.0185),
        (MLFLOW, ("--baseline", "params.lr=0.001", "--y", "metrics.val_loss", "--seed", "params.seed"), 0.065),
        (TRACKIO, ("--baseline", "lr=0.001", "--y", "val_acc"), 0.0175),
    ],
)
def test_columns_as_trackers_export_them_work_as_they_are(tmp_path, capsys, export, options, gain):
    code, out, talk = command(tmp_path, capsys, export, *options, "--json")
    assert code == 0, talk
    (found,) = json.loads(out)["gains"]
    assert found["gain"]["value"] == pytest.approx(gain)
    assert json.loads(out)["failed"] == {
        arm: int(n) for arm, n in pd.read_csv(io.StringIO(export)).pipe(failed_of, options).items()
    }


def failed_of(table, options):
    """Failed rows by arm, counted by pandas."""
    column = options[1].partition("=")[0]
    failed = table[table[options[3]].isna()]
    return {f"{column}={value}": n for value, n in failed[column].value_counts().items()}


def test_a_crashed_run_of_a_tracker_is_counted_as_failed(tmp_path, capsys):
    _, out, _ = command(tmp_path, capsys, WANDB, "--baseline", "arm=base", "--y", "summary/val_acc")
    assert "Without a finite summary/val_acc, so left out: 1 of arm=new." in out
    assert "! Arms also differ in config.lr" in out


def test_a_running_run_with_a_score_is_noted(tmp_path, capsys):
    table = WANDB.replace("crashed,2026-05-01T15:00:00Z,120,new,0.003,,31", "running,2026-05-01,120,new,0.003,0.5,31")
    options = ("--baseline", "arm=base", "--y", "summary/val_acc")
    _, out, _ = command(tmp_path, capsys, table, *options)
    assert "! 1 row with a summary/val_acc and a State other than finished." in out
    _, out, _ = command(tmp_path, capsys, table, *options, "--where", "State == 'finished'", "--json")
    assert json.loads(out)["unfinished"] is None


def test_y_may_be_arithmetic_as_it_may_for_fit(tmp_path, capsys):
    options = ("--baseline", "arm=base", "--y", "1-`summary/val_acc`", "--json")
    code, out, _ = command(tmp_path, capsys, WANDB, *options)
    assert code == 0
    assert json.loads(out)["gains"][0]["gain"]["value"] == pytest.approx(0.0185)


# What went


def test_deltas_and_two_studies_name_their_heirs(tmp_path, capsys):
    code, _, talk = command(tmp_path, capsys, losses(base=BASE, arm=ARM), "--deltas")
    assert (code, talk.strip()) == (
        1, "--deltas is gone: leave it and --x out, and each arm is compared with the baseline.",
    )  # fmt: skip
    assert main(["compare", "old.yaml", "new.yaml"]) == 1
    assert "flipscale compare results/OLD/results.csv results/NEW/results.csv" in capsys.readouterr().err


def test_two_tables_are_one(tmp_path, capsys):
    for name, values in (("old", BASE), ("new", ARM)):
        pd.DataFrame({"study": name, "val_loss": values}).to_csv(tmp_path / f"{name}.csv", index=False)
    tables = [str(tmp_path / f"{name}.csv") for name in ("old", "new")]
    assert main(["compare", *tables, "--baseline", "study=old", "--y", "val_loss"]) == 0
    assert "+0.0394 (+0.0055, +0.0734)" in capsys.readouterr().out


def test_the_flip_study_against_a_copy_with_another_weight_decay_is_compared_by_two_results_tables(tmp_path, capsys):
    old = pd.read_csv(ROOT / "results" / "flip" / "results.csv")
    new = old.assign(study="flip_decay", weight_decay=0.2)
    new["zero_shot_top1"] += 0.01 * (new["samples"] == 32000)
    new.to_csv(tmp_path / "new.csv", index=False)
    tables = (str(ROOT / "results" / "flip" / "results.csv"), str(tmp_path / "new.csv"))
    options = ("--baseline", "study=flip", "--y", "zero_shot_top1", "--seed", "seed", "--json")
    assert main(["compare", *tables, *options]) == 1
    assert "differ in model (" in capsys.readouterr().err
    assert main(["compare", *tables, *options, "--by", "model,image_size,samples,mask_ratio,tuning"]) == 0
    data = json.loads(capsys.readouterr().out)
    *cells, _ = data["gains"]
    assert sum(cell["runs"]["arm"] for cell in cells) == len(old) == 230
    better = [cell["cell"] for cell in cells if cell["gain"]["value"] > 0.005]
    assert len(better) == 7
    assert all("samples=32k" in cell for cell in better)
    assert {cell["method"] for cell in cells} == {"twins"}
    assert data["arms_also_differ_in"] == ["weight_decay"]
