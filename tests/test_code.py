"""Which code trained a run: the same code is the same wherever it lies, and what is not known is not a difference."""

import ast
import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import flipscale
import flipscale.data.code_changes as code_module
from flipscale.data.code_changes import TRAINING, CodeToday, code_changes, content_of, source_of, work_tree
from flipscale.data.command import named_files
from flipscale.errors import RunFolderError
from flipscale.planning.runs import Run
from flipscale.run import CodeIdentity, FileContent, Result, RunFolder
from flipscale.settings.declarations import Resources
from tests.asked import settings_of
from tests.launch.contract import NO_COST

PACKAGE = Path(flipscale.__file__).parent


def git(folder: Path, *arguments: str) -> str:
    """Run git there as somebody, whatever this machine's configuration."""
    who = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "protocol.file.allow=always")
    done = subprocess.run(["git", "-C", folder, *who, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository of a training script and a module, all committed."""
    folder = tmp_path / "project"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    (folder / "train.py").write_text("import model\n")
    (folder / "model.py").write_text("width = 64\n")
    (folder / "README.md").write_text("notes\n")
    (folder / ".gitignore").write_text("results/\nignored.py\n")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "first")
    return folder


def source(folder: Path) -> str:
    tree = work_tree(folder)
    assert tree is not None
    return tree.source


def changes(folder: Path) -> str | None:
    tree = work_tree(folder)
    assert tree is not None
    return tree.changes()


# What git says


def test_an_edited_a_new_and_a_deleted_source_file_make_other_code(repository: Path) -> None:
    clean = source(repository)
    assert changes(repository) is None
    (repository / "model.py").write_text("width = 65\n")
    edited = source(repository)
    assert len({clean, edited}) == 2
    assert changes(repository) is not None
    (repository / "layers.py").write_text("")
    added = source(repository)
    assert len({clean, edited, added}) == 3
    (repository / "train.py").unlink()
    assert len({clean, edited, added, source(repository)}) == 4


def test_notes_results_ignored_files_and_committing_a_change_make_no_other_code(repository: Path) -> None:
    (repository / "model.py").write_text("width = 65\n")
    edited = source(repository)
    (repository / "README.md").write_text("more notes\n")
    (repository / "study.yaml").write_text("schema: 1\n")
    (repository / "ignored.py").write_text("x\n")
    (repository / "results").mkdir()
    (repository / "results" / "made.py").write_text("x\n")
    assert source(repository) == edited
    git(repository, "add", "model.py")
    assert source(repository) == edited
    assert changes(repository) is not None  # staged is not committed
    git(repository, "commit", "-qm", "second")
    assert source(repository) == edited
    assert changes(repository) is None
    (repository / "README.md").write_text("yet more\n")
    assert changes(repository) is None
    os.utime(repository / "model.py")
    assert source(repository) == edited


def test_another_clone_and_a_detached_work_tree_have_the_same_code(repository: Path, tmp_path: Path) -> None:
    (repository / "model.py").write_text("width = 65\n")
    git(repository, "commit", "-qam", "second")
    git(tmp_path, "clone", "-q", str(repository), str(tmp_path / "clone"))
    git(repository, "worktree", "add", "-q", "--detach", str(tmp_path / "beside"))
    assert len({source(repository), source(tmp_path / "clone"), source(tmp_path / "beside")}) == 1
    beside = work_tree(tmp_path / "beside")
    assert beside is not None
    assert beside.commit == git(repository, "rev-parse", "HEAD")


def test_a_repository_without_a_commit_has_source_and_no_commit(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "train.py").write_text("x\n")
    tree = work_tree(tmp_path)
    assert tree is not None
    assert tree.commit is None
    assert tree.source_files == {b"train.py"}


def test_where_git_refuses_is_slow_or_is_not_there_nothing_is_known(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert work_tree(tmp_path / "no such folder") is None
    with monkeypatch.context() as patched:
        # git's own tests pretend so that the repository is somebody else's, as one that a container mounts.
        patched.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
        assert work_tree(repository) is None
    with monkeypatch.context() as patched:
        patched.setattr(code_module, "GIT_SECONDS", 1e-6)
        assert work_tree(repository) is None
    with monkeypatch.context() as patched:
        patched.setenv("PATH", str(tmp_path))
        assert work_tree(repository) is None
    assert work_tree(repository) is not None


def test_asking_git_leaves_the_repository_as_it_was(repository: Path) -> None:
    os.utime(repository / "model.py", (1, 1))  # so that a plain `git status` would refresh the index
    index = (repository / ".git" / "index").read_bytes()
    source(repository)
    assert (repository / ".git" / "index").read_bytes() == index


# Flipscale's own source


def test_the_source_of_flipscale_is_what_trains(tmp_path: Path) -> None:
    copy = tmp_path / "flipscale"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    before = source_of(PACKAGE)
    assert source_of(copy) == before  # without git, from another folder
    (copy / "cli" / "why.py").write_text("")
    (copy / "train" / "__pycache__").mkdir()
    (copy / "train" / "__pycache__" / "mask.pyc").write_text("")
    assert source_of(copy) == before
    (copy / "train" / "mask.py").write_text("")
    assert source_of(copy) != before
    shutil.rmtree(copy)
    assert source_of(copy) is None


CHANGES_NO_RESULT = {
    "door",
    "errors",
    "guard",
    "run",
    "study",
    "words",
    "workspace",
    "cell",
    "plain_files",
    "planning",
    "kinds",
    "launch",
}
"""Rooms that training imports and that only read, write, wait and speak: settings are complete in run.json."""


def test_every_room_that_training_imports_is_source_or_said_to_change_no_result() -> None:
    imported = set()
    for part in TRAINING:
        path = PACKAGE / part
        for file in path.rglob("*.py") if part.endswith("/") else [path]:
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("flipscale."):
                    imported.add("/".join(str(node.module).split(".")[1:]) + "/")
    source = tuple(part.removesuffix(".py").rstrip("/") + "/" for part in TRAINING)
    assert {module for module in imported if not module.startswith(source)} <= {
        module for module in imported if module.split("/")[0] in CHANGES_NO_RESULT
    }


def test_a_package_in_somebodys_repository_is_not_of_that_repository(repository: Path) -> None:
    inside = repository / ".venv" / "lib" / "flipscale"
    inside.mkdir(parents=True)
    (inside / "__init__.py").write_text("")
    tree = work_tree(inside)
    assert tree is not None
    assert not tree.tracks(inside / "__init__.py")
    assert tree.tracks(repository / "train.py")


# Files


def test_what_cannot_be_read_is_missing_and_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 100)
    assert content_of(tmp_path / "file") == FileContent(100, hashlib.sha256(b"x" * 100).hexdigest())
    assert content_of(tmp_path / "none") is None
    assert content_of(tmp_path) is None
    assert content_of(tmp_path / "file", most=10) == FileContent(100)


def test_the_files_of_a_command_are_its_script_and_files_that_it_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("train.py", "conf.yaml", "run.sh", "python"):
        (tmp_path / name).write_text("")
    assert named_files(["python", "-u", "train.py", "--conf=conf.yaml", "--x=y", "{folder}"]) == [
        "train.py",
        "conf.yaml",
    ]
    assert named_files(["torchrun", "--nproc", "2", "train.py"]) == ["train.py"]
    assert named_files(["./run.sh"]) == ["./run.sh"]
    assert named_files([sys.executable, "-m", "train"]) == []
    assert named_files(["bash", "x" * 5000, "a\0b"]) == []


# Differences

CODE = CodeIdentity(source="a" * 64, commit="c" * 40, versions={"torch": "2.8", "flipscale": "0.1"})


def test_what_is_not_known_on_one_side_is_no_difference() -> None:
    assert CodeIdentity().differences(CODE) == []
    assert CODE.differences(CodeIdentity()) == []
    with_file = replace(CODE, files={"train.py": FileContent(3, "x")})
    assert with_file.differences(CODE) == []
    assert with_file.differences(replace(CODE, files={"train.py": FileContent(3)})) == []


def test_differences_say_what_was_and_what_is() -> None:
    today = CodeIdentity(
        source="b" * 64, commit="d" * 40, changes="e" * 64, versions={"torch": "2.9", "flipscale": "0.2"}
    )
    assert CODE.differences(today) == [
        "flipscale at commit cccccccccc (today at commit dddddddddd with uncommitted changes (eeeeee))",
        "torch 2.8 (today 2.9)",
    ]
    without_source = replace(CODE, source=None, commit=None)
    assert without_source.differences(today) == ["torch 2.8 (today 2.9)", "flipscale 0.1 (today 0.2)"]
    before = replace(CODE, files={"train.py": FileContent(1203, "x"), "init": FileContent(10, "x")})
    now = replace(CODE, files={"train.py": FileContent(1310, "y"), "init": FileContent(10, "y")})
    assert before.differences(now) == [
        "train.py with other content (1,203 bytes, today 1,310)",
        "init with other content (of the same size)",
    ]


def test_another_commit_with_the_same_source_is_the_same_code() -> None:
    other = replace(CODE, commit="d" * 40, changes="e" * 64)
    assert CODE.differences(other) == []


# Runs


def run_of(name: str, **settings: object) -> Run:
    return Run(name, settings_of(**settings), (), NO_COST, None, Resources())


def finish(results: Path, run: Run, *codes: CodeIdentity) -> None:
    folder = RunFolder(results / "runs" / run.id)
    with folder.hold() as lease:
        assert lease is not None
        for code in codes:
            lease.note_code(code)
            (folder.path / "checkpoint.pt").touch()  # The next code goes on from it.
        lease.write_result(Result())


def test_what_a_run_wrote_down_is_read_again(tmp_path: Path) -> None:
    code = replace(CODE, files={"train.py": FileContent(3, "x"), "big": FileContent(4)}, changes="d" * 64)
    run, folder = run_of("a"), RunFolder(tmp_path / "runs" / "a")
    finish(tmp_path, run, CodeIdentity(), CodeIdentity(), code, code, CODE)
    assert folder.codes() == [CodeIdentity(), code, CODE]
    (folder.path / "code.json").write_text('{"codes": [{"source": 1}]}')
    with pytest.raises(RunFolderError, match=r"code.json: .* Delete it"):
        folder.codes()
    finish(tmp_path, run, CODE)  # which it does not keep from training
    assert folder.codes() == [CODE]


@pytest.mark.parametrize(
    ("left", "codes"),
    [
        ({}, [CODE]),
        ({"metrics.jsonl": "", "log.txt": "", "failures.jsonl": "", "earlier/model.pt": ""}, [CODE]),
        ({"checkpoint.pt": ""}, [CodeIdentity(), CODE]),
        ({"model.pt": ""}, [CodeIdentity(), CODE]),
        ({"state_of_my_program": ""}, [CodeIdentity(), CODE]),
    ],
)
def test_the_code_of_an_attempt_counts_only_if_the_next_can_go_on_from_it(
    tmp_path: Path, left: dict[str, str], codes: list[CodeIdentity]
) -> None:
    """A bug that ends a run at its first step, and is corrected, has no part in the result."""
    folder = RunFolder(tmp_path / "runs" / "a")
    for code in (CodeIdentity(), CODE):
        with folder.hold() as lease:
            assert lease is not None
            lease.note_code(code)
        for name, text in left.items():
            (folder.path / name).parent.mkdir(exist_ok=True)
            (folder.path / name).write_text(text)
    assert folder.codes() == codes


def test_runs_of_older_versions_resumed_runs_and_unreadable_files_are_counted(tmp_path: Path) -> None:
    runs = [run_of(name) for name in ("old", "same", "mixed", "torn", "planned")]
    old, same, mixed, torn, _ = runs
    now = CodeToday().of(same.settings)
    finish(tmp_path, old)
    finish(tmp_path, same, now)
    finish(tmp_path, mixed, replace(now, source="0" * 64), now)
    finish(tmp_path, torn, replace(now, source="1" * 64))
    (tmp_path / "runs" / "torn" / "code.json").write_text("{")
    found = code_changes(runs, tmp_path)
    assert (found.finished, found.unrecorded, found.mixed) == (4, ("old", "torn"), ("mixed",))
    assert list(found.differing) == ["mixed"]
    said = found.sentences()
    assert said[0].startswith("1 of 4 finished runs was trained by other code: flipscale at ")
    assert said[1:] == [
        "1 of 4 finished runs was resumed with other code than it began with.",
        "2 of 4 finished runs have no record of the code.",
    ]


def test_the_code_of_a_command_is_its_repository_and_the_weights_to_start_from(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    weights = tmp_path / "weights.pt"
    weights.write_bytes(b"weights")
    settings = settings_of(
        trainer={"command": {"arguments": ["python", "project/train.py"]}}, init={"path": str(weights)}
    )
    today = CodeToday()
    code = today.of(settings)
    assert code.project == "project"
    assert code.commit == git(repository, "rev-parse", "HEAD")
    assert "flipscale" not in code.versions
    assert {name: content.size for name, content in code.files.items()} == {"train.py": 13, "init": 7}
    assert today.of(settings) is code
    weights.write_bytes(b"WEIGHTS")
    later = CodeToday().of(settings)
    assert code.differences(later) == ["init with other content (of the same size)"]
    git(repository, "config", "core.fsmonitor", "touch started; false")
    assert CodeToday().of(settings).source == code.source
    assert not (repository / "started").exists()  # No program that a repository names is started.
    elsewhere = settings_of(trainer={"command": {"arguments": ["/usr/bin/env", "true"]}})
    assert CodeToday().of(elsewhere).source is None  # the working folder is in no repository
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert CodeToday().of(elsewhere).source is None
