"""A stranger's files show no file of the user's, run no code, take no credentials, and write nothing elsewhere."""

import ast
import ctypes
import http.server
import io
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import tarfile
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pandas as pd
import pytest

from flipscale.cli import main
from flipscale.data import captions
from flipscale.data.pairs import Form, Scoring
from flipscale.errors import DataError
from flipscale.launch.launcher import TRAIN
from flipscale.planning.runs import plan
from flipscale.run import RunFolder, State
from flipscale.settings.declarations import CaptionSet, plain
from flipscale.storage import remove_unneeded
from flipscale.storage.archive import open_archive
from flipscale.study import read_study
from flipscale.track.address import may_hold
from tests.commands import flipscale
from tests.test_damaged_files import Study as Finished
from tests.test_house import PACKAGE

SECRET = "hunter2"

STUDY = "schema: 1\nbase: {data: shapes, model: ViT-w16d1-4, samples: 64, batch_size: 32}\n"

PRIVATE = {
    "a password file": f"machine example.org login me password {SECRET}\n",
    "a private key": f"-----BEGIN KEY-----\n{SECRET}\n-----END KEY-----\n",
    "a file of credentials": f"[default]\naws_secret_access_key = {SECRET}\n",
    "an alias": f"*{SECRET}\n",
    "a tag": f"!{SECRET}!x\n",
    "a list": f"- {SECRET}\n",
    "YAML that is no study": f"{SECRET}: {{token: {SECRET}}}\n",
    "YAML with a date": f"github.com:\n  {SECRET}: 2001-01-01\n  {SECRET}: !x y\n",
    "control characters": f'"{SECRET}\\e": 1\n',
}
"""Files of the user's that are no studies."""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a study in it, which is the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FLIPSCALE_RESULTS", raising=False)
    (tmp_path / "study.yaml").write_text(STUDY)
    return tmp_path


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """All that a command prints."""

    def said(*words: str) -> str:
        main(words)
        return "".join(capsys.readouterr())

    return said


# Files of the user's


@pytest.mark.parametrize("private", PRIVATE)
def test_a_note_in_a_results_folder_opens_no_file_elsewhere(
    here: Path, said: Callable[..., str], private: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "private").write_text(PRIVATE[private])
    said("plan", "study.yaml")
    (here / "results/study/.study").write_text("../../private\n")
    opened = audited("open")
    for words in (
        ("gc",),
        ("gc", "study.yaml"),
        ("plan", "study.yaml"),
        ("collect", "study.yaml"),
        ("status", "--spent"),
    ):
        assert SECRET not in said(*words), words
    assert not [path for path in opened if path.endswith("private")]


@pytest.mark.parametrize("private", PRIVATE)
def test_a_study_that_includes_what_is_no_study_quotes_nothing_of_it(
    here: Path, said: Callable[..., str], private: str
) -> None:
    (here / "private").write_text(PRIVATE[private])
    (here / "study.yaml").write_text(f"include: private\n{STUDY}")
    assert "private" in (text := said("plan", "study.yaml"))
    assert SECRET not in text


_SEEN: dict[str, list[str]] = {}


def audited(event: str) -> list[str]:
    """The first arguments of all events of that name from now on."""
    if not _SEEN:
        sys.addaudithook(lambda name, arguments: _SEEN[name].append(str(arguments[0])) if name in _SEEN else None)
    _SEEN[event] = []
    return _SEEN[event]


# The shell


@pytest.mark.parametrize("name", ["$(touch ran)", "`touch ran`", "a;touch ran", "ViT-1'$(touch ran)"])
@pytest.mark.parametrize("typed", ["", "ViT", "$"])
def test_tab_runs_no_name_of_a_run_folder_and_offers_none_to_run(
    here: Path, capsys: pytest.CaptureFixture[str], name: str, typed: str
) -> None:
    for folder in (name, "ViT-1"):
        (here / "results/runs" / folder).mkdir(parents=True)
    with pytest.raises(SystemExit):
        main(["--completion", "bash"])
    script = capsys.readouterr().out + (
        f"COMP_WORDS=(flipscale logs '{typed}'); COMP_CWORD=2; _shtab_flipscale; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    )
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ([] if typed == "$" else ["ViT-1"])
    assert not (here / "ran").exists()


# Modules beside a study


@pytest.mark.parametrize("module", ["flipscale", "flipscale.launch.local.task", "flipscale.launch.slurm.task"])
def test_a_worker_imports_nothing_of_the_working_folder(here: Path, module: str) -> None:
    for name in ("json.py", "yaml.py"):
        (here / name).write_text("open('ran', 'w')")
    flags = [*TRAIN[1 : TRAIN.index("-m")], "-m", module, "train", "results/runs/none"]
    subprocess.run([sys.executable, *flags], capture_output=True, check=False)
    assert not (here / "ran").exists()


def test_every_process_that_flipscale_starts_leaves_the_working_folder_out_of_its_path() -> None:
    lists = [
        ast.unparse(node)
        for path in sorted(PACKAGE.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.List | ast.Tuple) and {"'-m'", "'-c'"} & set(map(ast.unparse, node.elts))
    ]
    ours = [words for words in lists if "sys.executable" in words or "self.python" in words]
    assert len(ours) == 6
    assert [words for words in ours if "'-P'" not in words and "'-I'" not in words] == []


# Files that steer a run


@pytest.mark.slow
@pytest.mark.parametrize("name", ["scoring.json", "probe.json"])
def test_submit_drops_the_job_files_that_a_stranger_planted_in_the_folder_of_a_run(here: Path, name: str) -> None:
    (here / "study.yaml").write_text(STUDY + "evaluation: {images: 20}\n")
    (run,) = plan(read_study(here / "study.yaml")).runs
    planted = here / "results/runs" / run.id / name
    planted.parent.mkdir(parents=True)
    program = {"command": {"arguments": ["sh", "-c", "touch ran"], "scores": {"x": "higher"}}}
    shards = {"webdataset": {"urls": "pipe:touch ran", "name": "x"}}
    content = {
        "scoring.json": {"evaluation": {"sets": {"mine": program}}, "resources": {}},
        "probe.json": {
            "study": "x",
            "site": "local",
            "shapes": [plain(run.settings) | {"data": shards, "evaluation": {"data": "shapes"}}],
            "evaluations": [],
        },
    }
    planted.write_text(json.dumps({"schema": 1, **content[name]}))
    flipscale("submit", "study.yaml", "--no-check", cwd=here)
    assert not (here / "ran").exists()
    assert RunFolder(planted.parent).is_finished()
    assert not planted.exists()


# MLflow


@pytest.fixture
def heard() -> Iterator[tuple[str, list[str]]]:
    """A stranger's address, and the tokens that it was sent."""
    tokens: list[str] = []

    class Listener(http.server.BaseHTTPRequestHandler):
        def answer(self) -> None:
            tokens.append(self.headers.get("Authorization", ""))
            self.send_error(403)

        do_GET = do_PUT = do_POST = answer  # noqa: N815  http.server calls them so

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Listener) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/artifacts", tokens
        server.shutdown()
        thread.join()


def stored(uri: str, question: str) -> str:
    with closing(sqlite3.connect(uri)) as database:
        (found,) = database.execute(question).fetchone()
        return str(found)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning")
def test_a_database_of_mlflow_takes_no_token_and_no_file_elsewhere(
    here: Path, heard: tuple[str, list[str]], said: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    address, tokens = heard
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", SECRET)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for folder in Finished(here).folders:
        (folder.path / "model.pt").touch()
    database = here / "results/mlflow.db"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        MlflowClient(f"sqlite:///{database}").create_experiment("mask", artifact_location=address)
    text = said("collect", "mask.yaml")
    assert f"MLflow got no artifacts: it keeps them at {address}/" in text
    assert "runs new" in text
    root = here / "results/mlartifacts"
    (root / "s?").mkdir(parents=True)
    for outside in (f"file://{here}/outside", f"file://{root}/../../outside", f"{root}/s?/../../../outside"):
        with closing(sqlite3.connect(database)) as edited, edited:
            edited.execute("UPDATE runs SET artifact_uri = ?", [outside])
            edited.execute("UPDATE logged_models SET artifact_location = ?", [outside])
        text = said("collect", "mask.yaml", "--log-models", "--check-mlflow")
        assert f"MLflow got no artifacts: it keeps them at {outside}" in text
    assert not (here / "outside").exists()
    assert tokens == []


@pytest.mark.parametrize(
    ("location", "tracking_uri", "may"),
    [
        ("file:///r/mlartifacts/mask/1/artifacts", "sqlite:////r/mlflow.db", True),
        ("file:///r/mlartifacts/mask/1/artifacts", "postgresql://me@db/x", True),
        ("file:///r/mlartifacts/mask/2/artifacts", "sqlite:////r/mlflow.db", False),
        ("/r/mlartifacts/mask/1/artifacts?/../../../x", "sqlite:////r/mlflow.db", False),
        ("s3://bucket/mask", "sqlite:////r/mlflow.db", False),
        ("http://example.org/x", "sqlite:////r/mlflow.db", False),
        ("mlflow-artifacts:/1/x", "https://me:pw@mlflow.example.org", True),
        ("s3://bucket/mask", "https://mlflow.example.org", True),
        ("https://mlflow.example.org/api", "https://me:pw@mlflow.example.org", True),
        ("https://example.org/api", "https://mlflow.example.org", False),
        ("mlflow-artifacts://example.org/1", "https://mlflow.example.org", False),
        ("http://[", "https://mlflow.example.org", False),
        ("HTTPS://example.org/api", "https://mlflow.example.org", False),
        (" https://example.org/api", "https://mlflow.example.org", False),
        ("https://mlflow.example.org.evil/api", "https://mlflow.example.org", False),
    ],
)
def test_artifacts_go_to_the_server_that_was_given_or_into_their_folder(
    location: str, tracking_uri: str, may: bool
) -> None:
    assert may_hold(location, tracking_uri, Path("/r/mlartifacts/mask/1/artifacts")) is may


KILLED_AS_TABLES_ARE_MADE = """
import os, signal, sys
from sqlalchemy import Engine, event

@event.listens_for(Engine, "before_cursor_execute")
def kill(connection, cursor, statement, *rest):
    if "_alembic_tmp_experiments" in statement and "INSERT" in statement:
        os.kill(os.getpid(), signal.SIGKILL)

from flipscale.cli import main
from flipscale.data import captions
from flipscale.data.pairs import Form, Scoring
from flipscale.errors import DataError
main(["collect", "mask.yaml"])
"""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning")
def test_a_collect_that_was_killed_as_it_made_mlflows_tables_leaves_none_to_stumble_over(
    here: Path, said: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    Finished(here)
    killed = subprocess.run([sys.executable, "-c", KILLED_AS_TABLES_ARE_MADE], capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert "runs new" in said("collect", "mask.yaml")
    assert stored(str(here / "results/mlflow.db"), "SELECT count(*) FROM experiments WHERE name = 'mask'") == "1"
    assert not list((here / "results").glob(".mlflow.db*"))


# Archives


def archive(path: Path, listed: object, *members: tuple[str, int, bytes]) -> Path:
    """An archive with this list of runs, and members of zeros: the name, bytes and type of each."""
    text = json.dumps({"schema": 1, "study": "x", "runs": listed}).encode()
    with tarfile.open(path, "w:bz2") as tar:
        for name, content, kind in [
            ("archive.json", text, tarfile.REGTYPE),
            *((n, bytes(z), k) for n, z, k in members),
        ]:
            found = tarfile.TarInfo(name)
            found.size, found.type = len(content), kind
            tar.addfile(found, io.BytesIO(content))
    return path


LISTED = [{"id": "r", "files": {"run.json": [2, "x"]}}]

TOO_LARGE = {
    "a listed file": ([{"id": "r", "files": {"run.json": [3_000_000, "x"]}}], [], "run.json is not of 0 to 2,000,000"),
    "a size of 400 digits": ([{"id": "r", "files": {"run.json": [10**400, "x"]}}], [], "run.json is not of 0 to"),
    "a size that is infinite": (
        [{"id": "r", "files": {"run.json": [float("inf"), "x"]}}],
        [],
        "list of runs cannot be",
    ),
    "a header": (LISTED, [("x", 3_000_000, tarfile.XHDTYPE)], "a header of 3,"),
    "a long name": (LISTED, [("x", 3_000_000, tarfile.GNUTYPE_LONGNAME)], "a header of 3,"),
    "members that are not listed": (LISTED, [("x", 1_500_000, tarfile.REGTYPE)] * 4, "unpacks to more than 5,"),
}


@pytest.mark.parametrize("what", TOO_LARGE)
def test_merge_reads_no_more_of_an_archive_than_is_stated(
    here: Path, said: Callable[..., str], what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flipscale.storage.archive.LARGEST_FILE", 2_000_000)
    monkeypatch.setattr("flipscale.storage.archive.LARGEST_ARCHIVE", 5_000_000)
    listed, members, right = TOO_LARGE[what]
    path = archive(here / "runs.tar.bz2", listed, *members)
    assert path.stat().st_size < 10_000
    assert right in said("merge", str(path))


def test_members_that_are_not_listed_are_not_kept_in_memory(here: Path) -> None:
    path = archive(here / "runs.tar.bz2", LISTED, *[(str(number), 0, tarfile.REGTYPE) for number in range(100)])
    with open_archive(path) as reader:
        assert list(reader.members()) == []
        assert reader.tar.getmembers() == []


# Files of others in a results folder


def test_gc_removes_no_folder_and_no_file_that_flipscale_did_not_write(here: Path, said: Callable[..., str]) -> None:
    study = Finished(here)
    said("plan", "mask.yaml")
    mine, asked, run = here / "results/runs/notes", study.folders[0].path, study.folders[1].path
    mine.mkdir()
    (mine / "thesis.tex").write_text("years of work")
    (run / "notes").mkdir()
    for path in (run / "notes/checkpoint.pt", asked / "notes.pt"):
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    (here / "study.yaml").write_text(STUDY)
    text = said("gc", "study.yaml", "--only", "--remove")
    assert "notes is left alone: results/runs/notes: has no run.json of this run, so flipscale did not make it" in text
    assert f"{run.name}/notes/checkpoint.pt: was not written by flipscale" in text
    assert (mine / "thesis.tex").exists()
    assert (run / "notes/checkpoint.pt").exists()
    assert (asked / "notes.pt").exists()
    assert not study.folders[2].path.exists()


def test_gc_lists_what_it_removes_before_it_removes_any(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = Finished(here)
    seen: list[int] = []
    done = remove_unneeded(
        study.results, [], lambda listed: seen.append(sum(thing.path.exists() for thing in listed.found))
    )
    assert seen == [len(done.found)]
    assert not any(thing.path.exists() for thing in done.found)


@pytest.mark.parametrize("verb", ["plot", "report"])
def test_figures_and_the_page_are_not_written_through_a_link(here: Path, said: Callable[..., str], verb: str) -> None:
    Finished(here)
    said("collect", "mask.yaml", "--no-mlflow")
    (here / "elsewhere").mkdir()
    (here / "plots").mkdir()
    (here / "plots/mask").symlink_to(here / "elsewhere")
    assert "plots/mask: is a link, and flipscale follows none below a results or plots folder" in said(
        verb, "mask.yaml"
    )
    assert list((here / "elsewhere").iterdir()) == []


def test_temporary_files_of_killed_attempts_go_with_the_next_attempt(here: Path) -> None:
    run = Finished(here).folders[3]
    for name in ("checkpoint.pt", "model.pt", "result.json", "run.json"):
        (run.path / f".{name}.12.34.tmp").write_bytes(b"half")
    (run.path / ".mine.tmp").touch()
    with run.hold() as lease:
        assert lease is not None
        left = sorted(path.name for path in run.path.iterdir() if path.suffix == ".tmp")
    assert left == [".mine.tmp", ".run.json.12.34.tmp"], "submit may be writing run.json"


def test_an_empty_result_is_unreadable_for_every_verb(here: Path, said: Callable[..., str]) -> None:
    run = Finished(here).folders[0]
    said("plan", "mask.yaml")
    (run.path / "result.json").write_bytes(b"")
    (run.path / "checkpoint.pt").write_bytes(b"needed once it is deleted")
    archived = "archive", "mask.yaml", "mask.tar.bz2"
    for words in (
        ("status", "mask.yaml"), ("submit", "mask.yaml", "--dry-run"), ("collect", "mask.yaml", "--no-mlflow"),
        ("status", "--spent"), archived, ("gc", "--remove"), ("train", str(run.path)),
    ):  # fmt: skip
        assert f"{run.id}/result.json: not JSON" in said(*words), words
    assert (run.path / "checkpoint.pt").exists()
    assert run.state() is State.LOST


# What ended in a traceback


SHARDS = STUDY.replace("data: shapes", "data: {webdataset: {urls: 's-{0..1}.tar', name: x}}")

SENTENCES = {
    "the name of an internal folder": ("runs.yaml", STUDY, "a study is named after its file; rename it"),
    "the name of an internal file": ("timings.json.yaml", STUDY, "a study is named after its file; rename it"),
    "the name of the database": ("mlflow.db.yaml", STUDY, "a study is named after its file; rename it"),
    "an include that is NUL": ("study.yaml", STUDY + 'include: "\\0"\n', "there is no file"),
    "an include that is a link loop": ("study.yaml", STUDY + "include: loop.yaml\n", "there is no file 'loop.yaml'"),
    "no speed": ("study.yaml", STUDY + "resources: {flops_per_second: 1e-300}\n", "is out of range"),
    "a shard that is a link loop": ("study.yaml", SHARDS + "evaluation: {data: shapes}\n", "s-0.tar: there is no such"),
}
"""A study file that cannot be, and what is said of it beside two links that lead to themselves."""


@pytest.mark.parametrize(("name", "text", "right"), SENTENCES.values(), ids=SENTENCES)
def test_a_study_that_cannot_be_is_a_sentence(
    here: Path, said: Callable[..., str], name: str, text: str, right: str
) -> None:
    for loop in ("loop.yaml", "s-0.tar"):
        (here / loop).symlink_to(loop)
    (here / name).write_text(text)
    assert right in said("plan", name, "--check")
    assert not (here / "results" / Path(name).stem).is_dir() or name == "study.yaml"


@pytest.mark.parametrize("verb", [("fit",), ("compare", "--baseline", "a=1")])
@pytest.mark.parametrize("cell", [[1], {"a": 1}, 10**400])
def test_a_cell_that_holds_no_value_is_a_sentence(
    here: Path, said: Callable[..., str], verb: tuple[str, ...], cell: object
) -> None:
    path = here / "table.parquet"
    if isinstance(cell, int):
        path = here / "table.csv"
        path.write_text(f"a,b\n1,{cell}\n2,3\n")
    else:
        pd.DataFrame({"a": [1, 2], "b": [cell, cell]}).to_parquet(path)
    text = said(verb[0], path.name, *verb[1:], "--x", "a", "--y", "b")
    assert "is neither a text nor a number of 64 bits; leave its column out" in text


@pytest.mark.parametrize("resources", ["x", [], 7])
@pytest.mark.parametrize("words", ["submit study.yaml --dry-run", "gc study.yaml", "collect study.yaml"])
def test_resources_that_are_none_are_a_sentence(
    here: Path, said: Callable[..., str], words: str, resources: object
) -> None:
    (run,) = plan(read_study(here / "study.yaml")).runs
    path = here / "results/runs" / run.id / "run.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"schema": 1, "id": run.id, "settings": {}, "resources": resources}))
    text = said(*words.split())
    assert "run.json: 'resources': " in text or words.startswith("collect")


@pytest.mark.parametrize("verb", ["plan", "status", "submit", "collect", "report", "gc", "archive", "merge", "train"])
def test_results_that_are_a_link_loop_are_a_line(
    here: Path, said: Callable[..., str], verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FLIPSCALE_TRACEBACK")
    (here / "results").symlink_to("results")
    assert said(verb, "study.yaml") != ""


def test_what_nobody_foresaw_is_a_line_with_its_place_and_its_traceback_where_asked(
    here: Path, said: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FLIPSCALE_TRACEBACK")
    (here / "study.yaml").write_text(STUDY + 'question: "\\UFFFFFFFF"\n')
    text = said("plan", "study.yaml")
    assert re.match(r"(Value|Overflow)Error at \w+\.py:\d+: ", text)
    assert "FLIPSCALE_TRACEBACK=1 in the environment shows the traceback." in text
    monkeypatch.setenv("FLIPSCALE_TRACEBACK", "1")
    with pytest.raises((ValueError, OverflowError)):
        said("plan", "study.yaml")


def test_a_library_that_does_not_load_is_no_fault_of_the_disk(
    here: Path, said: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FLIPSCALE_TRACEBACK")
    library = here / "libnew.so"
    library.write_text("not for this system")
    monkeypatch.setattr("flipscale.cli.studies.open_study_of", lambda *_, **__: ctypes.CDLL(str(library)))
    text = said("plan", "study.yaml")
    assert text.startswith(f"{library}: ")
    assert "Free space" not in text


@pytest.mark.parametrize("uri", ["http://[::1", "postgresql://[::1/x", "http://me:hunter2@[bad/x"])
@pytest.mark.slow
def test_an_address_of_mlflow_with_a_bad_bracket_is_a_sentence(
    here: Path, said: Callable[..., str], uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    Finished(here)
    text = said("collect", "mask.yaml")
    assert "MLflow was not written: MLflow at " in text
    assert SECRET not in text


def test_a_path_of_an_image_with_nul_is_an_image_that_is_not_there(here: Path) -> None:
    (here / "captions.jsonl").write_text(json.dumps({"image": "a\0.png", "caption": "an owl"}))
    pets = CaptionSet(file="captions.jsonl", image="image", caption="caption")
    with pytest.raises(DataError, match=r"a\\x00\.png"):
        captions.held_out(pets, Form(28, 16, lambda texts: texts), Scoring(1, None))  # type: ignore[arg-type, return-value]


def test_folders_nested_1900_deep_are_counted_and_left_alone(here: Path, said: Callable[..., str]) -> None:
    study = Finished(here)
    said("plan", "mask.yaml")
    for start in (here / "results/deep", study.folders[0].path):
        start.mkdir(exist_ok=True)
        inside = os.open(start, os.O_RDONLY)
        for _ in range(1900):
            os.mkdir("d", dir_fd=inside)
            deeper = os.open("d", os.O_RDONLY, dir_fd=inside)
            os.close(inside)
            inside = deeper
        os.close(os.open("checkpoint.pt", os.O_CREAT | os.O_WRONLY, dir_fd=inside))
        os.close(inside)
    text = said("gc", "study.yaml", "--only", "--remove")
    assert "was not written by flipscale" in text
    assert study.folders[0].path.exists()
    subprocess.run(["rm", "-r", str(here / "results")], check=True)
