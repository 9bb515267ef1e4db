"""Finished runs go into one file and come out of it elsewhere; nothing that is there is touched."""

import bz2
import csv
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from flipscale import launch
from flipscale.cli import main
from flipscale.errors import FlipscaleError
from flipscale.planning.identity import RECIPE, stage
from flipscale.planning.timing import Timings
from flipscale.run import ARCHIVED_FILES, State, add_timings, all_timings, write_json
from flipscale.storage import MergeOutcome, merge, write_archive
from flipscale.storage.archive import ARCHIVE_SCHEMA, CONTENTS
from flipscale.storage.merge import STAGING
from flipscale.workflow.opened import open_study
from flipscale.workspace import Workspace
from tests.storage.conftest import Results
from tests.test_timing import evaluation_time, step_time

MERGED, PRESENT, DIFFERS = MergeOutcome.MERGED, MergeOutcome.PRESENT, MergeOutcome.DIFFERS
UNDERWAY, LEFT_OUT = MergeOutcome.UNDERWAY, MergeOutcome.LEFT_OUT


def packed(results: Results) -> Path:
    return write_archive(results.plan, results.root, results.folder / "runs.tar.bz2").file


def merged(results: Results, *files: Path):
    return list(merge(files, results.root))


def members(file: Path) -> dict[str, bytes]:
    with tarfile.open(file) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}


def repacked(file: Path, change: Callable[[dict[str, bytes]], None], *, contents: bool = True) -> Path:
    """The archive with other members; with `contents` its list is left as it was."""
    found = members(file)
    change(found)
    other = file.with_name("changed.tar.bz2")
    with tarfile.open(other, "w:bz2") as tar:
        for name, data in found.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return other


def test_an_archive_holds_the_records_of_finished_runs_and_no_weights_logs_or_jobs(here):
    write_json(here.folder_of(fine_tuned=False).path / "job.json", {"schema": 1})
    found = members(packed(here))
    assert next(iter(found)) == CONTENTS
    assert {name.partition("/")[2] for name in list(found)[1:]} == {
        "run.json",
        "result.json",
        "metrics.jsonl",
        "hits.json",
    }
    assert {name.partition("/")[0] for name in list(found)[1:]} == {run.id for run in here.plan.runs}
    assert len(here.plan.runs) == 8
    records = {"run.json", "result.json", "metrics.jsonl", "hits.json", "failures.jsonl", "code.json"}
    assert records <= set(ARCHIVED_FILES)


def test_the_same_runs_give_the_same_bytes_whatever_their_times(here, there):
    first = packed(here)
    merged(there, first)
    for path in there.root.rglob("*"):
        os.utime(path, (1, 1))
    assert packed(there).read_bytes() == first.read_bytes()


def test_after_a_merge_elsewhere_nothing_is_left_to_do_and_the_tables_are_the_same_bytes(here, there, capsys):
    assert main(["collect", str(here.file), "--results", str(here.root), "--no-mlflow"]) == 0
    assert main(["archive", str(here.file), "--results", str(here.root)]) == 0
    file = here.root / "study" / "runs.tar.bz2"
    assert f"wrote {file} (8 of 8 runs" in capsys.readouterr().err
    assert main(["merge", str(file), "--results", str(there.root)]) == 0
    assert f"{file}: 8 runs: 8 merged" in capsys.readouterr().err
    assert main(["submit", str(there.file), "--results", str(there.root)]) == 0
    assert "submitted 0 runs, left alone 8 finished" in capsys.readouterr().err
    assert main(["collect", str(there.file), "--results", str(there.root), "--no-mlflow"]) == 0
    for table in ("results.csv", "curves.parquet"):
        assert (there.root / "study" / table).read_bytes() == (here.root / "study" / table).read_bytes()


def test_merging_again_leaves_every_file_as_it_is(here, there):
    file = packed(here)
    merged(there, file)
    before = {path: path.stat().st_mtime_ns for path in there.root.rglob("*") if path.is_file()}
    (again,) = merged(there, file)
    assert set(again.outcomes.values()) == {PRESENT}
    after = {path: path.stat().st_mtime_ns for path in there.root.rglob("*") if path.is_file()}
    assert {path: time for path, time in after.items() if path.name != ".submit.lock"} == {
        path: time for path, time in before.items() if path.name != ".submit.lock"
    }


def test_a_run_that_differs_is_named_and_stays(here, there):
    file = packed(here)
    merged(there, file)
    run = there.plan.runs[0].id
    result = there.run(run) / "result.json"
    result.write_text(result.read_text().replace('"attempts": 1', '"attempts": 2'))
    kept = result.read_bytes()
    (again,) = merged(there, file)
    assert [outcome for outcome in again.outcomes.values() if outcome is not PRESENT] == [DIFFERS]
    assert again.problems == (
        f"{run}: is finished here with another result.json than in {file}; the one in this results folder stays. "
        f"To take the other one, delete {there.run(run)} and merge again.",
    )
    assert result.read_bytes() == kept
    assert not again.failed


def test_a_copy_that_was_asked_for_with_other_paths_is_the_same_run(here, there):
    file = packed(here)
    merged(there, file)
    asked = there.run(there.plan.runs[0].id) / "run.json"
    asked.write_text(asked.read_text().replace('"accumulate": 1', '"accumulate": 2'))
    (again,) = merged(there, file)
    assert set(again.outcomes.values()) == {PRESENT}


@pytest.mark.parametrize("name", ["checkpoint.pt", "metrics.jsonl", "lease.json", "error.json", "job.json"])
def test_a_run_that_was_started_here_is_not_touched(here, there, name):
    run = there.plan.runs[0].id
    there.run(run).mkdir(parents=True)
    (there.run(run) / name).write_bytes(b"half")
    (done,) = merged(there, packed(here))
    assert done.outcomes[run] is UNDERWAY
    assert [path.name for path in there.run(run).iterdir()] == [name]
    assert f"{run}: was started here and has not finished, so it is left alone." in done.problems[0]
    assert done.count(MERGED) == 7


def test_a_run_that_was_only_asked_for_is_replaced(here, there):
    run = there.plan.runs[0].id
    there.run(run).mkdir(parents=True)
    (there.run(run) / "run.json").write_text("{}")
    (done,) = merged(there, packed(here))
    assert done.outcomes[run] is MERGED
    assert (there.run(run) / "run.json").read_bytes() == (here.run(run) / "run.json").read_bytes()


def test_a_damaged_archive_does_not_stop_the_others(here, there, tmp_path):
    good = packed(here)
    nothing, text = tmp_path / "nothing.tar.bz2", tmp_path / "text.tar.bz2"
    text.write_text("not an archive")
    found = merged(there, nothing, text, good)
    assert [one.is_archive for one in found] == [False, False, True]
    assert found[0].problems == (f"{nothing}: there is no such file.",)
    assert "cannot be read as an archive of runs" in found[1].problems[0]
    assert found[2].count(MERGED) == 8
    assert main(["merge", str(text), str(good), "--results", str(there.root)]) == 1


def test_an_archive_that_was_cut_off_gives_the_runs_before_the_cut_and_names_the_others(here, there, tmp_path):
    whole = packed(here)
    data = bz2.decompress(whole.read_bytes())
    last = max(data.rfind(run.id.encode()) for run in here.plan.runs)
    cut = tmp_path / "cut.tar.bz2"
    cut.write_bytes(bz2.compress(data[: last - 1000]))
    (done,) = merged(there, cut)
    assert done.count(MERGED) == 7
    assert done.count(LEFT_OUT) == 1
    assert done.failed
    (lost,) = [run for run, outcome in done.outcomes.items() if outcome is LEFT_OUT]
    assert f"{cut}: 1 of its 8 runs could not be read, first {lost}." in done.problems[-1]
    assert not there.run(lost).exists()
    (again,) = merged(there, whole)
    assert (again.count(MERGED), again.count(PRESENT)) == (1, 7)


def test_a_damaged_file_of_a_run_leaves_out_that_run_alone(here, there):
    run = here.plan.runs[3].id

    def damage(found: dict[str, bytes]) -> None:
        found[f"{run}/metrics.jsonl"] = found[f"{run}/metrics.jsonl"].replace(b"1", b"2")

    file = repacked(packed(here), damage)
    (done,) = merged(there, file)
    assert [one for one, outcome in done.outcomes.items() if outcome is LEFT_OUT] == [run]
    assert done.problems == (f"{file}: {run} is left out: its metrics.jsonl is damaged.",)
    assert not there.run(run).exists()
    assert done.count(MERGED) == 7


@pytest.mark.parametrize(
    "name",
    [
        "../../escaped",
        "/tmp/escaped",
        "..",
        "a/../../../escaped",
        "{id}/../../escaped",
        "{id}/sub/model.pt",
        "{id}/model.pt",
    ],
)
def test_a_member_that_leads_elsewhere_or_is_no_record_is_passed_over(here, there, name):
    run = here.plan.runs[0].id

    def add(found: dict[str, bytes]) -> None:
        found[name.format(id=run)] = b"{}"

    before = {path for path in there.folder.parent.rglob("*") if there.root not in path.parents}
    (done,) = merged(there, repacked(packed(here), add))
    assert done.count(MERGED) == 8
    assert {path.name for path in there.run(run).iterdir()} <= set(ARCHIVED_FILES)
    escaped = {path for path in there.folder.parent.rglob("*") if there.root not in path.parents} - before
    assert {path.name for path in escaped} <= {"results", "runs.tar.bz2", "changed.tar.bz2"}


@pytest.mark.parametrize("run_id", ["../../escaped", "..", ".merge", "/tmp/escaped", "a/b", ""])
def test_an_archive_that_lists_a_path_as_an_id_is_refused(here, there, run_id):
    def change(found: dict[str, bytes]) -> None:
        listed = json.loads(found[CONTENTS])
        listed["runs"][0]["id"] = run_id
        found[CONTENTS] = json.dumps(listed).encode()

    (done,) = merged(there, repacked(packed(here), change))
    assert not done.is_archive
    assert "is not the id of a run" in done.problems[0]
    assert there.files() == {}


def test_a_link_in_an_archive_is_never_made(here, there):
    file, run = packed(here), here.plan.runs[0].id
    other = file.with_name("links.tar.bz2")
    with tarfile.open(file) as source, tarfile.open(other, "w:bz2") as tar:
        for member in source:
            data = source.extractfile(member).read()
            if member.name == f"{run}/result.json":
                member.type, member.linkname, member.size = tarfile.SYMTYPE, "/etc/passwd", 0
                data = b""
            tar.addfile(member, io.BytesIO(data))
    (done,) = merged(there, other)
    assert done.outcomes[run] is LEFT_OUT
    assert not there.run(run).exists()


def test_a_member_that_comes_twice_is_unpacked_once(here, there):
    file = packed(here)
    other = file.with_name("twice.tar.bz2")
    with tarfile.open(file) as source, tarfile.open(other, "w:bz2") as tar:
        listed, *files = [(member, source.extractfile(member).read()) for member in source]
        for member, data in (listed, *files, *files):
            tar.addfile(member, io.BytesIO(data))
    (done,) = merged(there, other)
    assert done.count(MERGED) == 8
    assert not done.failed
    assert there.files().keys() == members(file).keys() - {CONTENTS}


def test_an_archive_of_a_newer_flipscale_is_named(here, there):
    def change(found: dict[str, bytes]) -> None:
        found[CONTENTS] = found[CONTENTS].replace(b'"schema": 1', b'"schema": 2', 1)

    file = repacked(packed(here), change)
    (done,) = merged(there, file)
    assert done.problems == (f"{file}: is of schema 2, where this flipscale reads {ARCHIVE_SCHEMA}; upgrade it.",)


def relisted(file: Path, run: str, change: Callable[[bytes], bytes], name: str) -> Path:
    """The archive with another file of a run, listed as it is now."""
    import hashlib

    def both(found: dict[str, bytes]) -> None:
        data = found[f"{run}/{name}"] = change(found.get(f"{run}/{name}", b""))
        listed = json.loads(found[CONTENTS])
        (entry,) = [entry for entry in listed["runs"] if entry["id"] == run]
        entry["files"][name] = [len(data), hashlib.sha256(data).hexdigest()]
        found[CONTENTS] = json.dumps(listed).encode()

    return repacked(file, both)


def edited(**values: object) -> Callable[[bytes], bytes]:
    return lambda data: json.dumps(json.loads(data) | values).encode()


def other_lr(data: bytes) -> bytes:
    asked = json.loads(data)
    asked["settings"]["lr"] *= 2
    return json.dumps(asked).encode()


@pytest.mark.parametrize(
    ("name", "change", "problem"),
    [
        ("run.json", edited(recipe=999), f"was trained by recipe 999, where studies ask for recipe {RECIPE}."),
        ("run.json", edited(recipe=0), f"was trained by recipe 0, where studies ask for recipe {RECIPE}."),
        ("result.json", edited(schema=999), "schema 999 is newer than this flipscale"),
        ("run.json", other_lr, "its settings make another id"),
    ],
)
def test_a_run_of_another_recipe_schema_or_id_is_left_out_by_name(here, there, name, change, problem):
    run = here.plan.runs[0].id
    (done,) = merged(there, relisted(packed(here), run, change, name))
    assert done.outcomes[run] is LEFT_OUT
    assert problem in done.problems[0]
    assert done.count(MERGED) == 7


def test_files_that_are_not_known_here_are_said_and_left_out(here, there):
    run = here.plan.runs[0].id
    (done,) = merged(there, relisted(packed(here), run, lambda _: b"{}", "colours.json"))
    assert done.outcomes[run] is MERGED
    assert "its files colours.json are not known here and are left out." in done.problems[0]
    assert not (there.run(run) / "colours.json").exists()


def test_a_merge_that_is_killed_leaves_no_half_run_and_the_next_one_finishes(here, there):
    file = packed(here)
    script = f"""
import os, signal
from dataclasses import replace
from pathlib import Path
from flipscale.storage import merge
rename, count = Path.rename, 0
def dies_at_the_third(self, target):
    global count
    count += 1
    if count == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return rename(self, target)
Path.rename = dies_at_the_third
list(merge([Path({str(file)!r})], Path({str(there.root)!r})))
"""
    done = subprocess.run([sys.executable, "-c", script], check=False)
    assert done.returncode == -signal.SIGKILL
    assert launch.states(there.plan.runs, there.root) != {}
    states = list(launch.states(there.plan.runs, there.root).values())
    assert (states.count(State.FINISHED), states.count(State.PLANNED)) == (2, 6)
    assert (there.root / "runs" / STAGING).exists()
    (again,) = merged(there, file)
    assert (again.count(MERGED), again.count(PRESENT)) == (6, 2)
    assert not (there.root / "runs" / STAGING).exists()
    expected = {path: data for path, data in here.files().items() if Path(path).name in ARCHIVED_FILES}
    assert there.files() == expected


def test_an_archive_that_holds_runs_which_are_not_here_is_not_overwritten(here, there):
    file = packed(here)
    there.fill()
    shutil.rmtree(there.run(there.plan.runs[-1].id))
    with pytest.raises(FlipscaleError, match="holds 1 finished run of study that is not in this results folder"):
        write_archive(there.plan, there.root, file)
    merged(there, file)
    assert write_archive(there.plan, there.root, file).runs == 8
    other = here.folder / "notes.txt"
    other.write_text("mine")
    with pytest.raises(FlipscaleError, match="cannot be read as an archive"):
        write_archive(there.plan, there.root, other)
    assert other.read_text() == "mine"


def test_runs_that_the_study_does_not_ask_for_any_more_are_dropped_and_said(here, tmp_path):
    file = packed(here)
    fewer = Results(tmp_path / "fewer", here.file.read_text().replace("seeds: 2", "seeds: 1"))
    found = write_archive(fewer.plan, here.root, file)
    assert (found.runs, len(found.dropped)) == (4, 4)


def test_the_archive_of_another_study_is_not_overwritten(here):
    file = packed(here)
    before = file.read_bytes()
    with pytest.raises(FlipscaleError, match=r"runs\.tar\.bz2: is the archive of study, whose runs would be lost"):
        write_archive(replace(here.plan, study="other"), here.root, file)
    assert file.read_bytes() == before


def test_a_study_without_finished_runs_has_no_archive(there):
    with pytest.raises(FlipscaleError, match=r"No run of study in .* has finished, so there is nothing to archive"):
        packed(there)


def test_a_finished_run_that_cannot_be_read_is_left_out_of_the_archive_by_name(here):
    broken = here.plan.runs[0].id
    (here.run(broken) / "result.json").write_text("{")
    found = write_archive(here.plan, here.root, here.folder / "runs.tar.bz2")
    assert found.runs == 7
    assert "not JSON" in found.left_out[broken]


def test_children_of_archived_parents_are_held_back_with_what_to_do(here, there, capsys):
    """Two of the seed's children are unfinished; nothing is started and nothing fails, and the sentence names them."""
    tuned, masked = here.folder_of(tuning=True, fine_tuned=False), here.folder_of(fine_tuned=True)
    for folder in (tuned, masked):
        shutil.rmtree(folder.path)
    merged(there, packed(here))
    parent = there.folder_of(fine_tuned=False)
    assert main(["submit", str(there.file), "--results", str(there.root)]) == 1
    said = capsys.readouterr().err
    assert "submitted 0 runs, left alone 6 finished, left out 2 that cannot start" in said
    assert (
        f"2 runs cannot start: the weights of {parent.id} are not here, as archives and keep_weights leave them out. "
        f"Put its model.pt into {parent.path} and submit again, or train it anew: submit with --redo {parent.id}."
    ) in said
    assert not there.run(tuned.id).exists()
    assert main(["submit", str(there.file), "--results", str(there.root), "--dry-run"]) == 0
    assert f"# left out: {tuned.id}: the weights of {parent.id} are not here" in capsys.readouterr().out


def timed(results: Results, hardware: str, seconds: float, time: float) -> None:
    """Have a probe of that CPU time every shape of the study."""
    steps, evaluations = [], []
    for run in results.plan.runs:
        place = {"hardware": hardware, "time": time}
        evaluations.append(evaluation_time(run.settings, **place))
        if stage(run.settings).samples:
            steps.append(step_time(run.settings, run.resources, cpu_seconds=seconds, **place))
    results.root.mkdir(parents=True, exist_ok=True)
    add_timings(results.root / "timings.json", Timings(tuple(steps), tuple(evaluations)))


def times(results: Results) -> list[str]:
    found = all_timings(results.root / "timings.json")
    return sorted(map(repr, (*found.steps, *found.evaluations)))


def probed_hours(results: Results) -> list[str]:
    assert main(["collect", str(results.file), "--results", str(results.root), "--no-mlflow"]) == 0
    with open(results.root / "study/results.csv", encoding="utf-8", newline="") as file:
        return [row["gpu_hours_probed"] for row in csv.DictReader(file)]


def test_the_times_of_a_probe_come_along_so_tables_are_the_same_on_another_machine(here, there):
    timed(here, "the CPU that trained", 0.5, time=1000.0)
    hours = probed_hours(here)
    assert len(set(hours)) > 1
    archive = here.folder / "runs.tar.bz2"
    assert main(["archive", str(here.file), str(archive), "--results", str(here.root)]) == 0
    merged(there, archive)
    assert times(there) == times(here)
    assert probed_hours(there) == hours
    assert (there.root / "study/results.csv").read_bytes() == (here.root / "study/results.csv").read_bytes()
    # A plan is about this machine, whose CPU was not timed.
    assert all(run.timed is None for run in open_study(there.file, Workspace(there.root)).plan.runs)


def test_a_newer_probe_is_not_replaced_by_that_of_an_archive(here, there):
    timed(here, "a CPU", 0.5, time=1000.0)
    assert main(["archive", str(here.file), str(here.folder / "old.tar.bz2"), "--results", str(here.root)]) == 0
    timed(there, "a CPU", 0.25, time=2000.0)
    before = times(there)
    merged(there, here.folder / "old.tar.bz2")
    assert times(there) == before


def test_no_damage_of_bytes_gives_a_wrong_file(here, there):
    """30 archives with 1 to 3 bits changed: what is merged is what was packed, or is not merged."""
    whole, expected, draw = packed(here).read_bytes(), here.files(), random.Random(0)
    damaged = here.folder / "damaged.tar.bz2"
    for _ in range(30):
        data = bytearray(whole)
        for _ in range(draw.randint(1, 3)):
            data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        damaged.write_bytes(data)
        (done,) = merged(there, damaged)
        if there.root.joinpath("runs").exists():
            assert there.files().items() <= expected.items()
            shutil.rmtree(there.root / "runs")
        assert done.failed or done.count(MERGED) == 8
