"""The benchmarks of collecting and of the mirror in a tiny form: what they count is what was done."""

import json

import pytest

from bench import collect, large_study, mirror, run_folders
from flipscale.collect import collect as collect_runs
from flipscale.scores import SCORES


@pytest.mark.slow
def test_collecting_reads_what_changed_and_writes_the_same(tmp_path, capsys):
    out = tmp_path / "tiny.json"
    arguments = ["--runs", "200", "--records", "3", "--repeats", "2", "--out", str(out)]
    facts = collect.main([*arguments, "--folder", str(tmp_path / "made")])
    said = {
        what: [run["said"] for run in facts[what]] for what in ("all read", "none changed", "one in a hundred changed")
    }
    assert said == {
        "all read": ["200 of 200 runs, 200 new"] * 2,
        "none changed": ["200 of 200 runs"] * 2,
        "one in a hundred changed": ["200 of 200 runs, 2 changed"] * 2,
    }
    assert (facts["rows"], facts["identical"]) == (200, [True, True])
    kept = json.loads(out.read_text())
    assert [one["what"] for one in kept["limits"]][:2] == ["all read", "none changed"]
    assert kept["table"] == capsys.readouterr().out.splitlines()[: len(kept["table"])]


@pytest.mark.slow
def test_every_verb_is_run_on_a_study_that_has_something_to_draw(tmp_path, monkeypatch):
    """The same study with fewer values on its axes: 180 cells, where the benchmark has 2,000."""
    fewer = {"1k, 4k, 16k, 64k, 256k": "4k, 64k", "4k, 8k, 16k, 32k, 64k, 128k, 256k, 512k": "8k, 32k, 128k"}
    fewer["0.25, 0.5, 0.625"] = "0.5"
    study = large_study.STUDY
    whole = run_folders.planned_study(tmp_path / "whole", study.format(seeds=1))
    assert len(whole.runs) == large_study.CELLS
    for values, some in fewer.items():
        assert values in study
        study = study.replace(values, some)
    monkeypatch.setattr(large_study, "STUDY", study)
    facts = large_study.main(["--seeds", "1", "--records", "3", "--repeats", "1", "--folder", str(tmp_path / "some")])
    assert facts["runs"] == 180
    said = {verb: one["said"].replace(f"{tmp_path}/some/", "") for verb, (one,) in facts["verbs"].items()}
    # plot has written comparison.json already: compare leaves it and ends with the comparison in words.
    assert said.pop("compare").endswith("rows: --full")
    assert said == {
        "plan": "180 of 180 done",
        "status": "180 of 180 finished, 100% of the FLOPs",
        "collect": "wrote results/study/results.csv (180 of 180 runs, 180 new)",
        "plot": f"wrote {3 * facts['figures']} files to plots/study/",
        "report": f"wrote plots/study/report.html ({facts['report_bytes'] / 1e6:.1f} MB); open it in a browser",
    }
    assert facts["figures"] == 10
    assert [one["what"] for one in facts["limits"]] == [
        "flipscale plan",
        "flipscale status",
        "flipscale plot",
        "report.html",
    ]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning")
def test_all_ways_write_the_same_points(tmp_path):
    facts = mirror.main(["--runs", "4", "--points", "5", "--repeats", "1", "--places", "SQLite"])
    ways = facts["places"]["SQLite"]
    all_points = 4 * (4 * 100 + 5 * len(SCORES) + 9)
    assert [ways[way][0]["points"] for way in mirror.WAYS] == [5, all_points, all_points]
    assert [one["limit"] for one in facts["limits"]] == ["5x", "0.25x"]


def test_a_made_folder_is_as_training_leaves_one(tmp_path):
    planned = run_folders.write_study(tmp_path, 4)
    run_folders.fill(tmp_path / "results", planned, 6)
    found = collect_runs(planned, tmp_path / "results", tmp_path / "results/study")
    assert (found.rows, found.torn_lines, found.problems, found.unknown_scores) == (4, 0, {}, ())
    assert len(found.curves) == 4 * (6 * 4 + 4 * len(SCORES))
    assert found.results.filter(like="top1").notna().all().all()
