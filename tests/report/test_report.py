"""What the report says, and of what it is made."""

import html
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from flipscale.analysis.comparing import answer_table
from flipscale.analysis.comparing.roles import settings_named
from flipscale.analysis.fitting import kind_parts, kinds_of
from flipscale.analysis.reporting import Report, page
from flipscale.analysis.reporting.evidence import FittedLaws
from flipscale.errors import ResultsError
from flipscale.planning.runs import plan
from flipscale.run import State
from flipscale.study import read_study
from flipscale.workflow.reported import gather, write_report
from tests.commands import flipscale
from tests.test_cli import STUDY

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def committed(name: str, plots: Path):
    """A report of a study of this repository, whose tables are kept and whose run folders are not."""
    file = ROOT / f"studies/{name}.yaml"
    study = read_study(file)
    return write_report(study, plan(study), file, ROOT / "results", plots)


def test_the_same_files_give_the_same_bytes(here: Path) -> None:
    page = here / "plots/mask/report.html"
    before = page.read_bytes()
    assert "wrote plots/mask/report.html (" in flipscale("report", "mask.yaml", cwd=here).stderr
    assert page.read_bytes() == before


def test_the_page_holds_its_scripts_and_lets_no_other_run(here: Path) -> None:
    page = (here / "plots/mask/report.html").read_text()
    assert "<script>alert" not in page
    assert page.count("<script") == 3
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy
    assert policy[1].startswith("default-src 'none'; ")
    assert not re.search(r'<(link|iframe|script[^>]* src|img[^>]* src="(?!data:))', page)


def test_a_study_whose_run_folders_are_gone_is_reported_from_its_tables(tmp_path: Path) -> None:
    report = committed("isoflop", tmp_path)
    assert {run.state for run in report.evidence.runs} == {State.FINISHED}
    page = report.path.read_text()
    assert "144 of 144 runs finished · " in page
    assert "144 runs on fashion vary model (ViT-w16d1-4, ViT-w32d1-4, " in page
    assert "Trained on 1 x cpu (144 runs)." in page
    assert "No run has failed or is lost." in page


def test_failures_are_counted_by_kind_over_all_runs_also_those_that_are_not_listed(tmp_path: Path) -> None:
    file = tmp_path / "many.yaml"
    base = "{data: shapes, model: ViT-w16d1-4, samples: 320, batch_size: 32, lr: 1e-3}"
    file.write_text(f"schema: 1\nbase: {base}\nseeds: 203\n")
    study = read_study(file)
    planned = plan(study)
    for number, run in enumerate(planned.runs):
        folder = tmp_path / "results/runs" / run.id
        folder.mkdir(parents=True)
        kind = "oom" if number < 201 else "code"
        (folder / "error.json").write_text(json.dumps({"schema": 1, "kind": kind, "reason": "it is", "time": 1.8e9}))
    report = write_report(study, planned, file, tmp_path / "results", tmp_path / "plots")
    assert len(report.evidence.failures) == 200
    page = report.path.read_text()
    assert "<p>203 runs failed or lost: 201 oom, 2 code.</p>" in page
    assert "The first 200 of them are listed here" in page


@pytest.mark.parametrize("name", ["fashion", "recipe", "isoflop"])
def test_the_answer_is_the_table_of_compare_s_screen(tmp_path: Path, name: str) -> None:
    report = committed(name, tmp_path)
    page = report.path.read_text()
    answer = page[page.index('id="answer"') : page.index("</table>")]
    comparison = report.evidence.comparison
    laws, names = comparison.laws, settings_named(comparison.labels)
    table, *_ = kind_parts(kinds_of(laws)[0], laws, names)[1:] if laws else answer_table(comparison)
    rows = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in re.findall("<tr>(.*?)</tr>", answer)]
    assert [tuple(map(html.unescape, row)) for row in rows[1:]] == list(table.rows)


def test_hours_of_a_parent_count_once(tmp_path: Path) -> None:
    evidence = committed("recipe", tmp_path).evidence
    rows = evidence.results.set_index("id")
    own_hours = {run.id: run.measured for run in evidence.runs if run.measured is not None}
    child, parent = next((name, parent) for name, parent in rows["parent"].dropna().items() if parent in rows.index)
    own = rows.loc[child, "gpu_hours"] - rows.loc[parent, "gpu_hours"]
    assert own_hours[child] == pytest.approx(own)
    assert evidence.spent < 0.9 * rows["gpu_hours"].sum()
    assert len(own_hours) == 315


def test_a_study_that_nobody_has_run_is_reported_with_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "mask.yaml").write_text(STUDY)
    flipscale("report", "mask.yaml", cwd=tmp_path)
    page = (tmp_path / "plots/mask/report.html").read_text()
    assert "0 of 8 runs finished · 8 planned" in page
    assert "No finished run has been collected yet, so there is nothing to compare." in page
    assert "There is no finished run to draw yet." in page
    assert "no compared run has finished yet" in page
    assert not (tmp_path / "results").exists()


def test_ten_thousand_runs_take_less_than_ten_megabytes(of_ten_thousand: Report) -> None:
    assert of_ten_thousand.size < 10_000_000
    assert "9,000 of 10,000 runs finished · 1,000 planned" in of_ten_thousand.path.read_text()


def test_figures_go_into_the_page_until_it_would_be_too_large(here: Path, tmp_path: Path) -> None:
    plots = tmp_path / "plots"
    shutil.copytree(here / "plots", plots)
    (plots / "mask/zz_large.svg").write_bytes(b"<svg>" + b" " * 2_000_000)
    study = read_study(here / "mask.yaml")
    evidence = gather(study, plan(study), here / "mask.yaml", here / "results", plots)
    assert [figure.name for figure in evidence.figures if figure.svg is None] == ["zz_large"]
    assert (
        "beside this page: zz_large.svg"
        in write_report(study, plan(study), here / "mask.yaml", here / "results", plots).path.read_text()
    )


def test_fits_are_shown_with_what_they_have(here: Path) -> None:
    study = read_study(here / "mask.yaml")
    evidence = gather(study, plan(study), here / "mask.yaml", here / "results", here / "plots")

    def section(laws: FittedLaws) -> str:
        found = re.search(r'<section id="fits".*?</section>', page(replace(evidence, laws=laws)), re.DOTALL)
        assert found
        return found[0]

    assert "<p>No law was fitted to these results.</p>" in section(FittedLaws())
    law = {
        "title": "top1 <b> against gpu_hours: power+floor",
        "formula": "y = E + A x^-a",
        "parameters": {"E": 0.1, "A": 3.25, "a": 0.5},
        "intervals": {"E": [0.05, 0.2], "A": [1.5, 9.75], "a": None},
        "not_determined": {"a": "at the end of its range"},
        "tied": {},
        "fixed": {},
        "used": ["run1", "run2"],
        "left_out": {"run3": "no top1"},
        "notes": ["4 points"],
        "checklist": ["rows: 2 used"],
    }
    shown = section(FittedLaws([law], {"mask_ratio=0": "too few", "mask_ratio=0.5": "too few"}))
    for said in ("<caption>top1 &lt;b&gt; against gpu_hours: power+floor</caption>", "y = E + A x^-a", "3.25",
                 "(1.5, 9.75)", "not determined: at the end of its range", "Used: 2 runs", "run3: no top1",
                 "<p>NOTE: 4 points</p>", "<li>rows: 2 used</li>",
                 "<li>mask_ratio=0 and another: too few</li>"):  # fmt: skip
        assert said in shown
    with pytest.raises(ResultsError, match=r"fits\.json: a law of it cannot be read .*flipscale fit"):
        section(FittedLaws([{"law": "power"}]))


def test_fits_that_are_no_json_are_named(here: Path, tmp_path: Path) -> None:
    shutil.copytree(here / "results/mask", tmp_path / "mask")
    (tmp_path / "mask/fits.json").write_text("{")
    study = read_study(here / "mask.yaml")
    with pytest.raises(ResultsError, match=r"fits\.json: not JSON"):
        gather(study, plan(study), here / "mask.yaml", tmp_path, tmp_path)


def test_nothing_reaches_a_page_unescaped_and_control_characters_not_at_all(here: Path) -> None:
    study = read_study(here / "mask.yaml")
    evidence = gather(study, plan(study), here / "mask.yaml", here / "results", here / "plots")
    hostile = "a\x00\x1b[31m<script>alert(1)</script>\"'&"
    failures = tuple(replace(failure, kind=hostile, reason=hostile, log=hostile) for failure in evidence.failures)
    figures = tuple(replace(figure, name=hostile, about=hostile, file=hostile) for figure in evidence.figures)
    (law, *_) = json.loads((ROOT / "results/fashion/fits.json").read_text())["fits"]
    laws = FittedLaws([law | {"title": hostile, "notes": [hostile], "used": [hostile], "left_out": {"x": hostile}}])
    named = replace(evidence.record, study=hostile, question=hostile)
    told = page(replace(evidence, record=named, study_text=hostile, failures=failures, figures=figures, laws=laws))
    assert told.count("<script") == 3
    assert not re.search("[\x00\x1b]", told)
    assert told.count("&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#x27;&amp;") > 10
