"""A stranger's files show no file of the user's, run no code, take no credentials, and write nothing elsewhere."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from flipscale.cli import main

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
    for words in (("gc",), ("gc", "study.yaml"), ("plan", "study.yaml"), ("collect", "study.yaml"), ("ledger",)):
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
    here: Path, said: Callable[..., str], name: str, typed: str
) -> None:
    for folder in (name, "ViT-1"):
        (here / "results/runs" / folder).mkdir(parents=True)
    script = said("completion", "bash") + (
        f"COMP_WORDS=(flipscale logs '{typed}'); COMP_CWORD=2; _shtab_flipscale; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    )
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ([] if typed == "$" else ["ViT-1"])
    assert not (here / "ran").exists()
