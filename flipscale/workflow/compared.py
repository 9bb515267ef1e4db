"""The comparison of a study's arms, written for programs and for people."""

from dataclasses import replace

from flipscale.analysis.comparing import (
    Comparison,
    compare_finished,
    comparison_json,
    comparison_markdown,
    measured_scores,
)
from flipscale.collecting.record import results_of
from flipscale.kinds import JsonObject
from flipscale.plain_files import read_json
from flipscale.workflow.results import study_results, write_analysis
from flipscale.workflow.study import OpenStudy


def compare_study(opened: OpenStudy, score: str | None = None) -> Comparison:
    """Compare the study's arms and write what came of it. ResultsError where its results allow no comparison.

    score: the study's own if left out, which report and MLflow show; another one goes into files of its own.
    """
    study = opened.study
    files = opened.files
    finished = study_results(opened)
    comparison = compare_finished(results_of(finished.table, study, opened.plan, opened.workspace), score)
    if study.answer == "law" and opened.files.fits.exists():
        comparison = replace(comparison, laws=tuple(read_json(opened.files.fits, JsonObject)["fits"]))
    default = study.score or next(iter(measured_scores(finished.table)), None)
    suffix = "" if comparison.score == default else comparison.score
    json_file = files.comparison(".json", suffix)
    markdown = files.comparison(".md", suffix)
    text = f"# {study.question or study.name}\n\n{comparison_markdown(comparison)}"
    write_analysis(json_file, comparison_json(comparison), finished, {markdown: text})
    return comparison
