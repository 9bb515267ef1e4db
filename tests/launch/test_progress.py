import io
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest

from flipscale.launch import states, submit, wait, watch
from flipscale.launch.local import LocalLauncher
from flipscale.launch.progress import RunProgress, StudyProgress
from flipscale.launch.screen import Display
from flipscale.run import RunFolder, State
from tests.launch.contract import WORKER, StandInRun, folder, starts, wait_for

LEAVE = "\x1b[?1049l"
"""A terminal goes back to what it showed before."""


class Terminal(io.StringIO):
    """It makes a file `seen` once it has been written a word."""

    def __init__(self, word, seen):
        super().__init__()
        self.word, self.seen = word, seen

    def isatty(self):
        return True

    def write(self, text):
        if self.word in text:
            self.seen.touch()
        return super().write(text)


def test_wait_says_how_each_run_ended_and_how_the_study_did(tmp_path):
    runs = [StandInRun("good", seconds=0.5), StandInRun("bad", seconds=0.5, fail="oom")]
    submission = submit(runs, tmp_path, LocalLauncher(tmp_path, command=WORKER))
    stream = io.StringIO()
    ended = wait(submission, tmp_path, stream, every=0.05)
    lines = stream.getvalue().splitlines()
    assert "good: finished, 10 of 10 samples, loss 0.1000, 20 images/s" in lines
    assert "bad: failed (oom): The settings say so." in lines
    assert lines[-1].startswith("1 of 2 finished, 1 failed, 100% of the FLOPs")
    assert "\033" not in stream.getvalue()
    assert (ended.count(State.FINISHED), ended.count(State.FAILED)) == (1, 1)


def test_a_terminal_sees_a_screen_and_afterwards_bad_ends_and_how_the_study_ended(tmp_path, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    seen = tmp_path / "seen running"
    runs = [StandInRun("run", until=(str(seen),)), StandInRun("bad", seconds=0.1, fail="oom")]
    submission = submit(runs, tmp_path, LocalLauncher(tmp_path, command=WORKER))
    stream = Terminal("1 running", seen)
    wait(submission, tmp_path, stream, every=0.05, study="masks")
    screen, left, after = stream.getvalue().partition(LEAVE)
    assert left
    assert "masks watched" in screen
    assert "Ctrl-C stops the runs; each writes a checkpoint first." in screen
    bad, last = after.splitlines()
    assert bad == "bad: failed (oom): The settings say so."
    assert last.startswith("1 of 2 finished, 1 failed, 100% of the FLOPs")


def test_where_to_read_on_is_said_of_a_run_whose_worker_is_gone(tmp_path, monkeypatch):
    runs = [StandInRun("run", seconds=60)]
    submission = submit(runs, tmp_path, LocalLauncher(tmp_path, command=WORKER))
    wait_for(runs, tmp_path, State.RUNNING)
    (known,) = (tmp_path / "local").glob("*/workers.json")
    worker, stream, looks = json.loads(known.read_text())["workers"][0]["pid"], io.StringIO(), []
    follow = Display.follow

    def kill_at_the_first_look(lines, progress, results):
        follow(lines, progress, results)
        if not looks:  # Lines tell what has changed since that look.
            os.kill(worker, signal.SIGKILL)
        looks.append(progress)

    monkeypatch.setattr(Display, "follow", kill_at_the_first_look)
    wait(submission, tmp_path, stream, every=0.05)
    log = submission.jobs[0].log
    assert f"run: lost, its process is gone (`submit` resumes it); its output is in {log}" in stream.getvalue()


def test_ctrl_c_cancels_what_this_submission_started_and_nothing_else(tmp_path):
    script = (
        "import sys; from pathlib import Path\n"
        "from flipscale.launch import submit, wait; from flipscale.launch.local import LocalLauncher\n"
        "from tests.launch.contract import WORKER, StandInRun\n"
        "results = Path(sys.argv[1])\n"
        "runs = [StandInRun('theirs', seconds=2), StandInRun('mine', first_seconds=60)]\n"
        "wait(submit(runs, results, LocalLauncher(results, command=WORKER)), results)\n"
    )
    theirs, mine = StandInRun("theirs", seconds=2), StandInRun("mine")
    submit([theirs], tmp_path, LocalLauncher(tmp_path, command=WORKER))
    watching = subprocess.Popen([sys.executable, "-c", script, tmp_path], stderr=subprocess.PIPE, text=True)
    with watching:
        wait_for([mine], tmp_path, State.RUNNING)
        # Where it is running, `wait` is on its way to say so.
        said = iter(watching.stderr.readline, "")
        assert any("mine: running" in line for line in said)
        os.kill(watching.pid, signal.SIGINT)
        rest = watching.stderr.read()
    assert "Cancelled 1 run; `flipscale submit` goes on from their checkpoints" in rest
    assert states([mine], tmp_path) == {"mine": State.CANCELLED}
    wait_for([theirs], tmp_path, State.FINISHED)
    assert starts(tmp_path, theirs) == 1


@pytest.mark.parametrize(
    ("written", "samples"),
    [
        (b"", None),
        (b'{"step": 1, "samples_seen": 8, "loss": 3.0}\n', 8),
        (b'{"step": 1, "samples_seen": 8, "loss": 3.0}\n{"step": 2, "sam', 8),
        (b'{"step": 1, "samples_seen": 8, "loss": 3.0}\n{"step": 1, "samples_seen": 8, "scores": {}}\n', 8),
        (
            b'{"step": 1, "samples_seen": 8, "loss": 3.0}\n' * 200 + b'{"step": 2, "samples_seen": 16, "loss": 2.0}\n',
            16,
        ),
    ],
)
def test_progress_is_the_last_whole_record_of_the_loss(tmp_path, written, samples):
    (tmp_path / "metrics.jsonl").write_bytes(written)
    assert (RunFolder(tmp_path).reached().samples_seen or None) == samples


def test_progress_reads_as_a_line():
    run = RunProgress("run", State.RUNNING, samples_seen=8000, total=16000, loss=3.21987, images_per_second=1234.5)
    assert str(run) == "run: running, 8,000 of 16,000 samples, loss 3.2199, 1,234 images/s"
    study = StudyProgress((run, RunProgress("next", State.WAITING, 0, 16000)), done=0.25, elapsed=75.2, left=3780.0)
    assert str(study) == (
        "0 of 2 finished, 1 waiting, 1 running, 25% of the FLOPs, 1 min 15 s so far, about 1 h 3 min left"
    )
    assert "so far" not in str(replace(study, elapsed=0.2))


def test_a_resumed_run_is_paced_from_its_checkpoint_not_from_its_last_record(tmp_path):
    run = StandInRun("run", seconds=50.0)  # 1000 samples
    here = folder(tmp_path, run)
    with here.hold():
        seen = watch([run], tmp_path, every=0.02)
        left = []
        for samples in (800, 500, 600):
            (here.path / "metrics.jsonl").write_text(f'{{"step": 1, "samples_seen": {samples}, "loss": 1.0}}\n')
            left.append(next(seen).left)
    assert left[:2] == [None, None]
    assert left[2] is not None
    assert 0 < left[2] < 20


def test_time_left_is_known_at_the_first_look_from_the_recorded_speed_and_the_plans_flops(tmp_path):
    runs = [StandInRun("running", seconds=50.0), StandInRun("waiting", seconds=25.0)]  # 1000 and 500 samples
    here = folder(tmp_path, runs[0])
    with here.hold():
        (here.path / "metrics.jsonl").write_text(
            '{"step": 1, "samples_seen": 500, "loss": 1.0, "images_per_second": 100.0}\n'
        )
        alone = next(watch(runs[:1], tmp_path))
        both = next(watch(runs, tmp_path))
    assert alone.left == pytest.approx(5.0)  # 500 samples at 100 a second
    assert alone.samples_per_second == 100.0
    assert (alone.hours, alone.hours_done) == (pytest.approx(50 / 3600), pytest.approx(25 / 3600))
    assert both.left == pytest.approx(5.0)  # nobody has asked for the other, so it is not on its way


def test_the_last_scores_of_a_running_run_are_found_far_behind_its_last_loss(tmp_path):
    losses = b"".join(b'{"step": %d, "samples_seen": %d, "loss": 3.0}\n' % (i, i) for i in range(300))
    (tmp_path / "metrics.jsonl").write_bytes(
        b'{"step": 1, "samples_seen": 8, "scores": {"zero_shot_top1": 0.25}}\n' + losses
    )
    reached = RunFolder(tmp_path).reached(65536, scores=True)
    assert (reached.samples_seen, reached.scores) == (299, {"zero_shot_top1": 0.25})
    assert RunFolder(tmp_path).reached(4096, scores=True) == replace(reached, scores={})
