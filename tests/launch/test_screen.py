"""The screen of `watch`, at the size of its terminal."""

import io
from dataclasses import replace

from rich.console import Console

from flipscale.launch.progress import RunProgress, StudyProgress
from flipscale.launch.screen import Display, screenful
from flipscale.run import State


def run(name: str, state: State, **more) -> RunProgress:
    return RunProgress(name, state, samples_seen=more.pop("samples", 0), total=32000, **more)


RUNNING = [
    run(f"w48d3_shapes_32k_m0.5_s{seed}_1234567890", State.RUNNING, samples=8000, loss=2.5, images_per_second=1000.0)
    for seed in range(3)
]


def study(*runs: RunProgress, left: float | None = 75.0) -> StudyProgress:
    return StudyProgress(runs, done=0.25, elapsed=12.0, left=left, hours=2.0, hours_done=0.5)


def shown(progress: StudyProgress, columns: int = 80, **more) -> list[str]:
    console = Console(width=columns, file=io.StringIO())
    console.print(screenful(progress, study="masks", **more))
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_a_screen_says_counts_pace_time_left_and_each_running_run() -> None:
    scored = run("w48d3_s9", State.RUNNING, samples=16000, loss=1.25, images_per_second=500.0)
    scored = replace(scored, scores={"held_out_loss": 1.5, "zero_shot_top1": 0.423})
    waiting = [run(f"w{i}", State.WAITING, says="Priority") for i in range(2)]
    title, counts, bar, *lines = shown(study(RUNNING[0], scored, *waiting))
    assert title.split() == ["masks", "watched", "12", "s"]
    assert counts == "0 of 4 finished, 2 waiting, 2 running"
    assert len(bar) <= 80
    assert lines == [
        "25% of the FLOPs, 1,500 samples/s, 0.5 of 2 GPU-hours by the cost model, about 1",
        "min 15 s left",
        "score is zero_shot_top1. Ctrl-C leaves; the runs go on.",
        "2 waiting: Priority",
        "done    loss  score  samples/s  run",
        " 25%  2.5000             1,000  w48d3_shapes_32k_m0.5_s0_1234567890",
        " 50%  1.2500  42.3%        500  w48d3_s9",
    ]


def test_hours_are_those_of_a_probe_where_there_was_one() -> None:
    assert any("GPU-hours by a probe" in line for line in shown(replace(study(*RUNNING[:1]), is_timed=True)))


def test_bad_ends_come_before_running_runs_and_are_counted() -> None:
    bad = [run(f"bad{i}", State.FAILED, says="oom: CUDA out of memory " * 5) for i in range(5)]
    lines = shown(study(*RUNNING, *bad), 40)
    assert max(map(len, lines)) <= 40
    assert [line[:4] for line in lines if line.startswith("bad")] == ["bad4", "bad3", "bad2"]
    assert lines.index("and 2 more that failed or were lost") < lines.index("done    loss  samples/s  run")


def test_a_screen_of_thousands_of_runs_is_as_large_as_the_terminal(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("TERM", "xterm")
    many = [run(f"run{i:05}", State.RUNNING, samples=10, loss=1.0, images_per_second=1.0) for i in range(10_000)]
    drawn = io.StringIO()
    drawn.isatty = lambda: True
    screen = Display(drawn, "masks")
    screen._live.console = Console(file=drawn, width=40, height=10, force_terminal=True, color_system=None)
    with screen:
        screen.follow(study(*many), tmp_path)
    (frame,) = drawn.getvalue().split("\x1b[H")[2:]
    assert len(frame.partition("\x1b[?25h")[0].splitlines()) == 10


def test_what_a_run_says_cannot_steer_the_terminal_and_is_no_markup() -> None:
    lines = shown(study(run("r", State.FAILED, says="code: \x1b[2J\nboom [red]\u4e16\u754c[/red]")))
    assert "r failed: code: \\x1b[2J boom [red]\u4e16\u754c[/red]" in lines


def test_runs_that_finished_lately_are_shown_with_their_score() -> None:
    done = RunProgress("d", State.FINISHED, 32000, 32000, scores={"zero_shot_top1": 0.5, "held_out_loss": 2.0})
    assert "finished 50.0% d" in shown(study(done, RUNNING[0]), lately=[done])
    assert "finished 2.0000 d" in shown(study(done, RUNNING[0]), lately=[done], score="held_out_loss")
