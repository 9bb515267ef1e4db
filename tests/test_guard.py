"""Whoever can write into a results folder leads no write elsewhere, makes nothing wait, and learns no password."""

import ast
import fcntl
import os
import stat
import subprocess
import sys
import threading
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flipscale.cli import main
from flipscale.data.cache import load
from flipscale.data.library import Library
from flipscale.data.pairs import Form
from flipscale.errors import FlipscaleError, RunFolderError
from flipscale.guard import locked
from flipscale.launch import submit_lock
from flipscale.launch.local.launcher import LocalQueue, start_workers
from flipscale.launch.ray.trials import Trials
from flipscale.launch.site import DEFAULTS
from flipscale.launch.slurm.arrays import JobArray
from flipscale.plain_files import file_system_now
from flipscale.run import RunFolder, RunRequest
from flipscale.settings.declarations import Resources
from flipscale.track import other_trackers
from tests.launch.contract import StandInRun
from tests.test_damaged_files import Study as Finished
from tests.test_damaged_files import patience
from tests.test_house import PACKAGE


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a finished study whose results are collected."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FLIPSCALE_RESULTS", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A folder of the user's, which stays empty."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    yield folder
    assert list(folder.iterdir()) == []


# Links in the place of folders


def an_array(home: Path) -> None:
    JobArray("list-0", {0: ("run",)}, Resources(), 1, 1, (), DEFAULTS, "runs", ()).write(home)


def trials(home: Path) -> None:
    Trials("list", (), "http://127.0.0.1:8265", DEFAULTS, "runs", (), "").write(home)


def workers(home: Path) -> None:
    (home / "list").mkdir()
    start_workers(home / "list", LocalQueue("here", ()), (), [("core-0",)])


WRITERS: dict[str, Callable[[Path], object]] = {
    "slurm": lambda results: an_array(results / "slurm"),
    "ray": lambda results: trials(results / "ray"),
    "runs": lambda results: RunFolder(results / "runs" / "run").ask(RunRequest.of(StandInRun("run"))),
    "cache": lambda results: Library(results / "cache"),
    "local/slots": lambda results: workers(results / "local"),
}


@pytest.mark.parametrize("name", WRITERS)
def test_nothing_is_written_through_a_link_in_the_place_of_a_folder_of_results(
    here: Path, elsewhere: Path, name: str
) -> None:
    results = here / "results"
    (results / name).parent.mkdir(parents=True)
    (results / name).symlink_to(elsewhere)
    with pytest.raises(RunFolderError, match=f"{name}: is a link, and flipscale follows none"):
        WRITERS[name](results)


def test_a_results_folder_may_itself_be_a_link(here: Path) -> None:
    (here / "disk").mkdir()
    (here / "results").symlink_to(here / "disk")
    an_array(here / "results/slurm")
    WRITERS["runs"](here / "results")
    with submit_lock(here / "results"):
        pass
    assert (here / "disk/slurm/list/0.json").exists()
    assert (here / "disk/runs/run/run.json").exists()


# MLflow


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning")
@pytest.mark.parametrize("name", ["mlartifacts", "mlartifacts/mask", "mlflow.db"])
def test_mlflow_writes_nothing_through_a_link(
    here: Path, elsewhere: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Finished(here)
    (here / "results" / name).parent.mkdir(exist_ok=True)
    (here / "results" / name).symlink_to(elsewhere / "mlflow.db" if name == "mlflow.db" else elsewhere)
    assert main(["collect", "mask.yaml"]) == 0
    assert "MLflow was not written: " in (said := capsys.readouterr().err)
    assert f"results/{name}: is a link, and flipscale follows none" in said


# Files that are not plain ones


class Tracker(types.ModuleType):
    """A tracker that takes everything, or raises."""

    def __init__(self, error: Exception | None = None):
        super().__init__("wandb")
        self.error = error

    def init(self, **more: object) -> None:
        if self.error:
            raise self.error

    def log(self, *given: object, **more: object) -> None: ...

    def finish(self) -> None: ...


@pytest.mark.parametrize("name", ["results.csv", "curves.parquet", "sent_to_wandb.json"])
def test_no_tracker_waits_for_a_pipe(here: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", Tracker())
    Finished(here)
    assert main(["collect", "mask.yaml", "--no-mlflow"]) == 0
    folder = here / "results/mask"
    other_trackers.send("wandb", "mask", folder / "results.csv", folder / "curves.parquet")
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with patience(), pytest.raises(FlipscaleError, match="is a pipe, where a plain file is expected"):
        other_trackers.send("wandb", "mask", folder / "results.csv", folder / "curves.parquet")


@pytest.mark.parametrize("name", ["vocabulary", "images", "tokens"])
def test_no_training_waits_for_a_pipe_among_decoded_shards(here: Path, name: str) -> None:
    form = Form(image_size=1, text_length=1, tokenize=None)  # type: ignore[arg-type]
    (here / "index.json").write_text('{"pairs": 1, "corrupt": []}')
    for other in ("vocabulary", "images", "tokens"):
        (here / other).write_bytes(bytes(8))
    assert load(here, form) is not None
    (here / name).unlink()
    os.mkfifo(here / name)
    with patience():
        assert load(here, form) is None


def test_an_error_of_a_tracker_is_printed_without_passwords(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    error = RuntimeError("https://me:hunter2@api.wandb.ai/files?api_key=hunter2: refused")
    monkeypatch.setitem(sys.modules, "wandb", Tracker(error))
    Finished(here)
    assert main(["collect", "mask.yaml", "--no-mlflow"]) == 0
    folder = here / "results/mask"
    with pytest.raises(FlipscaleError, match="refused") as raised:
        other_trackers.send("wandb", "mask", folder / "results.csv", folder / "curves.parquet")
    assert "hunter2" not in str(raised.value)


def test_the_clock_of_a_folder_is_asked_without_a_name_that_can_be_foreseen(here: Path) -> None:
    mine = here / "mine"
    mine.write_text("years of work")
    (here / f".{os.getpid()}.{threading.get_ident()}.clock").symlink_to(mine)
    file_system_now(here)
    assert mine.read_text() == "years of work"


def test_tables_are_copied_aside_through_no_link(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = Finished(here)
    assert main(["collect", "mask.yaml", "--no-mlflow"]) == 0
    (here / "results/mask/results.without_runs.csv").symlink_to(here / "mine")
    for run in study.folders[:1]:
        subprocess.run(["rm", "-r", run.path], check=True)
    (here / "mask.yaml").write_text((here / "mask.yaml").read_text().replace("seeds: 2", "seeds: [1]"))
    assert main(["collect", "mask.yaml", "--no-mlflow"]) == 0
    assert not (here / "mine").exists()
    assert (here / "results/mask/results.without_runs.csv").is_symlink() is False


# Locks


def test_a_lock_is_of_its_owner_alone_and_whoever_waits_for_it_says_so(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("flipscale.guard.WORD_SECONDS", 0.05)
    with submit_lock(here / "results"):
        pass
    lock = here / "results/.submit.lock"
    assert stat.S_IMODE(lock.stat().st_mode) == 0o600
    held = os.open(lock, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    said = threading.Event()
    monkeypatch.setattr("builtins.print", lambda *words, **more: said.set())
    waits = threading.Thread(target=lambda: locked(lock).__enter__())
    waits.start()
    assert said.wait(60)
    os.close(held)
    waits.join()


# The rule


METHODS = {"open", "read_text", "read_bytes", "write_text", "write_bytes", "mkdir", "makedirs", "touch", "symlink_to"}
METHODS |= {"fromfile", "memmap", "copyfile", "copy2", "copytree", "read_csv", "read_parquet", "read_table"}

OPENED = ("file", "output", "unpacked", "packed", "io.BytesIO(sample['npy'])")
"""What a reader is given that somebody has opened already."""

NOT_BELOW_RESULTS = {
    "settings/architecture.py": "configurations of the package open_clip",
    "cli/entry.py": "/dev/null",
    "cli/next_runs.py": "a file that a person has typed",
    "cli/studies.py": "a file that a person has typed, and one of this package",
    "cli/tables.py": "a file that a person has typed",
    "data/code_changes.py": "the code that trains",
    "data/idx.py": "a data set",
    "data/shards.py": "a data set",
    "data/weights.py": "weights that a study names",
    "launch/ray/driver.py": "a file of Ray's",
    "workflow/reported.py": "the study file",
    "analysis/reporting/page.py": "a file of this package",
    "run/processes.py": "/proc",
    "run/timings.py": "/proc",
    "storage/archive.py": "a file that a person has typed",
    "study/changes.py": "a file beside the study's",
    "train/machine.py": "/proc",
    "workflow/fitted.py": "a file that a person has typed",
}

LOOKED_AT_BEFORE = {
    "collecting/points.py": "open_plain has opened it",
    "door/tables.py": "open_plain has opened it",
    "data/library.py": "a data set, or in a folder that was checked when the library was made",
    "guard.py": "the guard",
    "plain_files.py": "the guard",
    "train/model.py": "weights, which may be a link",
    "train/trainers/builtin/training.py": "open_plain has opened it",
    "train/trainers/open_clip/program.py": "open_plain has opened it",
    "train/trainers/open_clip/training_shards.py": "in a folder that it has just made",
}


def opens_by_itself(call: ast.Call) -> bool:
    """Whether it opens or makes what a path names, past guard.py and plain_files.py."""
    name, given = ast.unparse(call.func), [ast.unparse(word) for word in call.args]
    if name == "open":
        return "opener=open_plain" not in map(ast.unparse, call.keywords)
    if name.endswith("library.open") or (given[:1] and given[0].startswith(OPENED)):
        return False
    is_reader = name in ("np.load", "torch.load", "shutil.copy", "load_checkpoint")
    return is_reader or (isinstance(call.func, ast.Attribute) and call.func.attr in METHODS)


def test_everything_below_a_results_folder_passes_the_guard() -> None:
    found = {
        str(path.relative_to(PACKAGE)): f"{path}:{node.lineno}: {ast.unparse(node)}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and opens_by_itself(node)
    }
    allowed = NOT_BELOW_RESULTS | LOOKED_AT_BEFORE
    assert [where for module, where in found.items() if module not in allowed] == []
    assert sorted(set(allowed) - set(found)) == []
