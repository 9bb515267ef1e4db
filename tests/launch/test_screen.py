"""The screen of `watch`, at the size of its terminal."""

from dataclasses import replace

from flipscale.launch.progress import RunProgress, StudyProgress
from flipscale.launch.screen import screenful
from flipscale.run import State


def run(name: str, state: State, **more) -> RunProgress:
    return RunProgress(name, state, samples_seen=more.pop("samples", 0), total=32000, **more)


RUNNING = [
    run(f"w48d3_shapes_32k_m0.5_s{seed}_1234567890", State.RUNNING, samples=8000, loss=2.5, images_per_second=1000.0)
    for seed in range(3)
]


def study(*runs: RunProgress, left: float | None = 75.0) -> StudyProgress:
    return StudyProgress(runs, done=0.25, elapsed=12.0, left=left, hours=2.0, hours_done=0.5)


def shown(progress: StudyProgress, columns: int, rows: int, **more) -> list[str]:
    lines = [line.text for line in screenful(progress, columns, rows, study="masks", **more)]
    assert len(lines) <= rows
    assert max(map(len, lines)) <= columns
    return lines


def test_a_screen_says_counts_pace_time_left_and_each_running_run() -> None:
    scored = run("w48d3_s9", State.RUNNING, samples=16000, loss=1.25, images_per_second=500.0)
    scored = RunProgress(**{**vars(scored), "scores": {"held_out_loss": 1.5, "zero_shot_top1": 0.423}})
    waiting = [run(f"w{i}", State.WAITING, says="Priority") for i in range(2)]
    lines = shown(study(RUNNING[0], scored, *waiting), 80, 24)
    assert lines == [
        "masks                                                              watched 12 s",
        "0 of 4 finished, 2 waiting, 2 running",
        "[###############--------------------------------------------]  25% of the FLOPs",
        "1,500 samples/s, 0.5 of 2 GPU-hours by the cost model, about 1 min 15 s left",
        "done    loss  score  samples/s           samples  run",
        " 25%  2.5000             1,000   8,000 of 32,000  ..apes_32k_m0.5_s0_1234567890",
        " 50%  1.2500  42.3%        500  16,000 of 32,000  w48d3_s9",
        "2 waiting: Priority",
        "score is zero_shot_top1. Ctrl-C leaves; the runs go on.",
    ]


def test_hours_are_those_of_a_probe_where_there_was_one() -> None:
    probed = replace(study(*RUNNING[:1]), is_timed=True)
    assert any("GPU-hours by a probe" in line for line in shown(probed, 80, 24))


def test_a_small_screen_leaves_out_columns_and_runs_and_says_how_many() -> None:
    bad = [run(f"bad{i}", State.FAILED, says="oom: CUDA out of memory") for i in range(5)]
    lines = shown(study(*RUNNING, *bad), 40, 10)
    assert lines == [
        "masks                      watched 12 s",
        "0 of 8 finished, 3 running, 5 failed",
        "[#####--------------]  25% of the FLOPs",
        "3,000 samples/s, 0.5 of 2 GPU-hours by",
        "the cost model, about 1 min 15 s left",
        "done    loss  run",
        " 25%  2.5000  .._32k_m0.5_s0_1234567890",
        "and 2 more running",
        "5 that failed or were lost",
        "Ctrl-C leaves; the runs go on.",
    ]


def test_of_thousands_of_runs_a_screen_shows_as_many_as_fit() -> None:
    many = [run(f"run{i:05}", State.RUNNING, samples=10, loss=1.0, images_per_second=1.0) for i in range(10_000)]
    lines = shown(study(*many), 80, 24)
    assert len(lines) == 24
    assert "and 9983 more running" in lines
    assert [line.split()[0] for line in shown(study(*many), 10, 3)] == ["masks", "0", "10000"]


def test_what_a_run_says_cannot_steer_the_terminal() -> None:
    lines = shown(study(run("r", State.FAILED, says="code: \x1b[2J\nboom \u4e16\u754c")), 80, 24)
    assert "r failed: code:  [2J boom \u4e16\u754c" in lines


def test_a_wide_letter_takes_two_columns() -> None:
    lines = shown(study(run("r", State.FAILED, says="\u4e16" * 40)), 40, 10)
    assert "r failed: " + "\u4e16" * 14 in lines


def test_runs_that_finished_lately_are_shown_with_their_score() -> None:
    done = RunProgress("d", State.FINISHED, 32000, 32000, scores={"zero_shot_top1": 0.5, "held_out_loss": 2.0})
    assert "finished  50.0%  d" in shown(study(done, RUNNING[0]), 80, 24, lately=[done])
    assert "finished  2.0000  d" in shown(study(done, RUNNING[0]), 80, 24, lately=[done], score="held_out_loss")
