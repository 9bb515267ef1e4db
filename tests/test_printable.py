"""Names that are not UTF-8 and locales that are not: they end no process, and no log, table or page is without them."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from flipscale.data.folder import names_of_folders, read_folder
from flipscale.errors import DataError, FlipscaleError, StudyError, printable
from flipscale.planning.runs import plan
from flipscale.run import FailedAttempt, FailureKind, Result, RunFolder, RunRequest
from flipscale.study import read_study
from flipscale.track import tracking_address
from tests.commands import flipscale

pytestmark = pytest.mark.slow

ODD = os.fsdecode(b"caf\xe9")
"""A name in Latin-1, as Python gives names that are not UTF-8."""

NOT_UTF8 = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
"""The C locale without what Python does about it, as any other locale that is not UTF-8 is."""

STUDY = """\
schema: 1
question: Läuft es?
base: {data: shapes, model: ViT-w16d1-4, text_length: 16, batch_size: 32, lr: 1e-3, samples: 64}
axes: {mask_ratio: [0, 0.5]}
seeds: 2
evaluation: {images: 20}
"""

SETS = {"odd": {"folder": {"path": "broken", "classes": None, "templates": None}}}


def talk_of(code: str, cwd: Path, *arguments: str, ends: int = 0) -> str:
    """What an interpreter prints and says that runs this code in a locale that is not UTF-8."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=cwd,
        env={**os.environ, **NOT_UTF8},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        check=False,
    )
    assert "Traceback" not in done.stdout
    assert done.returncode == ends, done.stdout
    return done.stdout


def labelled(root: Path, classes: Sequence[str], content: bytes | None = None) -> Path:
    """A folder of two images for each class, their names in Latin-1; or of files with that content."""
    for name in classes:
        (root / name).mkdir(parents=True)
        for number in range(2):
            path = root / name / f"{ODD}{number}.png"
            if content is None:
                Image.new("RGB", (8, 8), (90 * number, 9, 9)).save(path)
            else:
                path.write_bytes(content)
    return root


def test_bytes_of_a_name_and_halves_of_characters_are_escaped():
    assert printable(f"{ODD}.png, café, \ud83d") == "caf\\xe9.png, café, \\ud83d"
    assert str(DataError(f"{ODD}: is missing")) == "caf\\xe9: is missing"
    assert str(StudyError([f"{ODD}:1: is empty"])) == "caf\\xe9:1: is empty"


def test_a_run_folder_keeps_any_text_and_gives_what_can_be_printed(tmp_path):
    run = RunFolder(tmp_path / "run")
    run.ask(RunRequest("run", {}))
    with run.open_log() as log:
        log.write(f"read {ODD}\n")
    run.write_error(FailureKind.DATA, f"no {ODD}")
    run.note_failure(FailedAttempt(FailureKind.DATA, f"no {ODD}"))
    with run.hold() as lease:
        lease.append([{"step": 1, "said": ODD}])
        lease.write_result(Result(versions={"program": ODD}))
    assert (run.path / "log.txt").read_text(encoding="utf-8") == "read caf\\udce9\n"
    assert json.loads((run.path / "error.json").read_bytes())["reason"] == run.error().reason == "no caf\\xe9"
    assert run.failures()[0].reason == "no caf\\xe9"
    assert run.records()[0][0]["said"] == run.result().versions["program"] == "caf\\xe9"


def test_a_reason_that_an_earlier_flipscale_or_a_program_wrote_can_be_printed(tmp_path):
    (tmp_path / "error.json").write_text(json.dumps({"kind": "data", "reason": ODD}))
    assert RunFolder(tmp_path).error().reason == "caf\\xe9"


# The worker


def test_a_name_that_is_not_utf8_fails_one_run_and_every_verb_goes_on(tmp_path):
    labelled(tmp_path / "broken", ["a", "b"], content=b"no image")
    (tmp_path / "four.yaml").write_text(STUDY, encoding="utf-8")
    folders = []
    for number, asked in enumerate(map(RunRequest.of, plan(read_study(tmp_path / "four.yaml")).runs)):
        evaluation = {**asked.settings["evaluation"], "sets": SETS if number == 1 else {}}
        folders.append(RunFolder(tmp_path / "results/runs" / asked.id))
        folders[-1].ask(replace(asked, settings={**asked.settings, "evaluation": evaluation}))
    # One worker does all four: what ended it would end the run behind the bad one with it.
    train = "from flipscale.cli import main; raise SystemExit(main())"
    worker = talk_of(train, tmp_path, "train", *(str(run.path) for run in folders), ends=1)
    assert [run.state() for run in folders] == ["finished", "failed", "finished", "finished"]
    verbs = (
        "plan four.yaml",
        "status four.yaml",
        f"logs {folders[1].id}",
        "watch four.yaml",
        "collect four.yaml --no-mlflow",
        "report four.yaml",
    )
    every = "import sys\nfrom flipscale.cli import main\nfor verb in sys.argv[1:]: assert main(verb.split()) == 0, verb"
    talk = talk_of(every, tmp_path, *verbs)
    said = "broken/a/caf\\xe90.png (is not an image that can be read)"
    assert said in worker
    assert said in folders[1].error().reason
    assert talk.count(said) >= 2, "status and logs"
    assert "1 failed" in talk
    assert "3 of 4 runs" in talk
    page = (tmp_path / "plots/four/report.html").read_text(encoding="utf-8")
    assert "caf\\\\xe90.png" in page or "caf\\xe90.png" in page
    assert "Läuft es?" in page


# Data


def test_images_may_have_any_name(tmp_path):
    found = read_folder(str(labelled(tmp_path / "images", ["a", "b"])), 10, 8)
    assert (len(found.images), found.classes) == (4, ("a", "b"))


def test_a_class_whose_folder_is_not_utf8_needs_a_name(tmp_path):
    folders = read_folder(str(labelled(tmp_path / "images", ["a", ODD])), 10, 8).classes
    with pytest.raises(DataError, match=r"the name of the class folder caf\\xe9 is not UTF-8.*with classes"):
        names_of_folders(folders, None, "images")
    assert names_of_folders(folders, ["a", "café"], "images") == ("a", "café")


def test_a_class_has_the_same_name_in_every_locale(tmp_path):
    images = labelled(tmp_path / "images", ["café", "thé"])
    assert read_folder(str(images), 10, 8).classes == ("café", "thé")
    asks = "print(*read_folder('images', 10, 8).classes)"
    script = f"from flipscale.errors import use_utf8; use_utf8()\nfrom flipscale.data.folder import *\n{asks}"
    for environment in (NOT_UTF8, {"LC_ALL": "C"}):
        done = subprocess.run(
            [sys.executable, "-c", script],
            cwd=tmp_path,
            env={**os.environ, **environment},
            capture_output=True,
            check=True,
        )
        assert done.stdout.decode("utf-8") == "café thé\n"


# The study, and where its results are


def test_a_study_that_cannot_be_written_in_utf8_is_refused(tmp_path):
    odd = tmp_path / f"{ODD}.yaml"
    odd.write_text(STUDY, encoding="utf-8")
    with pytest.raises(StudyError, match=r"caf\\xe9.yaml:1: .* cannot be the name of a study.*write it in UTF-8"):
        read_study(odd)
    escaped = tmp_path / "escaped.yaml"
    escaped.write_text(STUDY.replace("data: shapes", r'data: {webdataset: "caf\udce9.tar"}'), encoding="utf-8")
    with pytest.raises(
        StudyError, match=r"escaped.yaml:3: 'caf\\\\xe9.tar' holds half a character; name files in UTF-8"
    ):
        read_study(escaped)


def test_mlflow_is_left_out_where_the_results_are_not_in_utf8(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(FlipscaleError, match=r"caf\\xe9: MLflow takes no path that is not UTF-8"):
        tracking_address(tmp_path / ODD)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    assert tracking_address(tmp_path / ODD) == "http://127.0.0.1:1"


def test_results_may_be_in_a_folder_that_is_not_utf8(tmp_path):
    here = tmp_path / ODD
    here.mkdir()
    study = STUDY.replace("seeds: 2", "seeds: 1").replace("samples: 64", "samples: 640")
    sets = "sets: {odd: {folder: {path: images}}}"
    (here / "one.yaml").write_text(study.replace("images: 20", f"images: 20, {sets}"), encoding="utf-8")
    labelled(here / "images", ["a", "b"])
    done = flipscale("run", "one.yaml", cwd=here)
    assert "MLflow was not written:" in done.stderr
    assert (here / "plots/one/report.html").exists()
