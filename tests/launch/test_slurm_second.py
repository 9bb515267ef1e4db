"""The SLURM launcher on a cluster that is set up differently: other names, small arrays, own rules, no accounting."""

import shutil
import subprocess
import sys

import pytest

from flipscale.errors import LaunchError
from flipscale.launch import StateReader, cancel, submit
from flipscale.launch.site import DEFAULTS
from flipscale.launch.slurm import SlurmLauncher, scheduler
from flipscale.launch.slurm.arrays import JobArray
from flipscale.run import Asked, FailedAttempt, FailureKind, State
from tests.clusters.slurm import SlurmCluster
from tests.launch.contract import WORKER, StandInRun, folder, starts, wait_for
from tests.patience import wait_until

pytestmark = pytest.mark.slow

SITE = {**DEFAULTS, "account": "vision", "time": 600, "warning": 20}

SECRET = (
    sys.executable,
    "-c",
    "import os, runpy, sys\n"
    "open(os.path.join(sys.argv[2], 'environment'), 'w').write(str('A_SECRET' in os.environ))\n"
    "sys.argv = sys.argv[1:]\nrunpy.run_path(sys.argv[0], run_name='__main__')",
    WORKER[1],
)
"""The stand-in worker, which notes whether it sees A_SECRET."""


def send(runs, results, command=WORKER, **keys):
    return submit(runs, results, SlurmLauncher(results, {**SITE, **keys}, command=command))


def arrays(results):
    return [JobArray.read(path) for path in sorted((results / "slurm").glob("*/*.json")) if path.stem.isdigit()]


def test_arrays_are_as_large_as_this_cluster_takes(tmp_path, second_slurm: SlurmCluster):
    runs = [StandInRun(f"run-{number:03}") for number in range(105)]
    submission = send(runs, tmp_path, sbatch=["--hold"])
    assert [len(array.tasks) for array in arrays(tmp_path)] == [101, 4]
    assert len(submission.jobs) == 105
    assert sorted(cancel(runs, tmp_path)) == [run.id for run in runs]
    assert second_slurm.ask("squeue", "-h") == ""


def test_cancel_in_a_copy_of_the_results_folder_leaves_the_jobs_of_the_first_alone(tmp_path, second_slurm):
    runs, mine, copied = [StandInRun("a"), StandInRun("b")], tmp_path / "mine", tmp_path / "copied"
    send(runs, mine, sbatch=["--hold"])
    shutil.copytree(mine, copied)
    with pytest.raises(LaunchError, match=rf"Left alone: job \d+, which was sent from {mine}/slurm/"):
        cancel(runs, copied)
    assert second_slurm.ask("squeue", "-h") != ""
    assert sorted(cancel(runs, mine)) == ["a", "b"]
    assert second_slurm.ask("squeue", "-h") == ""


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"account": None}, "this cluster wants an account"),
        ({"time": None}, "this cluster wants a time limit"),
        ({"partition": "main"}, "Invalid partition name"),
        ({"partition": "main"}, "Partitions here: batch, brief."),
        ({"partition": "brief", "qos": "long"}, "time limit"),
    ],
)
def test_what_its_rules_refuse_is_said_in_its_words_with_what_was_asked_for(tmp_path, second_slurm, keys, said):
    with pytest.raises(LaunchError) as refused:
        send([StandInRun("run")], tmp_path, constraint=None, sbatch=["--comment=mine"], **keys)
    assert said.lower() in str(refused.value).lower()
    asked = {**{name: SITE[name] for name in ("account",)}, **keys}
    for name, value in asked.items():
        assert value is None or f"{name}={value}" in str(refused.value)
    assert "comment=mine" in str(refused.value)
    assert not (folder(tmp_path, StandInRun("run")).path / "job.json").exists()


def test_a_run_under_which_all_nodes_failed_is_sent_all_the_same(tmp_path, second_slurm: SlurmCluster):
    run = StandInRun("run")
    folder(tmp_path, run).ask(Asked.of(run))
    for node in second_slurm.nodes:
        folder(tmp_path, run).note_failure(FailedAttempt(FailureKind.NODE, "it was lost", node=node))
    send([run], tmp_path)
    assert [array.avoid for array in arrays(tmp_path)] == [()]
    wait_for([run], tmp_path, State.FINISHED)


def test_a_run_in_a_partition_of_60_s_goes_on_in_the_next_job_without_the_users_secrets(
    tmp_path, second_slurm: SlurmCluster, monkeypatch
):
    """SLURM looks at limits every 30 s, so the warning comes when it likes between the start and the limit."""
    monkeypatch.setenv("A_SECRET", "token")
    run = StandInRun("run", first_seconds=3600)
    export = "PATH,HOME,PYTHONPATH,LANG"
    send([run], tmp_path, SECRET, partition="brief", time=60, warning=20, export=export)
    wait_for([run], tmp_path, State.FINISHED)
    assert starts(tmp_path, run) == 2
    (failure,) = folder(tmp_path, run).failures()
    assert (failure.kind, failure.then) == (FailureKind.TIMEOUT, "resumed")
    assert failure.node in second_slurm.nodes
    assert (folder(tmp_path, run).path / "environment").read_text() == "False"
    # Without accounting nothing is known of a job that squeue has forgotten but what our own files say.
    assert scheduler.history({arrays(tmp_path)[0].job_name: "1"}) == {}


def test_a_user_whose_questions_are_limited_gets_answers_later(tmp_path, second_slurm: SlurmCluster):
    """Root is exempt, so another user asks: SLURM's programs wait and ask again by themselves."""
    held = StandInRun("held")
    send([held], tmp_path, sbatch=["--hold"])
    (array,) = arrays(tmp_path)
    log = second_slurm.folder / "log" / "slurmctld.log"

    def ask_at_once() -> bool:
        asks = [
            subprocess.Popen(
                ["squeue", "-h", "-o", "%j"],
                user=65534,
                group=65534,
                extra_groups=[],
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(6)
        ]
        assert {ask.communicate()[0].strip() for ask in asks} == {array.job_name}
        return "RPC rate limit exceeded by uid 65534" in log.read_text()

    wait_until(ask_at_once, "a question too many")
    assert StateReader(tmp_path).read([held])[held.id].state is State.WAITING
