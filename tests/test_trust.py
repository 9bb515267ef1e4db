"""A results folder of a stranger is data, not orders: nothing that it names is run, signalled, followed or emptied."""

import ast
import base64
import functools
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flipscale.errors import DamagedFile, FlipscaleError, LaunchError, RunFolderError
from flipscale.guard import locked
from flipscale.launch import cancel, submit_lock
from flipscale.plain_files import open_plain, read_bytes, replacing
from flipscale.planning.runs import plan
from flipscale.run import FailedAttempt, FailureKind, Job, RunFolder, RunRequest, State, birth, is_alive, machine
from flipscale.storage import remove_unneeded
from flipscale.study import read_study
from flipscale.workflow.reported import write_report
from tests.launch.contract import StandInRun, folder
from tests.test_house import PACKAGE, ROOT

SECRET = "the words of a private file"


@pytest.fixture
def bystander() -> Iterator["subprocess.Popen[bytes]"]:
    """A process of the same user that is not a business of flipscale's."""
    with subprocess.Popen(["sleep", "600"], stdin=subprocess.DEVNULL) as process:
        yield process
        process.kill()


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "home" / "secret.log"
    path.parent.mkdir()
    path.write_text(SECRET)
    return path


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    stand_in = StandInRun("run")
    found = folder(tmp_path / "results", stand_in)
    found.ask(RunRequest.of(stand_in))
    return found


def lease(run: RunFolder, process: "subprocess.Popen[bytes]", born: str | None, job: str = "local/list/0") -> None:
    """A lease that names the process."""
    named = {"token": "x", "host": "h", "machine": machine(), "pid": process.pid, "born": born, "job": job}
    (run.path / "lease.json").write_text(json.dumps({**named, "attempt": 0, "time": time.time()}))


def workers_json(run: RunFolder, *processes: "subprocess.Popen[bytes]", **more: object) -> Path:
    """A list of a submission to this machine that has the run, and names the processes as its workers."""
    path = run.path.parents[1] / "local" / "list"
    path.mkdir(parents=True)
    workers = [{"pid": one.pid, "born": birth(one.pid), "slots": ["core-0"]} for one in processes]
    written = {"schema": 1, "machine": machine(), "runs": [run.id], "workers": workers, **more}
    (path / "workers.json").write_text(json.dumps(written))
    run.write_job(Job("run", "local", "list", time.time(), log=str(path)))
    return path


# Processes


def test_cancel_signals_no_process_that_workers_json_names_and_runs_no_command_of_it(
    run: RunFolder, bystander: "subprocess.Popen[bytes]"
) -> None:
    ran = run.path.parents[1] / "ran"
    command = [sys.executable, "-c", f"open({str(ran)!r}, 'w')"]
    left = StandInRun("left")
    folder(run.path.parents[1], left).ask(RunRequest.of(left))
    path = workers_json(run, bystander, command=command, runs=[run.id, "left"])
    lease(run, bystander, birth(bystander.pid))
    with pytest.raises(LaunchError, match="is not a training of yours for this results folder, so no signal was sent"):
        cancel([StandInRun("run")], run.path.parents[1])
    assert bystander.poll() is None
    assert not ran.exists()
    assert not list(path.glob("*.log"))  # Nothing was started.


def test_a_lease_that_does_not_say_when_its_process_was_born_names_no_living_one(
    run: RunFolder, bystander: "subprocess.Popen[bytes]"
) -> None:
    lease(run, bystander, None)
    assert run.state() is State.PLANNED
    assert not is_alive(bystander.pid, None)
    lease(run, bystander, birth(bystander.pid))
    assert run.state() is State.RUNNING


@pytest.mark.parametrize("pid", [-1, 0, True, "self", 1.5])
def test_what_is_no_number_of_one_process_is_none(run: RunFolder, pid: object) -> None:
    named = {"token": "x", "host": "h", "machine": machine(), "pid": pid, "born": birth(os.getpid())}
    (run.path / "lease.json").write_text(json.dumps(named))
    holder = run.holder()
    assert holder is None or not holder.alive


def test_a_process_is_signalled_only_if_it_was_started_for_the_run_and_the_job(run: RunFolder) -> None:
    sleep = [sys.executable, "-c", "import time; print(flush=True); time.sleep(600)"]
    right = {**os.environ, "FLIPSCALE_JOB": "local/list/0"}
    for arguments, environment, may in [
        ([str(run.path)], right, True),
        ([str(run.path)], {**right, "FLIPSCALE_JOB": "local/other/0"}, False),
        ([str(run.path.parent / "other")], right, False),
    ]:
        with subprocess.Popen([*sleep, *arguments], env=environment, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            lease(run, process, birth(process.pid))
            holder = run.holder()
            assert holder is not None
            assert holder.may_be_signalled(run.path) is may
            lease(run, process, "1")
            assert not RunFolder(run.path).holder().may_be_signalled(run.path)  # type: ignore[union-attr]
            process.kill()


def test_a_program_that_was_left_over_is_ended_only_if_it_was_started_for_the_run(
    run: RunFolder, bystander: "subprocess.Popen[bytes]"
) -> None:
    from flipscale.train.trainers.program import process as programs

    note = run.path / "program.json"
    named = {"machine": machine(), "pid": bystander.pid, "born": birth(bystander.pid)}
    note.write_text(json.dumps(named))
    programs._end_leftover(run, note.name)
    assert bystander.poll() is None
    said = f"program.json names process {bystander.pid}, which was not started for this run: it is left alone\n"
    assert (run.path / "log.txt").read_text().endswith(said)


def test_a_job_id_is_no_path(run: RunFolder) -> None:
    run.write_job(Job("run", "local", "../../home", time.time(), log=""))
    with pytest.raises(RunFolderError, match="'id' is "):
        run.job()


# Links and other files


def test_a_lock_that_is_a_link_empties_nothing(run: RunFolder, secret: Path) -> None:
    (run.path / "lease.lock").symlink_to(secret)
    (run.path.parents[1] / ".submit.lock").symlink_to(secret)
    with (
        pytest.raises(DamagedFile, match="is a link, and flipscale follows none below a results or plots folder"),
        run.hold(),
    ):
        pass
    with pytest.raises(DamagedFile, match="is a link"), submit_lock(run.path.parents[1]):
        pass
    assert secret.read_text() == SECRET
    own = run.path / "own.lock"
    own.write_text("kept")
    with locked(own):
        assert own.read_text() == "kept"


APPENDS = {
    "log.txt": lambda run, held: run.open_log(),
    "failures.jsonl": lambda run, held: run.note_failure(FailedAttempt(FailureKind.CODE, "reason")),
    "metrics.jsonl": lambda run, held: held.append([{"step": 1}]),
}


@pytest.mark.parametrize("name", APPENDS)
def test_what_is_appended_to_is_no_link(run: RunFolder, secret: Path, name: str) -> None:
    (run.path / name).symlink_to(secret)
    with run.hold() as held, pytest.raises(DamagedFile, match=f"{name}: is a link"):
        APPENDS[name](run, held)
    assert secret.read_text() == SECRET


@pytest.mark.parametrize("kind", ["link", "loop", "pipe", "folder"])
def test_what_is_no_plain_file_is_named_and_not_waited_for(run: RunFolder, secret: Path, kind: str) -> None:
    path = run.path / "result.json"
    if kind == "link":
        path.symlink_to(secret)
    elif kind == "loop":
        path.symlink_to(path)
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    with pytest.raises(RunFolderError, match=r"result\.json: is a"):
        run.result()
    with pytest.raises(DamagedFile, match=r"result\.json: is a"):
        read_bytes(path)
    with pytest.raises(DamagedFile, match=r"result\.json: is a"):
        open_plain(str(path), os.O_WRONLY | os.O_APPEND)


def test_a_run_folder_that_is_a_link_is_refused(tmp_path: Path, run: RunFolder) -> None:
    elsewhere = tmp_path / "elsewhere"
    run.path.rename(elsewhere)
    run.path.symlink_to(elsewhere)
    linked = RunFolder(run.path)
    assert (linked.state(), linked.glance().files) == (State.LOST, frozenset())
    assert "is a link" in linked.glance().problem
    for use in (lambda: linked.ask(RunRequest.of(StandInRun("run"))), lambda: linked.hold().__enter__()):
        with pytest.raises(RunFolderError, match="is a link"):
            use()
    assert [path.name for path in elsewhere.iterdir()] == ["run.json"]


def test_gc_removes_nothing_behind_a_link(tmp_path: Path, run: RunFolder) -> None:
    results, elsewhere = run.path.parents[1], tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("run.json", "result.json"):
        (elsewhere / name).write_bytes((run.path / "run.json").read_bytes())
    (elsewhere / "checkpoint.pt").touch()
    (elsewhere / ".model.pt.1.2.tmp").touch()
    (results / "runs" / "linked").symlink_to(elsewhere)
    done = remove_unneeded(results, [])
    assert [thing.run for thing in done.found] == ["run"]
    assert "linked: is a link" in done.left_alone["linked"]
    assert len(list(elsewhere.iterdir())) == 4
    (results / "runs").rename(tmp_path / "runs")
    (results / "runs").symlink_to(tmp_path / "runs")
    with pytest.raises(RunFolderError, match="runs: is a link"):
        remove_unneeded(results, [])


def test_a_results_file_that_links_to_a_device_is_replaced_and_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "plan.json").symlink_to("/dev/null")
    with replacing(tmp_path / "plan.json") as file:
        file.write(b"{}")
    assert (tmp_path / "plan.json").read_bytes() == b"{}"
    assert not (tmp_path / "plan.json").is_symlink()


IN_A_CONTAINER = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc"]
"""A PID namespace of its own under the same host name, as a container may have."""

HOLDS = """
import sys
from flipscale.run import RunFolder
with RunFolder(sys.argv[1]).hold() as lease:
    print(lease is not None, flush=True)
    sys.stdin.read()
"""


def test_a_lease_of_a_container_with_this_host_name_is_held_and_so_is_ours_in_the_container(run: RunFolder) -> None:
    if subprocess.run([*IN_A_CONTAINER, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this user may make no PID namespace")
    holds = [*IN_A_CONTAINER, sys.executable, "-c", HOLDS, run.path]
    with subprocess.Popen(holds, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as container:
        assert container.stdout is not None
        assert container.stdout.readline() == "True\n"
        assert run.state() is State.RUNNING
        with run.hold() as lease:
            assert lease is None
        container.communicate("")
    with run.hold() as lease:
        assert lease is not None
        done = subprocess.run(holds, input="", capture_output=True, text=True, check=True)
        assert done.stdout == "False\n"


# The report

STUDY = """schema: 1
question: Whose words are these?
base: {model: ViT-w16d1-4, image_size: 28, data: shapes, samples: 640, batch_size: 32, trainer: {command: [PROGRAM]}}
axes: {mask_ratio: [0, 0.5]}
"""


@pytest.fixture
def strangers(tmp_path: Path) -> tuple[Path, Path]:
    """A study of a stranger and its results folder: its runs are lost, its job.json are to be written."""
    place = tmp_path / "strangers"
    place.mkdir()
    program = place / "program.py"
    program.write_text(f"open({str(place / 'ran')!r}, 'w')")
    study = place / "study.yaml"
    study.write_text(STUDY.replace("PROGRAM", f"{sys.executable}, {program}"))
    results = place / "results"
    for one in plan(read_study(study)).runs:
        RunFolder(results / "runs" / one.id).ask(RunRequest.of(one))
    return study, results


def page_of(study: Path, results: Path, plots: Path) -> str:
    read = read_study(study)
    return write_report(read, plan(read), study, results, plots).path.read_text(encoding="utf-8")


def test_report_embeds_no_file_that_job_json_or_a_link_names(strangers: tuple[Path, Path], secret: Path) -> None:
    study, results = strangers
    first, second = sorted((results / "runs").iterdir())
    RunFolder(first).write_job(Job(first.name, "local", "list", 1.0, log=str(secret)))
    RunFolder(second).write_job(Job(second.name, "local", "list", 1.0, log=str(results / "local" / "list" / "0.log")))
    (results / "local" / "list").mkdir(parents=True)
    (results / "local" / "list" / "0.log").symlink_to(secret)
    plots = study.parent / "plots"
    (plots / "study").mkdir(parents=True)
    (plots / "study" / "drawn.svg").symlink_to(secret)
    page = page_of(study, results, plots)
    assert SECRET not in page
    assert base64.b64encode(SECRET.encode()).decode()[:20] not in page
    for one in (first, second):
        (one / "log.txt").symlink_to(secret)
    assert SECRET not in page_of(study, results, plots)


def test_report_shows_the_log_of_a_job_in_the_results_folder(strangers: tuple[Path, Path]) -> None:
    study, results = strangers
    first, second = sorted((results / "runs").iterdir())
    (results / "slurm" / "list").mkdir(parents=True)
    log = results / "slurm" / "list" / "0_0.log"
    log.write_text("what the job said\n")
    for one, where in ((first, str(log)), (second, str(log.parent))):  # A job of this machine names a folder.
        RunFolder(one).write_job(Job(one.name, "local", "list", 1.0, log=where))
    assert "what the job said" in page_of(study, results, study.parent / "plots")


# Nothing is run

AUDITED = """
import sys
seen = []
def note(event, arguments):
    if event in ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "pty.spawn"):
        seen.append((event, [str(word) for word in (arguments[1] if event == "subprocess.Popen" else arguments[:1])]))
    elif event in ("socket.connect", "socket.bind", "socket.sendto", "os.kill", "os.killpg", "urllib.Request"):
        seen.append((event, [str(argument) for argument in arguments]))
from flipscale.cli import main
sys.addaudithook(note)
try:
    main(sys.argv[1:])
except SystemExit as end:
    assert not end.code, end.code
print(repr(seen), file=sys.stderr)
"""

LOOKS = (["git"], ["nvidia-smi", "-L"])
"""Programs of the machine that look at it, by how their command begins: at flipscale's code, and at GPUs."""


def what_ran(command: str, study: Path, results: Path) -> list[tuple[str, list[str]]]:
    """The processes, signals and connections of a command, as Python's audit events tell."""
    arguments = [command, study.name, "--results", str(results)]
    arguments += ["--plots", str(study.parent / "plots")] if command == "report" else []
    done = subprocess.run(
        [sys.executable, "-c", AUDITED, *arguments], cwd=study.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return list(ast.literal_eval(done.stderr.splitlines()[-1]))


@pytest.mark.parametrize("command", ["plan", "status", "report"])
def test_plan_status_and_report_of_a_strangers_folder_run_nothing_of_it(
    command: str, strangers: tuple[Path, Path], bystander: "subprocess.Popen[bytes]"
) -> None:
    study, results = strangers
    local, ray = sorted((results / "runs").iterdir())
    path = workers_json(RunFolder(local), bystander, command=[sys.executable, "-c", "open('ran', 'w')"])
    RunFolder(local).write_job(Job(local.name, "local", path.name, 1.0, log=str(path)))
    lease(RunFolder(local), bystander, birth(bystander.pid))
    (results / "ray" / "list").mkdir(parents=True)
    trials = {"schema": 1, "name": "list", "tasks": [], "address": "http://192.0.2.1:8265", "site": {}, "runs": "/"}
    (results / "ray" / "list" / "submission.json").write_text(json.dumps({**trials, "command": [], "folder": "/"}))
    RunFolder(ray).write_job(Job(ray.name, "ray", "list/0", 1.0, log=""))
    seen = what_ran(command, study, results)
    strange = [
        (event, words)
        for event, words in seen
        if event != "subprocess.Popen" or not any(words[: len(look)] == look for look in LOOKS)
    ]
    assert strange == []
    assert not (study.parent / "ran").exists()
    assert bystander.poll() is None


def test_git_starts_no_program_that_a_repository_names(tmp_path: Path) -> None:
    from flipscale.data.code_changes import work_tree

    ran = tmp_path / "ran"
    place = tmp_path / "repository"
    place.mkdir()
    program = tmp_path / "filter.sh"
    program.write_text(f"#!/bin/sh\ntouch {ran}\ncat\n")
    program.chmod(0o755)

    def git(*words: str) -> None:
        author = ["-c", "user.name=x", "-c", "user.email=x@y"]
        subprocess.run(["git", "-C", place, *author, *words], check=True, capture_output=True)

    git("init", "-q")
    (place / "train.py").write_text("print(1)\n")
    (place / ".gitattributes").write_text("*.py filter=evil\n")
    git("add", ".")
    git("commit", "-qm", "first")
    for name in ("filter.evil.clean", "filter.evil.process", "filter.Evil.Two.clean", "core.fsmonitor"):
        git("config", name, str(program))
    (place / "train.py").write_text("print(2)\n")
    ran.unlink(missing_ok=True)
    tree = work_tree(place)
    assert tree is not None
    assert tree.changes() is not None
    assert tree.source
    assert not ran.exists()


# Checkpoints


def calls(name: str) -> Iterator[tuple[Path, ast.Call]]:
    """The calls of functions of this name in the package."""
    for called, path, call in all_calls():
        if called.endswith(name):
            yield path, call


@functools.cache
def all_calls() -> list[tuple[str, Path, ast.Call]]:
    """What is called, where, and the call: of all calls in the package."""
    return [
        (ast.unparse(node.func), path, node)
        for path in sorted(PACKAGE.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
    ]


def test_every_checkpoint_is_loaded_as_weights_alone() -> None:
    loads = list(calls("torch.load"))
    assert loads
    wrong = [f"{path}:{call.lineno}" for path, call in loads if "weights_only=True" not in ast.unparse(call)]
    assert wrong == []
    for name in (
        "pickle.load",
        "pickle.loads",
        "read_pickle",
        "joblib.load",
        "dill.load",
        "shelve.open",
        "eval",
        "exec",
    ):
        found = [
            f"{path}:{call.lineno}" for path, call in calls(name) if ast.unparse(call.func) in (name, f"pd.{name}")
        ]
        assert found == [], name
    pickles = [
        f"{path}:{call.lineno}"
        for name in ("np.load", "create_model", "load_checkpoint")
        for path, call in calls(name)
        if "allow_pickle=True" in ast.unparse(call) or "weights_only=False" in ast.unparse(call)
    ]
    assert pickles == []


def test_a_checkpoint_that_would_run_code_is_refused_and_runs_none(tmp_path: Path) -> None:
    """open_clip's loader tries twice: the second time as torch does where nothing is said, so torch is 2.6 or newer."""
    import torch

    from flipscale.settings.architecture import architecture
    from flipscale.train.model import load

    ran = tmp_path / "ran"

    class Order:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (ran,)

    torch.save({"state_dict": {"weight": torch.ones(1), "order": Order()}}, tmp_path / "model.pt")
    with pytest.raises(FlipscaleError, match="is not a checkpoint of open_clip"):
        load(None, architecture("ViT-w16d1-4"), tmp_path / "model.pt")  # type: ignore[arg-type]
    assert not ran.exists()


def test_torch_is_one_that_loads_weights_alone_where_nothing_is_said() -> None:
    assert '"torch>=2.6"' in (ROOT / "pyproject.toml").read_text()
