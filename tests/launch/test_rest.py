"""What a detached study can only send later: what follows its sweep, and what has no place among the user's jobs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from flipscale.cli import main
from flipscale.launch import Redo, cancel, states, submit
from flipscale.launch.site import DEFAULTS
from flipscale.launch.slurm import SlurmLauncher, scheduler
from flipscale.launch.slurm.arrays import JobArray
from flipscale.run import State
from flipscale.workflow.opened import open_study
from flipscale.workspace import Workspace
from tests.launch import fake_slurm
from tests.launch.contract import WORKER, StandInRun, wait_for
from tests.launch.real import logs, tuned_study
from tests.launch.test_slurm_fake import Cluster
from tests.patience import wait_until

pytestmark = pytest.mark.slow

TRAINS = """#!{python}
import json, math, sys, time
from pathlib import Path
for folder in map(Path, sys.argv[5:]):  # after -P -m flipscale train
    if (folder / "result.json").exists():
        continue
    run = json.loads((folder / "run.json").read_text())["settings"]
    best = 0.003 if run["mask_ratio"] == 0 else 0.0024
    loss = 2 + 0.2 * math.log2(run["lr"] / best) ** 2 + 0.001 * (run["seed"] % 10)
    result = {{"schema": 1, "scores": {{"held_out_loss": loss, "zero_shot_top1": 1 / loss}}}}
    with open(folder / "trained", "a") as file:
        file.write("once\\n")
    (folder / "result.json").write_text(json.dumps(result))
"""
"""A Python that trains nothing, with the scores of a parabola of the learning rate."""


class Detached:
    """A study that is submitted and left alone. Its jobs wait for `go`."""

    def __init__(self, place: Path, **site):
        self.file, self.results = tuned_study(place), place / "results"
        trainer = place / "python"
        trainer.write_text(TRAINS.format(python=sys.executable))
        trainer.chmod(0o755)
        keys = {"schema": 1, "partition": "main", "time": "10m", "python": str(trainer), **site}
        keys["setup"] = [f"until [ -e {place}/go ]; do sleep 0.1; done"]
        self.site = place / "site.yaml"
        self.site.write_text(json.dumps(keys))

        self.words = [str(self.file), f"--results={self.results}", "--on=slurm", f"--site={self.site}"]

    def submit(self) -> int:
        return main(["submit", *self.words, "--detach"])

    def go(self) -> None:
        (self.file.parent / "go").touch()

    @property
    def opened(self):
        return open_study(self.file, Workspace(self.results))

    def until_finished(self, number: int) -> None:
        wait_until(lambda: len(list(self.results.glob("runs/*/result.json"))) == number, logs(self.results))
        assert set(states(self.opened.plan.runs, self.results).values()) == {State.FINISHED}
        trained = [path.read_text() for path in self.results.glob("runs/*/trained")]
        assert trained == ["once\n"] * number

    def senders(self) -> list[JobArray]:
        return [JobArray.read(path) for path in sorted(self.results.glob("slurm/*/rest.json"))]


@pytest.fixture
def cluster(tmp_path_factory, monkeypatch):
    cluster = Cluster(tmp_path_factory.mktemp("slurm"), monkeypatch, slots=2)
    yield cluster
    fake_slurm.stop(cluster.folder)


@pytest.fixture
def limited(cluster):
    """A cluster that takes four jobs of a user at once."""
    count = 'taken=$(squeue --noheader --format=%K | python3 -c "' + COUNT + '")'
    wanted = 'wanted=$(sed -n \'s/^#SBATCH --array=//p\' "$2" | python3 -c "' + COUNT + '")'
    refused = 'echo "sbatch: error: AssocMaxSubmitJobLimit" >&2; exit 1'
    cluster.replace(
        "sbatch", f'{count}\n{wanted}\n[ $((taken + wanted)) -le 4 ] || {{ {refused}; }}\nexec "$REAL" "$@"'
    )
    return cluster


COUNT = """
import re, sys
spans = re.findall(r'(\\d+)(?:-(\\d+))?', sys.stdin.read())
print(sum(int(last or first) - int(first) + 1 for first, last in spans))"""


def test_what_follows_a_sweep_is_sent_by_a_job_that_waits_for_it(tmp_path, cluster, capsys):
    study = Detached(tmp_path)
    assert study.submit() == 0
    (sender,) = study.senders()
    log = sender.log(study.results / "slurm", 0)
    said = f"Job {sender.slurm_id}_0 (output: {log}) sends what is left; so does flipscale watch "
    assert said in capsys.readouterr().err
    study.go()
    study.until_finished(12)
    assert {run.settings.lr for run in study.opened.plan.cells} == {0.003, 0.0024}
    assert len(study.senders()) == 1


def test_runs_without_a_place_are_sent_by_jobs_that_have_one(tmp_path, limited):
    study = Detached(tmp_path, max_array_size=2)
    assert study.submit() == 0
    assert len(study.senders()) == 1
    assert len(limited.arguments("scancel")) == 1, "a run gave its place to the sender"
    study.go()
    study.until_finished(12)


def test_a_sender_that_finds_no_place_is_started_again_and_keeps_its_own(tmp_path, cluster, monkeypatch):
    cluster.replace("sbatch", 'echo "sbatch: error: AssocMaxSubmitJobLimit" >&2; exit 1')
    cluster.replace("scontrol", f'[ "$1" != requeue ] || exec echo "$2" >{tmp_path}/requeued; exec "$REAL" "$@"')
    launcher = SlurmLauncher(tmp_path, {**DEFAULTS, "partition": "main"}, command=WORKER)
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "7")
    monkeypatch.setenv("SLURM_JOB_NAME", "flipscale-mask-0123abcd-20260101-120000-abcdef-rest")
    assert submit([StandInRun("run")], tmp_path, launcher, redo=Redo(only_new=True)).unsent
    assert launcher.send_later(["true"], ["run"]) == "This job"
    assert (tmp_path / "requeued").read_text() == "7_0\n"


def test_watch_sends_what_is_left_where_no_job_does(tmp_path, cluster):
    study = Detached(tmp_path)
    assert study.submit() == 0
    (sender,) = study.senders()
    subprocess.run(["scancel", f"{sender.slurm_id}_0"], check=True)
    study.go()
    assert main(["watch", *study.words]) == 0
    study.until_finished(12)
    assert len(study.senders()) == 1


def test_a_second_submit_and_a_watch_send_nothing_twice(tmp_path, cluster):
    study = Detached(tmp_path)
    assert study.submit() == 0
    assert study.submit() == 0
    assert len(study.senders()) == 1
    study.go()
    assert main(["watch", *study.words]) == 0
    study.until_finished(12)


def test_a_sender_that_fails_is_started_again(tmp_path, cluster):
    study = Detached(tmp_path)
    calls = f"echo >>{tmp_path}/calls; [ $(wc -l <{tmp_path}/calls) -ne 3 ] || exit 1"  # the sender's own first
    cluster.replace("sbatch", f'{calls}; exec "$REAL" "$@"')
    assert study.submit() == 0
    study.go()
    study.until_finished(12)
    (sender,) = study.senders()
    assert ["requeue", f"{sender.slurm_id}_0"] in cluster.arguments("scontrol")
    assert (tmp_path / "calls").read_text().count("\n") == 4


def test_cancelling_a_study_ends_the_job_that_would_send_what_is_left(tmp_path, cluster, capsys):
    study = Detached(tmp_path)
    assert study.submit() == 0
    (sender,) = study.senders()
    assert main(["cancel", str(study.file), "--results", str(study.results)]) == 0
    assert "cancelled 8 runs\n" in capsys.readouterr().err
    entry = scheduler.queue().get(f"{sender.name}/0")
    assert entry is None or entry.state == "CANCELLED"
    assert set(states(study.opened.plan.runs, study.results).values()) == {State.CANCELLED}


def test_nothing_is_sent_where_a_run_was_cancelled_and_nothing_again_that_was_sent_before(tmp_path, cluster):
    runs = [StandInRun("new"), StandInRun("failed", fail="code"), StandInRun("finished")]
    launcher = SlurmLauncher(tmp_path, {**DEFAULTS, "partition": "main"}, command=WORKER)
    submit(runs[1:], tmp_path, launcher)
    wait_for(runs[1:], tmp_path, State.FAILED, State.FINISHED)
    cancelled = StandInRun("cancelled", seconds=60)
    submit([cancelled], tmp_path, launcher)
    assert cancel([cancelled], tmp_path) == ["cancelled"]
    wait_for([cancelled], tmp_path, State.CANCELLED)
    assert submit([*runs, cancelled], tmp_path, launcher, redo=Redo(only_new=True)).jobs == ()
    assert [job.run_id for job in submit(runs, tmp_path, launcher, redo=Redo(only_new=True)).jobs] == ["new"]


def test_where_a_sweep_chooses_nothing_the_sender_says_so_and_ends(tmp_path, cluster):
    study = Detached(tmp_path)
    trainer = tmp_path / "python"
    trainer.write_text(trainer.read_text().replace('run["lr"] / best', "1"))
    assert study.submit() == 0
    study.go()
    (sender,) = study.senders()
    log = sender.log(study.results / "slurm", 0)
    wait_until(lambda: log.exists() and "4 runs do not start" in log.read_text())
    assert states(study.opened.plan.runs, study.results).keys() == {path.name for path in study.results.glob("runs/*")}
