"""The benchmark of submissions in a tiny form, on the fake SLURM: what it counts is counted. Times are not tested."""

import json
import shutil
import subprocess

import pytest

from bench import submission
from flipscale.errors import FlipscaleError
from flipscale.run import RunFolder, State
from tests.launch import fake_slurm


@pytest.mark.slow
def test_calls_grow_with_arrays_and_a_finished_study_needs_none(tmp_path, capsys):
    out, made = tmp_path / "tiny.json", tmp_path / "made"
    arguments = ["--runs", "10", "30", "--max-array-size", "10", "--repeats", "1", "--records", "5"]
    facts = submission.main([*arguments, "--folder", str(made), "--out", str(out)])
    ten, thirty = facts["fake"]
    assert [run["calls"] for run in ten["flipscale"]] == [{"scontrol": 1, "sbatch": 1}]
    assert [run["calls"] for run in thirty["flipscale"]] == [{"scontrol": 1, "sbatch": 3}]
    assert [run["calls"] for run in thirty["sbatch"]] == [{"sbatch": 3}]
    assert [run["calls"] for run in thirty["stages"]] == [{"scontrol": 1, "sbatch": 3}]
    # The wrappers count as many calls as the fake saw.
    assert len(fake_slurm.calls(made / "10/0/command/slurm", "sbatch")) == 1
    assert len(fake_slurm.calls(made / "30/0/command/slurm", "sbatch")) == 3
    assert len(fake_slurm.calls(made / "30/0/raw/slurm")) == 3

    situations = facts["looks"]["situations"]
    assert {name: seen["counts"] for name, seen in situations.items()} == {
        "all waiting": {"waiting": 30},
        "half finished": {"waiting": 15, "finished": 15},
        "all finished": {"finished": 30},
    }
    for name, calls in (("all waiting", {"squeue": 1}), ("half finished", {"squeue": 1}), ("all finished", {})):
        assert [run["calls"] for kind in ("text", "json", "states") for run in situations[name][kind]] == [calls] * 3
    assert [run["calls"] for run in facts["looks"]["again"]] == [{}]

    kept = json.loads(out.read_text())
    assert kept["fake"] == facts["fake"]
    assert (kept["cluster"], kept["hydra"]) == (None, [])
    verdicts = {one["what"]: (one["limit"], one["measured"], one["verdict"]) for one in kept["limits"]}
    assert verdicts["scheduler calls to submit (fake, 10)"] == ("at most 2", "2", "holds")
    assert verdicts["scheduler calls to submit (fake, 30)"] == ("at most 4", "4", "holds")
    assert verdicts["scheduler calls to submit again, all finished"] == ("0", "0", "holds")
    assert kept["table"] == capsys.readouterr().out.splitlines()[: len(kept["table"])]
    assert "hydra was not measured; `python -m venv DIR && DIR/bin/pip install hydra-core" in "\n".join(kept["table"])


def test_a_finished_run_has_what_training_writes(tmp_path):
    for number in (0, 1):
        folder = RunFolder(tmp_path / str(number))
        folder.path.mkdir()
        submission.finish(folder, number, 5)
        records, torn = folder.records()
        assert ([record["step"] for record in records], torn) == ([1, 2, 3, 4, 5, 5], 0)
        assert folder.state() is State.FINISHED
        assert len(folder.failures()) == (2 if number == 0 else 0)


def test_wrappers_note_each_call_and_pass_on_what_the_program_says(tmp_path):
    program = tmp_path / "bin/squeue"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho "asked for $1"\nexit 3\n')
    program.chmod(0o755)
    scheduler = submission.Scheduler(tmp_path, {"PATH": f"{program.parent}:/usr/bin:/bin"})
    asked = ["squeue", "--name=a b"]
    answer = subprocess.run(asked, env=scheduler.environment, capture_output=True, text=True, check=False)
    assert (answer.stdout, answer.returncode) == ("asked for --name=a b\n", 3)
    (call,) = scheduler.calls()
    assert call.program == "squeue"
    assert call.began <= call.ended


def test_time_of_a_command_is_its_own_and_that_of_what_it_calls(tmp_path):
    scheduler = submission.Scheduler(tmp_path, {"PATH": "/usr/bin:/bin"})
    bash = shutil.which("bash")
    turns = "for ((i = 0; i < 100000; i++)); do :; done"
    own = scheduler.time([bash, "-c", turns])
    theirs = scheduler.time([bash, "-c", f"{bash} -c '{turns}'; true"])
    assert own.own_cpu_seconds > own.programs_cpu_seconds == 0
    assert theirs.programs_cpu_seconds > theirs.own_cpu_seconds
    assert (own.calls, own.programs_wall_seconds) == ({}, 0)


def test_a_command_that_fails_is_quoted(tmp_path):
    scheduler = submission.Scheduler(tmp_path)
    with pytest.raises(FlipscaleError, match=r"ended with 4:\nno such partition"):
        scheduler.time(["sh", "-c", "echo no such partition >&2; exit 4"])


def test_a_study_has_an_even_number_of_runs(capsys):
    with pytest.raises(SystemExit):
        submission.main(["--runs", "7"])
    assert "7 is not even" in capsys.readouterr().err


def test_hydra_without_a_cluster_is_refused(capsys):
    with pytest.raises(SystemExit):
        submission.main(["--hydra", "python"])
    assert "--hydra needs --partition" in capsys.readouterr().err


def test_limits_hold_or_do_not():
    spent = {"own_cpu_seconds": 2.0, "programs_cpu_seconds": 0.0, "programs_wall_seconds": 1.0}
    slow = {"runs": 1000, "flipscale": [{**spent, "wall_seconds": 4.0, "calls": {"scontrol": 1, "sbatch": 2}}]}
    looks = {"runs": 1000, "again": [{"calls": {"squeue": 1}}], "situations": {}}
    found = submission.limits({"fake": [slow], "max_array_size": 1001, "cluster": None, "looks": looks})
    assert [(one["limit"], one["measured"], one["verdict"]) for one in found] == [
        ("at most 2", "3", "DOES NOT HOLD"),
        ("under 1 ms", "2.00 ms of CPU (3.00 of wall)", "DOES NOT HOLD"),
        ("0", "1", "DOES NOT HOLD"),
    ]
