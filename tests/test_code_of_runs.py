"""What status, the report and MLflow say of the code of finished runs."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from flipscale.cli import main
from flipscale.data.code_changes import CodeToday
from flipscale.run import CodeIdentity, Result, RunFolder, RunRequest
from flipscale.track import MirrorSource
from flipscale.workflow.opened import OpenStudy, open_study, write_plan
from flipscale.workspace import Workspace

STUDY = """\
schema: 1
base: {data: shapes, model: ViT-w16d1-4, text_length: 16, batch_size: 32, lr: 1e-3, samples: SAMPLES}
axes: {mask_ratio: [0, 0.5]}
evaluation: {images: 100}
"""


@dataclass(frozen=True)
class Here:
    """A folder with a study whose file may change, and the command line in it."""

    folder: Path
    capsys: pytest.CaptureFixture[str]

    def study(self, samples: int = 320, name: str = "mask") -> OpenStudy:
        (self.folder / f"{name}.yaml").write_text(STUDY.replace("SAMPLES", str(samples)))
        return open_study(f"{name}.yaml", Workspace(Path("results")))

    def finish(self, opened: OpenStudy, *codes: CodeIdentity) -> list[str]:
        """Have all runs of the study finished, each with the code of its place; their ids."""
        write_plan(opened)
        for number, run in enumerate(opened.plan.runs):
            folder = RunFolder(opened.workspace.run(run.id))
            folder.ask(RunRequest.of(run))
            with folder.hold() as lease:
                assert lease is not None
                for code in codes[number : number + 1]:
                    lease.note_code(code)
                lease.write_result(Result(scores={"zero_shot_top1": 0.5}, finished=1.0, started=0.0))
        return [run.id for run in opened.plan.runs]

    def flipscale(self, *arguments: str) -> tuple[str, str]:
        """What a command prints and says."""
        self.capsys.readouterr()
        assert main(arguments) == 0
        said = self.capsys.readouterr()
        return said.out, said.err

    def json(self, *arguments: str) -> dict[str, object]:
        found: dict[str, object] = json.loads(self.flipscale(*arguments, "--json")[0])
        return found


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Here:
    monkeypatch.chdir(tmp_path)
    return Here(tmp_path, capsys)


def today(opened: OpenStudy) -> CodeIdentity:
    return CodeToday().of(opened.plan.runs[0].settings)


OTHER = CodeIdentity(source="0" * 64, commit="c" * 40, versions={"torch": "1.0"})


def test_status_says_which_runs_other_code_trained_and_what_trains_them_anew(here: Here) -> None:
    opened = here.study()
    first, second = here.finish(opened, OTHER, today(opened))
    said = here.flipscale("status", "mask.yaml")[1].splitlines()
    assert said[1].startswith(
        "warning: 1 of 2 finished runs was trained by other code: flipscale at commit cccccccccc (today at "
    )
    assert "torch 1.0 (today " in said[1]
    assert said[2] == "flipscale submit mask.yaml --stale retrains them and keeps their earlier results."
    runs = {run["id"]: run["code_differences"] for run in here.json("status", "mask.yaml")["runs"]}  # type: ignore[attr-defined]
    assert len(runs[first]) == 2
    assert runs[second] == []


def test_status_of_runs_of_today_or_of_an_older_version_says_nothing_of_code(here: Here) -> None:
    opened = here.study()
    here.finish(opened)
    assert len(here.flipscale("status", "mask.yaml")[1].splitlines()) == 1
    here.finish(opened, today(opened), today(opened))
    assert len(here.flipscale("status", "mask.yaml")[1].splitlines()) == 1


def test_submit_shows_what_is_stale_before_it_does_it(here: Here) -> None:
    opened = here.study()
    first, second = here.finish(opened, OTHER, today(opened))
    shown = here.flipscale("submit", "mask.yaml", "--stale", "--dry-run")[0]
    assert first in shown
    assert second not in shown
    assert second in here.flipscale("submit", "mask.yaml", "--dry-run", "--redo", second[-10:])[0]
    assert here.flipscale("submit", "mask.yaml", "--dry-run")[0] == "There is nothing to submit.\n"
    assert main(["submit", "mask.yaml", "--dry-run", "--redo", "nothing"]) == 1


def test_why_of_a_run_says_which_code_trained_it(here: Here) -> None:
    opened = here.study()
    first, second = here.finish(opened, OTHER, today(opened))
    said = here.flipscale("status", "--why", first)[0]
    assert "\ntrained by flipscale at commit cccccccccc, torch 1.0\n" in said
    assert "\ntoday's code differs: flipscale at commit cccccccccc" in said
    assert "today's code is the same, as far as is known" in here.flipscale("status", "--why", second)[0]
    found = here.json("status", "--why", first)
    assert found["code"] == [
        {
            "project": "flipscale",
            "source": "0" * 64,
            "commit": "c" * 40,
            "versions": {"torch": "1.0"},
            "files": {},
        }
    ]
    assert len(found["code_differences"]) == 2  # type: ignore[arg-type]
    RunFolder(opened.workspace.run(first)).set_aside()
    RunFolder(opened.workspace.run(first)).ask(RunRequest.of(opened.plan.runs[0]))
    said = here.flipscale("status", "--why", first)[0]
    assert f"it was retrained; its earlier results are in results/runs/{first}/earlier" in said
    assert "The code that trains it is recorded when its training begins." in said


def test_runs_whose_names_differ_in_the_hash_alone_are_told_apart_by_plan_and_status(here: Here) -> None:
    text = STUDY.replace("SAMPLES", "320").replace("mask_ratio: [0, 0.5]", "mask_ratio: [0, 0.5], lr: [1e-3, 2e-3]")
    (here.folder / "rates.yaml").write_text(text)
    for command in ("plan", "status"):
        rows = [line for line in here.flipscale(command, "rates.yaml")[0].splitlines() if "lr 0.00" in line]
        assert [re.findall(r"lr (0.00\d)", row) for row in rows] == [["0.001"], ["0.002"], ["0.001"], ["0.002"]]


def test_the_report_lists_the_code_of_the_runs(here: Here) -> None:
    opened = here.study()
    here.finish(opened, OTHER, today(opened))
    here.flipscale("report", "mask.yaml")
    page = (here.folder / "plots" / "mask" / "report.html").read_text()
    assert "<li>1 run: flipscale at commit cccccccccc, torch 1.0</li>" in page
    assert "They were trained by 2 versions of the code." in page
    assert "1 of 2 finished runs was trained by other code: flipscale at commit cccccccccc" in page


def test_mlflow_is_told_how_many_runs_other_code_trained(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    from flipscale.workflow import collected

    opened = here.study()
    here.finish(opened, OTHER, today(opened))
    found = collected.collect_study(opened)
    sent: list[MirrorSource] = []

    class Stop(Exception):
        pass

    def mirror(source: MirrorSource, **how: object) -> None:
        sent.append(source)
        raise Stop

    monkeypatch.setattr(collected.track, "mirror", mirror)
    with pytest.raises(Stop):
        collected.mirror_study(opened, found, collected.Tracking())
    assert [source.code for source in sent] == ["1 of 2 finished runs was trained by other code than today's"]
