"""Study against study: which runs pair, what differs, and that the numbers are compare's."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

import flipscale
from flipscale.cli import main
from flipscale.collecting import SETTING_COLUMNS, read_results, setting_value
from flipscale.errors import ResultsError
from flipscale.planning.runs import plan
from flipscale.study import read_study
from flipscale.workspace import Workspace

ROOT = Path(__file__).parents[2]

STUDY = """\
schema: 1
base: {data: shapes, model: ViT-w16d1-4, text_length: 16, batch_size: 32, lr: 1e-3}
axes: {samples: [640, 1280], mask_ratio: [0, 0.5]}
seeds: 3
baseline: {mask_ratio: 0}
score: zero_shot_top1
"""


def gain(samples, mask):
    """How much better runs of the second study are made."""
    return 0.05 if samples == 1280 else 0.0


def write_results(folder: Path, file: Path, score) -> None:
    """results.csv of a study as if all of its runs had finished."""
    rows = []
    for run in plan(read_study(file)).cells:
        settings = {name: setting_value(getattr(run.settings, name)) for name in SETTING_COLUMNS}
        rows.append(
            {
                "id": run.id,
                "study": file.stem,
                "cell": f"samples={settings['samples']}",
                "recipe": 2,
                **settings,
                "gpu_hours": run.cost.gpu_hours,
                "train_flops": run.cost.train_flops,
                "device": "cpu",
                "zero_shot_top1": score(settings),
            }
        )
    (folder / file.stem).mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(folder / file.stem / "results.csv", index=False)


def old_score(settings):
    return 0.3 + settings["samples"] / 12800 + 0.01 * settings["seed"] + 0.001 * (settings["mask_ratio"] * 2)


def new_score(settings):
    return old_score(settings) + gain(settings["samples"], settings["mask_ratio"]) + 0.002 * (settings["seed"] - 1)


@pytest.fixture
def studies(tmp_path):
    old, new = tmp_path / "old.yaml", tmp_path / "new.yaml"
    old.write_text(STUDY)
    new.write_text(STUDY.replace("lr: 1e-3", "lr: 2e-3").replace("seeds: 3", "seeds: 4"))
    write_results(tmp_path / "results", old, old_score)
    write_results(tmp_path / "results", new, new_score)
    return old, new


@pytest.fixture
def where(tmp_path):
    return {"workspace": Workspace(tmp_path / "results")}


def test_runs_of_equal_settings_and_seed_are_pairs(studies, where):
    pair = flipscale.compare_studies(*studies, **where)
    assert pair.same.names == ("old", "new")
    assert pair.same.axes == ("samples", "mask_ratio")
    assert len(pair.same.pairs) == 12
    assert [(change.name, change.values, change.pairs) for change in pair.same.changes] == [
        ("lr", (("0.001", "0.002"),), 12)
    ]
    assert pair.same.same_runs == ()
    of_new = {f"samples={samples}, mask_ratio={mask}": 1 for samples in ("640", "1.28k") for mask in ("0", "0.5")}
    assert pair.same.only == ({}, of_new)  # its fourth seed


def test_gains_are_seed_by_seed_and_corrected_for_all_cells(studies, where):
    comparison = flipscale.compare_studies(*studies, **where).comparison
    assert comparison.baseline == {"study": "old"}
    found = {of_cell.cell: of_cell for of_cell in comparison.pairs}
    assert list(found) == [
        "samples=640, mask_ratio=0",
        "samples=640, mask_ratio=0.5",
        "samples=1.28k, mask_ratio=0",
        "samples=1.28k, mask_ratio=0.5",
    ]
    large = found["samples=1.28k, mask_ratio=0.5"].gain
    assert large.values == pytest.approx((0.048, 0.05, 0.052))
    assert large.corrected.of == 4
    assert large.corrected.p <= 0.05
    small = found["samples=640, mask_ratio=0.5"].gain
    assert small.mean == pytest.approx(0)
    assert small.corrected.p > 0.05
    assert small.corrected.interval.low < 0 < small.corrected.interval.high


def test_the_looks_of_the_study_that_was_looked_at_more_often_count(studies, where):
    once = flipscale.compare_studies(*studies, **where).comparison
    studies[1].write_text(studies[1].read_text() + "looks: 4\n")
    often = flipscale.compare_studies(*studies, **where).comparison
    for one, four in zip(once.pairs, often.pairs, strict=True):
        assert four.gain.corrected.p == pytest.approx(min(4 * one.gain.corrected.p, 1))
    assert any("looked at 4 times" in caveat for caveat in often.caveats)


def test_a_run_of_both_studies_is_no_pair(tmp_path, studies, where):
    (old, _), both = studies, tmp_path / "both.yaml"
    # At 1.28k samples the rate is that of the old study, so these are the same runs.
    both.write_text(STUDY.replace(", lr: 1e-3", "") + "couple: {lr: 1e-3 if samples == 1280 else 2e-3}\n")
    write_results(tmp_path / "results", both, new_score)
    pair = flipscale.compare_studies(old, both, **where)
    assert len(pair.same.same_runs) == 6
    assert len(pair.same.pairs) == 6
    assert {of_pair.cell for of_pair in pair.comparison.pairs} == {"mask_ratio=0", "mask_ratio=0.5"}


def test_without_a_common_cell_the_axis_is_named(tmp_path, studies, where):
    (old, _), far = studies, tmp_path / "far.yaml"
    far.write_text(STUDY.replace("[640, 1280]", "[2560]"))
    write_results(tmp_path / "results", far, new_score)
    with pytest.raises(ResultsError, match=r"samples is 640, 1\.28k in old and 2\.56k in far"):
        flipscale.compare_studies(old, far, **where)


def test_an_axis_that_one_study_holds_fast_pairs_at_its_value(tmp_path, studies, where):
    (old, _), swept = studies, tmp_path / "swept.yaml"
    swept.write_text(STUDY.replace(", lr: 1e-3", ", weight_decay: 0.3").replace("axes: {", "axes: {lr: [1e-3, 3e-3], "))
    write_results(tmp_path / "results", swept, new_score)
    pair = flipscale.compare_studies(old, swept, **where)
    assert len(pair.same.pairs) == 12
    assert pair.same.axes == ("samples", "mask_ratio", "lr")
    assert [change.name for change in pair.same.changes] == ["weight_decay"]
    assert sum(pair.same.only[1].values()) == 12


def test_the_command_says_what_differs_and_writes_beside_the_second(studies, tmp_path, capsys):
    old, new = map(str, studies)
    results = ["--results", str(tmp_path / "results")]
    assert main(["compare", old, new, *results]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("new against old: 12 pairs of runs with the same samples, mask_ratio and seed.\n")
    assert "lr       0.001  0.002  12" in out
    assert "corrected for 4 comparisons" in out
    written = tmp_path / "results" / "new" / "against-old.json"
    assert str(written) in err
    assert main(["compare", old, new, *results, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads(written.read_text())
    assert printed["differences"] == {"lr": {"values": [["0.001", "0.002"]], "pairs": 12}}
    assert len(printed["comparison"]["pairs"]) == 4
    assert (tmp_path / "results" / "new" / "against-old.md").read_text().startswith("# new against old\n")


def test_tables_are_not_compared_as_studies(studies, tmp_path, capsys):
    assert main(["compare", str(studies[0]), "b.csv", "--results", str(tmp_path / "results")]) == 1
    assert "b.csv is a table; two studies are compared by their YAML files" in capsys.readouterr().err


def test_two_studies_of_one_name_are_told_apart(studies, tmp_path):
    old = studies[0]
    elsewhere = tmp_path / "later" / "old.yaml"
    elsewhere.parent.mkdir()
    elsewhere.write_text(STUDY.replace("lr: 1e-3", "lr: 3e-3"))
    write_results(tmp_path / "later" / "results", elsewhere, new_score)
    pair = flipscale.compare_studies(
        old,
        elsewhere,
        workspace=Workspace(tmp_path / "results"),
        second_workspace=Workspace(tmp_path / "later" / "results"),
    )
    assert pair.same.names == (str(old), str(elsewhere))
    assert pair.comparison.pairs[-1].gain.mean == pytest.approx(0.05)


def test_the_flip_study_against_a_copy_with_another_weight_decay(tmp_path):
    results = tmp_path / "results"
    old, new = tmp_path / "flip.yaml", tmp_path / "flip_decay.yaml"
    shutil.copy(ROOT / "studies" / "flip.yaml", old)
    new.write_text(old.read_text().replace("weight_decay: 0.1", "weight_decay: 0.2"))
    shutil.copytree(ROOT / "results" / "flip", results / "flip", ignore=shutil.ignore_patterns("*.bz2", ".*"))
    table = read_results(results / "flip" / "results.csv")
    ids = [[run.id for run in plan(read_study(file)).cells] for file in (old, new)]
    assert len(table) == len(ids[0]) == 230
    other = table.assign(id=table["id"].map(dict(zip(*ids, strict=True))), study="flip_decay", weight_decay=0.2)
    other["zero_shot_top1"] += 0.01 * (other["samples"] == 32000)
    (results / "flip_decay").mkdir()
    other.to_csv(results / "flip_decay" / "results.csv", index=False)

    pair = flipscale.compare_studies(old, new, workspace=Workspace(results))
    assert len(pair.same.pairs) == 230
    assert [(change.name, change.values) for change in pair.same.changes] == [("weight_decay", (("0.1", "0.2"),))]
    assert len(pair.comparison.pairs) == 28
    better = [of_cell.cell for of_cell in pair.comparison.pairs if of_cell.gain.mean > 0.005]
    assert len(better) == 7
    assert all("samples=32k" in cell for cell in better)
    base = pair.comparison.head.base_cell
    assert base == "mask_ratio=0, samples=32k, tuning=null, model=ViT-w48d3-2, image_size=28"
