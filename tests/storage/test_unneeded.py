"""gc lists, and asked removes, what no study needs; never what waits or runs, nor what that starts from."""

import json
import os
import shutil

import pytest

from flipscale.cli import main
from flipscale.run import Job, RunFolder, RunRequest, birth, machine, write_json
from flipscale.storage import StudyRuns, find_unneeded, remove_unneeded
from tests.storage.conftest import STUDY, Results


def asked_by(results: Results, text: str | None = None) -> StudyRuns:
    """What a study asks for: the results' own, or one of another text."""
    plan = Results(results.folder.parent / "other", text).plan if text else results.plan
    return StudyRuns("study", results.file, {run.id: RunRequest.of(run) for run in plan.runs})


def listed(results: Results, *studies: StudyRuns) -> dict[str, list[str]]:
    """What may be removed, as names by kind."""
    found: dict[str, list[str]] = {}
    for one in find_unneeded(results.root, studies).found:
        found.setdefault(one.what, []).append(one.run)
    return found


def held(folder: RunFolder) -> None:
    """This process does the run."""
    holder = {
        "token": "t",
        "host": "h",
        "machine": machine(),
        "pid": os.getpid(),
        "born": birth(os.getpid()),
        "time": 0,
    }
    write_json(folder.path / "lease.json", holder)


def unfinished(folder: RunFolder) -> RunFolder:
    (folder.path / "result.json").unlink()
    return folder


FEWER = STUDY.replace("seeds: 2", "seeds: 1")
SECOND_SEED = 4
NONE_KEPT, LAST_KEPT = STUDY + "keep_weights: none\n", STUDY + "keep_weights: last\n"


def test_runs_that_no_study_asks_for_are_listed_and_nothing_is_touched(here):
    before = here.files()
    assert listed(here, asked_by(here)) == {}
    found = find_unneeded(here.root, [asked_by(here, FEWER)])
    assert [one.run for one in found.found] == sorted(run.id for run in here.plan.runs if run.settings.seed == 1)
    assert {one.what for one in found.found} == {"run"}
    assert {one.why for one in found.found} == {"no study asks for it"}
    assert found.size == sum(len(data) for path, data in before.items() if "_s1_" in path)
    assert here.files() == before


def test_what_any_of_several_studies_asks_for_stays(here):
    assert listed(here, asked_by(here, FEWER), asked_by(here)) == {}


def test_removing_takes_the_runs_that_were_listed_and_no_others(here):
    kept = {path: data for path, data in here.files().items() if "_s0_" in path}
    removed = remove_unneeded(here.root, [asked_by(here, FEWER)])
    assert len(removed.found) == SECOND_SEED
    assert here.files() == kept
    assert sorted(path.name for path in (here.root / "runs").iterdir()) == sorted({path.split("/")[0] for path in kept})


def test_what_waits_or_runs_and_all_it_starts_from_stays(here):
    """A tuning of the second seed runs, which no study asks for: it and its parent stay, with their weights."""
    running = unfinished(here.folder_of(seed=1, tuning=True, fine_tuned=False))
    held(running)
    parent = here.folder_of(seed=1, fine_tuned=False)
    left = listed(here, asked_by(here, FEWER + "keep_weights: none\n"))
    assert {running.id, parent.id}.isdisjoint(left["run"])
    assert len(left["run"]) == 2
    assert parent.id not in left.get("weights", [])
    remove_unneeded(here.root, [asked_by(here, FEWER)])
    assert (parent.path / "model.pt").exists()
    assert (running.path / "run.json").exists()


def test_a_run_whose_launcher_cannot_be_asked_stays(here, monkeypatch):
    """Its job is of SLURM, and its programs are not found: whether it still waits is not known."""
    monkeypatch.setenv("PATH", "")  # Other tests of this process may have started a cluster.
    folder = unfinished(here.folder_of(seed=1, fine_tuned=False))
    folder.write_job(Job(folder.id, "slurm", "fs-0123456789/0", 0.0, log=""))
    left = listed(here, asked_by(here, FEWER))
    assert folder.id not in left["run"]


def test_a_lost_run_that_no_study_asks_for_may_go(here):
    folder = unfinished(here.folder_of(seed=1, fine_tuned=False))
    folder.write_job(Job(folder.id, "local", "none", 0.0, log=""))
    assert folder.id in listed(here, asked_by(here, FEWER))["run"]


def test_checkpoints_of_finished_runs_are_listed_and_those_of_others_stay(here):
    done, begun = here.folder_of(seed=0, fine_tuned=False), here.folder_of(seed=1, fine_tuned=False)
    unfinished(begun)
    for folder in (done, begun):
        (folder.path / "checkpoint.pt").write_bytes(b"1234")
        (folder.path / "open_clip" / "train").mkdir(parents=True)
        (folder.path / "open_clip" / "train" / "epoch_1.pt").write_bytes(b"12")
        (folder.path / "open_clip" / "params.txt").write_text("x")
    assert listed(here, asked_by(here)) == {"checkpoint": [done.id, done.id]}
    assert len(remove_unneeded(here.root, [asked_by(here)]).found) == 2
    assert not (done.path / "checkpoint.pt").exists()
    assert (done.path / "open_clip" / "params.txt").exists()
    assert (begun.path / "checkpoint.pt").exists()
    assert (begun.path / "open_clip" / "train" / "epoch_1.pt").exists()


def test_weights_go_as_keep_weights_says_once_nothing_starts_from_them(here):
    trained = [run for run in here.plan.runs if run.settings.fine_tuning is None]
    ids = sorted(run.id for run in trained)
    assert listed(here, asked_by(here)) == {}
    assert listed(here, asked_by(here, LAST_KEPT)) == listed(here, asked_by(here, NONE_KEPT)) == {"weights": ids}
    assert listed(here, asked_by(here, NONE_KEPT), asked_by(here)) == {}, "another study keeps them"
    more = asked_by(here, NONE_KEPT + "evaluation: {sets: {two: {folder: two}}}\n")
    assert listed(here, more) == {}, "they are still to be scored"
    remove_unneeded(here.root, [asked_by(here, LAST_KEPT)])
    assert not any((here.run(run.id) / "model.pt").exists() for run in trained)
    assert all((here.run(run.id) / "result.json").exists() for run in trained)


@pytest.mark.parametrize("how", ["unfinished", "not there"])
def test_weights_stay_while_a_child_has_not_finished(here, how):
    child, parent = here.folder_of(seed=0, fine_tuned=True), here.folder_of(seed=0, fine_tuned=False)
    if how == "unfinished":
        unfinished(child)
    else:
        shutil.rmtree(child.path)
    assert parent.id not in listed(here, asked_by(here, NONE_KEPT))["weights"]


def test_weights_that_init_of_another_run_names_stay(here):
    parent = here.folder_of(seed=0, fine_tuned=False)
    init = f"{{path: {parent.path / 'model.pt'}, name: mine}}"
    other = STUDY.replace("mask_ratio: 0.5}", f"mask_ratio: 0.5, init: {init}}}")
    assert parent.id in listed(here, asked_by(here, NONE_KEPT))["weights"]
    assert parent.id not in listed(here, asked_by(here, NONE_KEPT), asked_by(here, other))["weights"]


@pytest.mark.parametrize("how", ["absolute", "relative to another folder", "by a link"])
def test_a_run_that_no_study_asks_for_stays_where_init_of_a_run_to_come_names_its_weights(here, how):
    """Cut from its study, as where an axis became shorter, and the start of a study beside."""
    cut = here.folder_of(seed=1, fine_tuned=False)
    (cut.path / "checkpoint.pt").write_bytes(b"1")
    path = cut.path / "model.pt"
    if how == "relative to another folder":
        path = path.relative_to(here.folder)
    elif how == "by a link":
        path = here.folder / "start.pt"
        path.symlink_to(cut.path / "model.pt")
    init = f"{{path: {path}, name: mine}}"
    other = STUDY.replace("mask_ratio: 0.5}", f"mask_ratio: 0.5, init: {init}}}")
    left = listed(here, asked_by(here, FEWER), asked_by(here, other))
    assert len(left["run"]) == SECOND_SEED - 1
    assert cut.id not in left["run"]
    assert left["checkpoint"] == [cut.id]


def test_a_probe_stays_as_the_ledger_sums_it(here):
    run = here.folder_of(seed=1, fine_tuned=False)
    probe = run.path.with_name("probe_study_20261126-041416-536646")
    shutil.copytree(run.path, probe)
    (probe / "probe.json").write_text("{}")
    assert probe.name not in listed(here, asked_by(here, FEWER))["run"]


def test_files_of_killed_processes_are_listed(here):
    folder = here.folder_of(seed=0, fine_tuned=False)
    (folder.path / ".model.pt.123.456.tmp").write_bytes(b"half")
    (here.root / "runs" / ".merge" / "half").mkdir(parents=True)
    assert listed(here, asked_by(here)) == {"leftover": ["", folder.id]}
    remove_unneeded(here.root, [asked_by(here)])
    assert listed(here, asked_by(here)) == {}


def test_a_folder_that_cannot_be_read_is_named_and_stays(here):
    folder = here.folder_of(seed=1, fine_tuned=False)
    (folder.path / "run.json").write_text('{"schema": 999}')
    removed = remove_unneeded(here.root, [asked_by(here, FEWER)])
    assert "schema 999 is newer" in removed.left_alone[folder.id]
    assert folder.path.exists()
    assert len(removed.found) == SECOND_SEED - 1


def test_a_run_that_is_taken_up_between_the_look_and_the_removal_stays(here, monkeypatch):
    folder = here.folder_of(seed=1, fine_tuned=False)
    survey = remove_unneeded.__globals__["_Survey"]

    def looked_at(*arguments):
        found = survey(*arguments)
        held(folder)
        return found

    monkeypatch.setitem(remove_unneeded.__globals__, "_Survey", looked_at)
    removed = remove_unneeded(here.root, [asked_by(here, FEWER)])
    assert removed.left_alone == {folder.id: "a process has just started it"}
    assert folder.path.exists()


def gc(results: Results, *arguments: str) -> int:
    return main(["gc", *arguments, "--results", str(results.root)])


def test_the_studies_that_count_are_those_known_here_and_those_given_and_are_named(here, capsys, tmp_path):
    assert gc(here) == 1
    assert "lists no study, so every run would count as unneeded" in capsys.readouterr().err
    assert main(["plan", str(here.file), "--results", str(here.root)]) == 0
    here.file.write_text(FEWER)
    assert gc(here) == 0
    printed, said = capsys.readouterr()
    assert f"keeping what these studies need: study ({here.root / 'study' / 'plan.json'})" in said
    assert "could remove nothing" in said, "the plan counts, as it was written"
    assert gc(here, "--json", str(here.file)) == 0
    printed, said = capsys.readouterr()
    assert f"keeping what these studies need: study ({here.file})" in said
    assert len(json.loads(printed)["found"]) == SECOND_SEED
    other = tmp_path / "all.yaml"
    other.write_text(STUDY)
    assert gc(here, str(other)) == 0
    assert "could remove nothing" in capsys.readouterr().err
    other.write_text(FEWER)
    assert gc(here, str(other), "--only", "--remove") == 0
    assert "removed 4 runs (" in capsys.readouterr().err
    assert len(list((here.root / "runs").iterdir())) == 4


def test_a_file_that_is_given_hides_no_other_file_of_the_same_name(here, capsys):
    assert main(["plan", str(here.file), "--results", str(here.root)]) == 0
    namesake = Results(here.folder.parent / "other", FEWER).file
    capsys.readouterr()
    assert gc(here, str(namesake), "--remove") == 0
    said = capsys.readouterr().err
    assert f"study ({namesake}), study ({here.root / 'study' / 'plan.json'})" in said
    assert "removed nothing" in said
    here.file.unlink()
    assert gc(here, str(namesake)) == 0, "the study has moved"
    assert f"could remove {SECOND_SEED} runs" in capsys.readouterr().err


def test_listing_prints_each_thing_with_its_size_and_why(here, capsys):
    assert gc(here, "--only", str(Results(here.folder.parent / "other", FEWER).file)) == 0
    printed, said = capsys.readouterr()
    assert printed.splitlines()[0].split() == ["size", "what", "run", "why"]
    assert len(printed.splitlines()) == 1 + SECOND_SEED
    assert "could remove 4 runs (" in said
    assert said.rstrip().endswith("add --remove to remove them")
    assert len(list((here.root / "runs").iterdir())) == 8
