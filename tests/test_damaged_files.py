"""One damaged file never stops the others: each verb names it, goes around it, and waits for no pipe."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import pytest

from flipscale.cli import main
from flipscale.errors import DamagedFile
from flipscale.kinds import record_of
from flipscale.launch.local.launcher import LocalQueue
from flipscale.launch.ray.trials import Task, Trials
from flipscale.launch.site import DEFAULTS
from flipscale.launch.slurm.arrays import JobArray
from flipscale.plain_files import is_fresh, parsed, read_bytes, read_json
from flipscale.planning.runs import Run
from flipscale.run import (
    LEASE_GRACE_SECONDS,
    FailedAttempt,
    FailureKind,
    Job,
    Reached,
    Result,
    RunFolder,
    RunRequest,
    State,
    machine,
)
from flipscale.settings.declarations import Resources
from flipscale.workflow.opened import open_study, write_plan
from flipscale.workspace import Workspace
from tests.patience import PATIENCE

STUDY = """\
schema: 1
question: Does it run?
base: {data: shapes, model: ViT-w16d1-4, text_length: 16, batch_size: 32, lr: 1e-3}
axes:
  samples: [320, 640]
  mask_ratio: [0, 0.5]
seeds: 2
evaluation: {images: 100}
"""

SUBMISSION = "20260101-000000-0"

DEEP = b"[" * 10_000 + b"]" * 10_000

DAMAGE: dict[str, bytes] = {
    "empty": b"",
    "torn": b'{"schema": 1, "host": "a',
    "a list": b"[1, 2]",
    "a text": b'"hello"',
    "a number": b"7",
    "null": b"null",
    "no keys": b"{}",
    "NUL bytes": b"\0" * 200,
    "not UTF-8": b'{"reason": "caf\xe9"}',
    "nested": DEEP,
    "not finite": b'{"schema": NaN, "id": 1e400, "pid": Infinity, "submitted": -Infinity}',
    "long digits": b"9" * 5000,
    "a foreign schema": b'{"schema": "x"}',
    "half a character": b'{"schema": 1, "id": "\\ud83d", "kind": "\\ud83d", "reason": "\\ud83d"}',
    "of another type": json.dumps(
        {name: {"a": [1]} for name in ("id", "launcher", "log", "submitted", "host", "pid", "workers", "tasks", "kind")}
    ).encode(),
}


def pipe(path: Path) -> None:
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.mkdir()


def loop(path: Path) -> None:
    path.symlink_to(path.name)


HARMLESS = ("null", "no keys", "half a character", "a foreign schema", "not finite", "of another type")
"""Damage to a result.json of which its hours can be missing all the same."""

NO_FILES: dict[str, Callable[[Path], None]] = {"a pipe": pipe, "a folder": folder, "a link to itself": loop}


@contextmanager
def patience() -> Iterator[None]:
    """The block ends, or the test fails: nothing waits for what never comes."""

    def give_up(signum: int, frame: FrameType | None) -> None:
        raise AssertionError("it waits for what never comes")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(round(PATIENCE / 10))
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def each_damage(path: Path) -> Iterator[str]:
    """The path in every way to be damaged, one after the other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for name, content in DAMAGE.items():
        path.unlink(missing_ok=True)
        path.write_bytes(content)
        yield name
    for name, put in NO_FILES.items():
        path.unlink(missing_ok=True)
        put(path)
        yield name
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
    path.unlink(missing_ok=True)


class Study:
    """A study whose runs are in every state, made by hand: nothing was trained."""

    def __init__(self, here: Path):
        self.results = here / "results"
        (here / "mask.yaml").write_text(STUDY)
        opened = open_study(here / "mask.yaml", Workspace(self.results, here / "plots"))
        write_plan(opened)
        self.runs: tuple[Run, ...] = tuple(opened.plan.runs)
        self.folders = [RunFolder(self.results / "runs" / run.id) for run in self.runs]
        for run, each in zip(self.runs, self.folders, strict=True):
            each.ask(RunRequest.of(run))
        for score, each in enumerate(self.folders[:4]):
            with each.hold() as lease:
                assert lease is not None
                lease.append([{"step": step, "samples_seen": 32 * step, "loss": 1.0} for step in range(1, 5)])
                lease.write_result(
                    Result(scores={"zero_shot_top1": 0.4 + score / 100}, samples_seen=320, gpu_hours=0.1)
                )
        self.local = self.results / "local" / SUBMISSION
        self.failed, self.lost, self.on_ray, self.planned = self.folders[4:]
        self.failed.write_error(FailureKind.CODE, "It broke.", noted=True)
        for each in (self.failed, self.lost):
            each.write_job(Job(each.id, "local", SUBMISSION, 0.0, str(self.local.resolve())))
        self.on_ray.write_job(Job(self.on_ray.id, "ray", f"{SUBMISSION}/0", 0.0, "log"))
        self.local.mkdir(parents=True)
        worker = {"pid": 1, "born": "1", "slots": ["core-0"]}
        written = {"schema": 1, "machine": machine(), "runs": [self.lost.id], "workers": [worker]}
        (self.local / "workers.json").write_text(json.dumps(written))
        task = Task((self.on_ray.id,), self.runs[6].resources, 1)
        trials = Trials(SUBMISSION, (task,), "http://127.0.0.1:1", DEFAULTS, "runs", ("true",), str(here))
        trials.write(self.results / "ray")

    def path(self, name: str) -> Path:
        """A file of the study by the name that tests give it."""
        places = {
            "workers.json": self.local,
            "stopped.json": self.local,
            "submission.json": self.results / "ray" / SUBMISSION,
            "plan.json": self.results / "mask",
            ".study": self.results / "mask",
            "timings.json": self.results,
            "job.json": self.lost.path,
            "lease.json": self.lost.path,
            "last_holder.json": self.lost.path,
            "life.json": self.lost.path,
            "error.json": self.failed.path,
            "failures.jsonl": self.failed.path,
            "run.json": self.planned.path,
            "probe.json": self.planned.path,
        }
        return places.get(name, self.folders[0].path) / name


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    here = tmp_path_factory.mktemp("made")
    Study(here)
    return here


@pytest.fixture
def study(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """A study of its own for each test, in the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FLIPSCALE_RESULTS", raising=False)
    return Study(tmp_path)


def verb(*arguments: str) -> int:
    """The exit code of a verb; whatever it meets, it ends and raises nothing."""
    with patience():
        return main(arguments)


STATUS, CANCEL, DRY_RUN = (
    ("status", "mask.yaml", "--json"),
    ("cancel", "mask.yaml"),
    ("submit", "mask.yaml", "--dry-run"),
)
COLLECT = ("collect", "mask.yaml", "--no-mlflow")

VERBS = {
    "workers.json": [STATUS, CANCEL, DRY_RUN],
    "stopped.json": [STATUS, DRY_RUN],
    "submission.json": [STATUS, CANCEL],
    "job.json": [STATUS, CANCEL, DRY_RUN],
    "lease.json": [STATUS, DRY_RUN],
    "last_holder.json": [STATUS],
    "life.json": [STATUS],
    "error.json": [STATUS, DRY_RUN],
    "failures.jsonl": [STATUS, DRY_RUN],
    "run.json": [STATUS, DRY_RUN],
    "probe.json": [STATUS, CANCEL],
    "timings.json": [STATUS],
    ".study": [STATUS],
    "code.json": [STATUS],
}
"""Which verbs read a file."""


@pytest.mark.parametrize("name", VERBS)
def test_a_damaged_file_stops_no_verb(study: Study, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    for damage in each_damage(study.path(name)):
        for arguments in VERBS[name]:
            assert verb(*arguments) == 0, f"{name} is {damage}: {arguments[0]} said {capsys.readouterr()}"
        said = capsys.readouterr().out
        assert all(each.id in said for each in study.folders), f"{name} is {damage}"


@pytest.mark.parametrize("name", ["workers.json", "submission.json", "job.json", "error.json"])
def test_status_names_the_damaged_file(study: Study, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    for damage in each_damage(study.path(name)):
        if (name, damage) == ("job.json", "empty"):
            continue  # It is as good as none: the machine went down before it was on the disk.
        assert verb("status", "mask.yaml") == 0
        said = capsys.readouterr().out
        if name == "error.json" and damage in ("no keys", "half a character", "of another type"):
            name = "1 failed"  # It has failed, and the file does not tell why.
        assert name in said, f"{name} is {damage}: {said}"


@pytest.mark.parametrize("name", ["run.json", "result.json", "metrics.jsonl", "hits.json"])
def test_collect_goes_around_what_is_damaged(study: Study, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    run = study.folders[0]
    for damage in each_damage(run.path / name):
        if name == "run.json" and damage != "a pipe":
            continue  # they are all read by the same function as those of result.json
        assert verb(*COLLECT) == 0, f"{name} is {damage}: {capsys.readouterr().err}"
        rows = (study.results / "mask" / "results.csv").read_text().splitlines()
        assert len(rows) in (4, 5), f"{name} is {damage}"
        assert len(rows) == 5 or f"{run.id} is left out: " in capsys.readouterr().err


def test_why_and_logs_of_other_runs_go_on(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    finished, lost = study.folders[0].id, study.lost.id
    other = study.results / "other" / "plan.json"
    other.parent.mkdir()
    for place in (study.path("run.json"), other, study.path("code.json")):
        for damage in each_damage(place):
            code = verb("status", "--why", finished)
            assert (code == 0) != (place.name == "code.json" and "code.json" in capsys.readouterr().err), damage
    for damage in each_damage(study.lost.path / "log.txt"):
        assert verb("logs", lost) == (damage in NO_FILES)
    capsys.readouterr()


def test_submit_leaves_out_the_damaged_run_by_name(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    study.path("job.json").write_bytes(b"[]")
    study.path("run.json").write_bytes(b'{"id": "x", "settings": {}, "parents": "all"}')
    assert verb(*DRY_RUN) == 0
    said = capsys.readouterr().out
    assert f"# left out: {study.lost.id}: " in said
    assert "job.json: holds no JSON object. Delete it and submit again." in said
    assert "run.json: 'parents' is 'all'. Delete it and submit again." in said
    assert f"runs/{study.failed.id}" in said


def test_cancel_stops_the_others_and_names_what_it_cannot(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    with study.lost.hold() as lease:
        assert lease is not None
        study.path("job.json").write_bytes(b"[]")
        assert verb(*CANCEL) == 1
    assert f"{study.lost.id} is running and continues: " in capsys.readouterr().err


@pytest.mark.slow
def test_report_works_for_a_lost_run_without_a_log_and_with_a_damaged_job(study: Study) -> None:
    assert verb(*COLLECT) == 0
    assert verb("report", "mask.yaml") == 0
    page = Path("plots/mask/report.html").read_text()
    assert study.lost.id in page
    for place in ("job.json", "error.json", "metrics.jsonl"):
        study.path(place).unlink()
        pipe(study.path(place))
    assert verb("report", "mask.yaml") == 0
    assert study.lost.id in Path("plots/mask/report.html").read_text()


def test_ledger_goes_around_what_is_damaged(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    run = study.folders[0]
    for damage in each_damage(run.path / "result.json"):
        assert verb("status", "--spent") == 0, damage
        assert f"A run is left out: {run.path.relative_to(Path.cwd())}" in capsys.readouterr().err or damage in HARMLESS


@pytest.mark.slow
def test_report_goes_around_a_result_that_is_damaged(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    assert verb(*COLLECT) == 0
    for damage in (b"[1]", b'{"schema": 1, "device": "\\u001b[31mred"}', b""):
        (study.folders[0].path / "result.json").write_bytes(damage)
        assert verb("report", "mask.yaml") == 0, capsys.readouterr().err


ORDERS = "\x1b[31mred\x1b]0;title\x07\x9b2J"
"""Sequences that a terminal obeys."""


def test_no_verb_hands_a_terminal_the_orders_of_a_file(
    study: Study, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    written = {"reason": ORDERS, "why": ORDERS, "node": ORDERS, "host": ORDERS, "job": ORDERS, ORDERS: ORDERS}
    study.path("error.json").write_text(json.dumps({"schema": 1, "kind": "code", "noted": True, **written}))
    study.path("failures.jsonl").write_text(json.dumps({"kind": "oom", **written}) + "\n")
    study.path("lease.json").write_text(json.dumps({"token": "x", "pid": 7, **written}))
    before = time.time() - LEASE_GRACE_SECONDS + 10  # So `watch` waits 10 s for a run that is on another host.
    os.utime(study.path("lease.json"), (before, before))
    study.path("stopped.json").write_text(json.dumps({"schema": 1, **written}))
    study.path("timings.json").write_text(json.dumps(written))
    for run in (study.folders[0], study.lost):
        with open(run.path / "metrics.jsonl", "a") as file:
            file.write(
                json.dumps({"step": 9, "samples_seen": 9, "loss": 1.0, "scores": {ORDERS: 1.0}, ORDERS: 3}) + "\n"
            )
    result = study.folders[1].path / "result.json"
    result.write_text(json.dumps({**json.loads(result.read_text()), "device": ORDERS, **written}))
    (study.failed.path / "log.txt").write_text(f"{ORDERS}\n")
    (study.results / "runs" / ORDERS).mkdir()
    (study.results / ORDERS).mkdir()
    (study.results / ORDERS / "plan.json").write_text("{")
    key = json.dumps(ORDERS)
    Path("bad.yaml").write_text(f"schema: 1\n{key}: 1\nbase: {{data: shapes, {key}: 2}}\n")
    for words in (
        STATUS, (*STATUS, "--json"), DRY_RUN, CANCEL, COLLECT, ("watch", "mask.yaml"), ("gc",),
        ("status", "--why", study.failed.id), ("status", "--why", study.folders[0].id), ("status", "--spent"),
        ("logs", study.failed.id), ("plan", "bad.yaml"), ("compare", "mask.yaml"),
        ("export", "mask.yaml", "--to", "csv"),
    ):  # fmt: skip
        with monkeypatch.context() as terminal:
            if words[0] != "watch":  # There it draws with such orders of its own; test_screen.py looks at them.
                terminal.setattr(sys.stdout, "isatty", lambda: True)
            verb(*words)
        said = capsys.readouterr()
        assert not {"\x1b", "\x07", "\x9b"} & {*said.out, *said.err}, words


# A trainer's own records


@pytest.mark.parametrize(
    "line",
    [
        b'"hello"',
        b"[1]",
        b'{"step": 9, "samples_seen": 9, "loss": "bad", "images_per_second": "fast", "scores": {"a": "b"}}',
        b'{"step": 9, "samples_seen": 9, "loss": [1], "images_per_second": {}, "scores": ["a"]}',
        b'{"step": 9, "samples_seen": 9, "loss": NaN}',
        b'{"step": 9, "samples_seen": 1' + b"0" * 400 + b', "loss": 1' + b"0" * 400 + b"}",
        b'{"step": 9, "samples_seen": 9, "loss": ' + DEEP + b"}",
        b'{"step": 9, "samples_seen": true, "loss": true}',
        b'{"step": 9, "\\ud83d": 1}',
        b"\0" * 100,
    ],
)
def test_a_record_that_is_none_is_gone_around(study: Study, line: bytes) -> None:
    for run in (study.folders[0], study.lost):
        with open(run.path / "metrics.jsonl", "ab") as file:
            file.write(line + b"\n")
    assert verb(*STATUS) == verb(*COLLECT) == 0
    reached = study.lost.reached(scores=True)
    assert all(value is None or isinstance(value, float) for value in (reached.loss, reached.images_per_second))
    assert not reached.scores or all(isinstance(value, float) for value in reached.scores.values())


def test_what_a_program_recorded_in_the_wrong_type_counts_as_not_recorded(tmp_path: Path) -> None:
    line = {"step": 1, "samples_seen": 32, "loss": "bad", "images_per_second": 3, "scores": {"a": 1, "b": "c"}}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    assert RunFolder(tmp_path).reached(scores=True) == Reached(32, step=1, images_per_second=3.0, scores={"a": 1.0})


# Files as such


def test_what_is_no_plain_file_is_said_and_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    said = {}
    for name, put in NO_FILES.items():
        put(path)
        with patience(), pytest.raises(DamagedFile) as raised:
            read_json(path, dict)
        said[name] = str(raised.value).removeprefix(f"{path}: ")
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    assert said == {
        "a pipe": "is a pipe, where a plain file is expected.",
        "a folder": "is a folder, where a plain file is expected.",
        "a link to itself": "is a link, and flipscale follows none below a results or plots folder; put the file or "
        "folder itself there, or delete the link.",
    }
    with patience(), pytest.raises(DamagedFile, match="is a device"):
        read_bytes("/dev/zero")


def test_a_file_that_claims_too_much_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    path.touch()
    os.truncate(path, 2**40)
    with pytest.raises(DamagedFile, match="holds 1,099,511,627,776 bytes, where at most"):
        read_json(path, dict)
    assert read_bytes(path, tail=3) == b"\0\0\0"


def test_two_escaped_halves_are_one_character_and_one_alone_is_refused() -> None:
    assert parsed(b'"\\ud83d\\ude00"') == "\N{GRINNING FACE}"
    with pytest.raises(ValueError, match="surrogates not allowed"):
        parsed(b'{"a": ["\\ud83d"]}')


def test_a_record_has_the_types_of_its_fields() -> None:
    data = {"run_id": "a", "launcher": "local", "id": "1", "submitted": 3, "log": "", "more": 1}
    assert record_of(Job, data) == Job("a", "local", "1", 3.0, "")
    with pytest.raises(ValueError, match="'submitted' is 'now'"):
        record_of(Job, {**data, "submitted": "now"})
    with pytest.raises(ValueError, match="has no 'log'"):
        record_of(Job, {name: value for name, value in data.items() if name != "log"})
    assert record_of(FailedAttempt, {"kind": "oom", "reason": "", "node": 7}, leniently=True).node is None


def test_lists_of_workers_arrays_and_trials_are_read_as_they_were_written(study: Study) -> None:
    queue = LocalQueue.read(study.local)
    assert queue is not None
    assert queue.runs == (study.lost.id,)
    task = Task((study.on_ray.id,), study.runs[6].resources, 1)
    assert Trials.read(study.path("submission.json")).tasks == (task,)
    array = JobArray("a-0", {0: ("x",)}, Resources(), 1, 1, ("n1",), dict(DEFAULTS), "runs", ("true",), memory=7)
    array.write(study.results / "slurm")
    assert JobArray.read(array.path(study.results / "slurm")) == array


# Clocks


def test_a_lease_whose_clock_is_ahead_is_nobodys_for_ever(study: Study) -> None:
    lease = study.lost.path / "lease.json"
    lease.write_text(json.dumps({"token": "x", "host": "elsewhere", "pid": 7}))
    assert study.lost.state() is State.RUNNING  # touched just now
    tomorrow = time.time() + 86400
    os.utime(lease, (tomorrow, tomorrow))
    assert study.lost.state() is State.LOST


def test_a_file_server_whose_clock_differs_is_asked_for_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    for ours in (time.time() + 86400, time.time() - 86400):
        monkeypatch.setattr(time, "time", lambda ours=ours: ours)
        assert is_fresh(tmp_path / "file", 60.0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]
