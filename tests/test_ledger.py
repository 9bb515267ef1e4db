"""The ledger: what runs were predicted to take and took, whatever came of them."""

import json
import time
from dataclasses import replace

import pytest

from flipscale.collecting.ledger import PlannedStudy, accuracy_of, entries_of, grouped_by, probes_of, sum_of
from flipscale.run import FailedAttempt, FailureKind, Job, Probe, RunFolder, RunRequest, State, probes_in, write_probe
from flipscale.settings.declarations import Resources, plain
from flipscale.study.settings import read_settings
from tests.asked import SMALL
from tests.launch.contract import NO_COST

HOUR = 3600.0


@pytest.fixture
def asked(tmp_path):
    """What was asked of a run, written into its folder: an hour of one core, within 1.5 times."""

    def ask(name="run", *, hours=1.0, cell=(("samples", "1600"),), write=True, resources=None, **settings):
        cost = replace(NO_COST, gpu_hours=hours, gpu_hours_low=hours / 1.5, gpu_hours_high=hours * 1.5)
        found = RunRequest(
            name,
            plain(read_settings({**SMALL, **settings})),
            resources=resources or Resources(device="cpu"),
            cost=cost,
            cell=cell,
        )
        if write:
            RunFolder(tmp_path / "runs" / name).ask(found)
        return found

    return ask


def entries(study, runs):
    """The entries of a study, with the states that its files say."""
    states = {asked.id: RunFolder(runs / asked.id).state() for asked in study.asked}
    return entries_of(study, runs, states, pytest.fail)


@pytest.fixture
def entry(tmp_path):
    """The entry of one run."""

    def entry(asked):
        (found,) = entries(PlannedStudy("mask", [asked], {"mask_ratio": 0}), tmp_path / "runs")
        return found

    return entry


def folder_of(tmp_path, asked):
    return RunFolder(tmp_path / "runs" / asked.id)


def finish(folder, **facts):
    (folder.path / "result.json").write_text(json.dumps({"schema": 1, "device": "cpu", "devices": 1, **facts}))


def record(folder, *seconds):
    lines = [
        json.dumps({"step": n, "samples_seen": 32 * n, "loss": 1.0, "seconds": s}) for n, s in enumerate(seconds, 1)
    ]
    (folder.path / "metrics.jsonl").write_text("\n".join(lines) + "\n")


# One run


def test_a_finished_run_took_its_training_and_its_evaluations(tmp_path, asked, entry):
    run = asked()
    finish(folder_of(tmp_path, run), gpu_hours=1.25, train_seconds=2 * HOUR, evaluation_seconds=0.5 * HOUR)
    found = entry(run)
    assert (found.state, found.unit, found.arm) == (State.FINISHED, "core-hours", "no mask")
    assert (found.predicted, found.training, found.evaluation, found.lost) == (1.0, 1.25, 0.5, 0.0)
    assert found.spent == 1.75
    assert found.ratio == 1.25
    assert found.is_within


def test_a_run_that_failed_took_what_its_error_says(tmp_path, asked, entry):
    run = asked()
    folder_of(tmp_path, run).write_error(FailureKind.CODE, "A typo.", seconds=0.5 * HOUR)
    found = entry(run)
    assert (found.state, found.training, found.lost, found.ratio) == (State.FAILED, 0.0, 0.5, None)


def test_training_before_a_failure_is_counted_once(tmp_path, asked, entry):
    run = asked()
    folder = folder_of(tmp_path, run)
    record(folder, 600.0, 1800.0)
    folder.write_error(FailureKind.DIVERGED, "The loss is nan.", seconds=2000.0)
    found = entry(run)
    assert found.training == 0.5
    assert found.spent == pytest.approx(2000 / HOUR)


def test_failed_attempts_of_a_run_that_finished_in_the_end_are_lost_but_for_what_a_checkpoint_kept(
    tmp_path, asked, entry
):
    run = asked()
    folder = folder_of(tmp_path, run)
    for samples, seconds in ((0, 0.25), (800, 0.75)):
        failed = FailedAttempt(FailureKind.OOM, "", "again", samples_seen=samples, seconds=seconds * HOUR)
        folder.note_failure(failed)
    finish(folder, gpu_hours=1.0, train_seconds=HOUR, samples_seen=1600)
    found = entry(run)
    assert found.lost == pytest.approx(1.0 - 0.5)  # half of the training was done by then, and kept
    assert found.spent == pytest.approx(1.5)


def test_an_error_that_an_attendant_has_noted_is_among_the_failures_already(tmp_path, asked, entry):
    run = asked()
    folder = folder_of(tmp_path, run)
    folder.note_failure(FailedAttempt(FailureKind.CODE, "A typo.", "given up", given_up=True, seconds=0.5 * HOUR))
    folder.write_error(FailureKind.CODE, "A typo.", noted=True)
    assert (entry(run).lost, entry(run).untimed) == (0.5, 0)


def test_attempts_of_older_versions_left_no_time_and_are_counted(tmp_path, asked, entry):
    run = asked()
    folder = folder_of(tmp_path, run)
    folder.note_failure(FailedAttempt(FailureKind.OOM, "", "again"))
    folder.note_failure(FailedAttempt(FailureKind.PREEMPTED, "", "resumed"))  # its checkpoint has it all
    assert entry(run).untimed == 1


def test_a_cancelled_run_took_what_its_record_says(tmp_path, asked, entry):
    run = asked()
    folder = folder_of(tmp_path, run)
    record(folder, 900.0)
    folder.write_job(Job(run.id, "local", "j", 0.0, "", cancelled=1.0))
    found = entry(run)
    assert (found.state, found.spent) == (State.CANCELLED, 0.25)


def test_a_running_run_takes_time_since_its_lease_was_taken(tmp_path, asked, entry):
    run = asked()
    folder = folder_of(tmp_path, run)
    with folder.hold():
        lease = json.loads((folder.path / "lease.json").read_text())
        (folder.path / "lease.json").write_text(json.dumps({**lease, "time": time.time() - HOUR}))
        found = entry(run)
    assert found.state is State.RUNNING
    assert found.spent >= 1.0


def test_hours_of_gpus_are_those_of_all_of_them(tmp_path, asked, entry):
    run = asked(resources=Resources(gpus=4, device="A100"))
    folder = folder_of(tmp_path, run)
    record(folder, HOUR)
    assert (entry(run).unit, entry(run).spent) == ("GPU-hours", 4.0)


def test_what_was_predicted_is_what_was_said_when_it_was_submitted(tmp_path, asked, entry):
    run = asked(hours=2.0)
    assert entry(replace(run, cost=replace(run.cost, gpu_hours=9.0))).predicted == 2.0
    planned = asked("planned", hours=3.0, write=False)
    assert (entry(planned).predicted, entry(planned).state, entry(planned).spent) == (3.0, State.PLANNED, 0.0)


# Arms


def arms(tmp_path, baseline, *asked):
    return [entry.arm for entry in entries(PlannedStudy("mask", asked, baseline), tmp_path / "runs")]


def test_an_arm_is_what_differs_from_the_baseline(tmp_path, asked):
    baseline = {"mask_ratio": 0, "text_mask_ratio": 0.0}
    runs = asked("a"), asked("b", mask_ratio=0.5), asked("c", mask_ratio=0.5, text_mask_ratio=0.5, seed=1)
    assert arms(tmp_path, baseline, *runs) == ["no mask", "mask 50 %", "mask 50 %, text mask 50 %"]


# Sums


def test_runs_are_summed_by_any_key_and_shared_ones_once(tmp_path, asked):
    runs = asked("a"), asked("b", mask_ratio=0.5), asked("c", mask_ratio=0.5)
    for run, hours in zip(runs, (2.0, 1.0, 0.5), strict=True):
        finish(folder_of(tmp_path, run), gpu_hours=hours)
    study = PlannedStudy("mask", runs, {"mask_ratio": 0})
    both = [*entries(study, tmp_path / "runs"), *entries(replace(study, name="again"), tmp_path / "runs")]
    sums = grouped_by(both, lambda entry: (entry.study, entry.arm))
    assert {key: (found.runs, found.spent) for key, found in sums.items()} == {
        ("mask", "no mask"): (1, 2.0),
        ("mask", "mask 50 %"): (2, 1.5),
        ("again", "no mask"): (1, 2.0),
        ("again", "mask 50 %"): (2, 1.5),
    }
    whole = sum_of(both)
    assert (whole.runs, whole.predicted, whole.spent, whole.ratio) == (3, 3.0, 3.5, 3.5 / 3)
    accuracy = accuracy_of(both)
    assert (accuracy.runs, accuracy.median, accuracy.worst, accuracy.within, accuracy.ranged) == (3, 1.0, 2.0, 1, 3)
    assert accuracy_of([]) is None


def test_a_probe_is_spent_and_was_not_predicted(tmp_path, asked):
    run = asked("probe_mask_1")
    folder = folder_of(tmp_path, run)
    write_probe(folder.path, Probe("mask", "local", (run.settled,), ()))
    finish(folder, gpu_hours=0.01)
    (found,) = probes_of(probes_in(tmp_path / "runs"), {run.id: State.FINISHED}, pytest.fail)
    assert (found.study, found.arm, found.predicted, found.spent) == ("mask", "probe", None, 0.01)
