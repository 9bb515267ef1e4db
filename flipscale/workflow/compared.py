"""The comparison of a study's arms, written for programs and for people."""

from dataclasses import dataclass, replace
from pathlib import Path

from flipscale.collect import chance_level, hits_of
from flipscale.compare import (
    Comparison,
    comparison_json,
    comparison_markdown,
    measured_scores,
    with_guessing,
    with_images,
)
from flipscale.compare import compare_study as compare_arms
from flipscale.plain_files import read_json
from flipscale.workflow.opened import OpenStudy
from flipscale.workflow.results import study_results, write_analysis


@dataclass(frozen=True)
class Compared:
    """A study's comparison, and where it was written."""

    comparison: Comparison
    json: Path
    markdown: Path


def compare_study(opened: OpenStudy, score: str | None = None) -> Compared:
    """Compare the study's arms and write what came of it. ResultsError where its results allow no comparison.

    score: the study's own if left out, which report and MLflow show; another one goes into files of its own.
    """
    study, files = opened.study, opened.files
    found = study_results(opened)
    results = found.table
    comparison = compare_arms(results, study, opened.plan, score)
    paired = [run_id for pair in comparison.pairs for twins in pair.ids for run_id in twins]
    hits = hits_of(opened.workspace.results, dict.fromkeys(paired), comparison.score)
    comparison = with_images(comparison, hits.runs)
    chance = chance_level(opened.plan.runs, opened.workspace.results, results, comparison.score)
    comparison = with_guessing(comparison, results, chance)
    if study.answer == "law" and opened.files.fits.exists():
        comparison = replace(comparison, laws=tuple(read_json(opened.files.fits)["fits"]))
    default = study.score or next(iter(measured_scores(results)), None)
    suffix = "" if comparison.score == default else comparison.score
    compared = Compared(comparison, files.comparison(".json", suffix), files.comparison(".md", suffix))
    text = f"# {study.question or study.name}\n\n{comparison_markdown(comparison)}"
    write_analysis(compared.json, comparison_json(comparison), found, {compared.markdown: text})
    return compared
