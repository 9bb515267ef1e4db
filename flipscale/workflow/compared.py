"""The comparison of a study's arms, written for programs and for people."""

from dataclasses import replace
from pathlib import Path

from flipscale.analysis.comparing import (
    Comparison,
    compare_finished,
    comparison_json,
    comparison_markdown,
    measured_scores,
)
from flipscale.collecting import read_results
from flipscale.door.record import Results, read_record
from flipscale.errors import ResultsError
from flipscale.kinds import JsonObject
from flipscale.plain_files import read_json
from flipscale.words import count
from flipscale.workflow.messages import say
from flipscale.workflow.opened import OpenStudy
from flipscale.workflow.results import study_results, write_analysis
from flipscale.workspace import StudyFiles


def compare_study(opened: OpenStudy, score: str | None = None) -> Comparison:
    """Compare the study's arms and write what came of it. ResultsError where its results allow no comparison.

    score: the study's own if left out, which report and MLflow show; another one goes into files of its own.
    """
    study = opened.study
    files = opened.files
    finished = study_results(opened)
    comparison = _compared(finished.results, files.fits, score)
    default = study.score or next(iter(measured_scores(finished.table)), None)
    suffix = "" if comparison.score == default else comparison.score
    json_file = files.comparison(".json", suffix)
    markdown = files.comparison(".md", suffix)
    text = f"# {study.question or study.name}\n\n{comparison_markdown(comparison)}"
    write_analysis(json_file, comparison_json(comparison), finished, {markdown: text})
    return comparison


def compare_folder(folder: Path, score: str | None = None) -> Comparison:
    """Compare a study by the folder of its tables alone, without its file and its runs. Nothing is written.

    ResultsError where the folder has no record, or its results allow no comparison.
    """
    files = StudyFiles(folder, folder)
    try:
        record = read_record(files.record)
    except FileNotFoundError as error:
        raise ResultsError(
            f"{files.record}: there is no such file. `flipscale collect STUDY` writes it beside the table; a table "
            "without it is compared by its columns: flipscale compare FILE.csv --baseline COLUMN=VALUE --y COLUMN."
        ) from error
    table = read_results(files.results)
    rows = table[table["id"].isin(record.runs)].reset_index(drop=True)
    if len(rows) < len(record.runs):
        say(f"{files.results} has {len(rows):,} of {count(len(record.runs), 'run')}")
    return _compared(Results(rows, record), files.fits, score)


def _compared(results: Results, fits: Path, score: str | None) -> Comparison:
    """The comparison, with the laws that `fit` wrote where they head the answer."""
    comparison = compare_finished(results, score)
    if results.record.answer == "law" and fits.exists():
        comparison = replace(comparison, laws=tuple(read_json(fits, JsonObject)["fits"]))
    return comparison
