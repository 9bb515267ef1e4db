"""The comparison of a study's arms, written for programs and for people."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from flipscale.collecting import chance_level, hits_of
from flipscale.comparing import (
    Comparison,
    ScoredBy,
    comparison_json,
    comparison_markdown,
    measured_scores,
    with_guessing,
    with_images,
)
from flipscale.comparing import compare_study as compare_arms
from flipscale.errors import RunFolderError
from flipscale.plain_files import read_json
from flipscale.run import RunFolder, standing_scores
from flipscale.scores import set_and_score
from flipscale.settings import JsonObject
from flipscale.study.named_sets import members
from flipscale.workflow.results import study_results, write_analysis
from flipscale.workflow.study import OpenStudy


def scored_by(studies: Sequence[OpenStudy], score: str) -> tuple[ScoredBy, ...]:
    """The evaluations that the finished runs of these studies have this score from, as far as their folders say it."""
    runs_of: Counter[tuple[str, str, str]] = Counter()
    for opened in studies:
        for run in opened.plan.cells:
            evaluation = run.settings.evaluation
            mean = set_and_score(score)[0]
            columns = members(evaluation, mean) if mean in evaluation.means else [score]
            try:
                standing = standing_scores(RunFolder(opened.workspace.run(run.id)), run.settings)
            except RunFolderError:
                continue  # `collect` names it.
            for column in columns:
                record = standing.get(set_and_score(column)[0])
                if record is not None and record.digest is not None and record.scores.get(column) is not None:
                    runs_of[record.measure, json.dumps(record.what), record.digest] += 1
    return tuple(ScoredBy(measure, json.loads(what), digest, runs) for (measure, what, digest), runs in runs_of.items())


def compare_study(opened: OpenStudy, score: str | None = None) -> Comparison:
    """Compare the study's arms and write what came of it. ResultsError where its results allow no comparison.

    score: the study's own if left out, which report and MLflow show; another one goes into files of its own.
    """
    study, files = opened.study, opened.files
    finished = study_results(opened)
    results = finished.table
    comparison = compare_arms(results, study, opened.plan, score)
    paired = [run_id for pair in comparison.pairs for twins in pair.ids for run_id in twins]
    hits = hits_of(opened.workspace.results, dict.fromkeys(paired), comparison.score)
    comparison = with_images(comparison, hits.runs)
    comparison = with_guessing(comparison, results, chance_level(results, comparison.score))
    if study.answer == "law" and opened.files.fits.exists():
        comparison = replace(comparison, laws=tuple(read_json(opened.files.fits, JsonObject)["fits"]))
    comparison = replace(comparison, scored_by=scored_by([opened], comparison.score))
    default = study.score or next(iter(measured_scores(results)), None)
    suffix = "" if comparison.score == default else comparison.score
    json_file, markdown = files.comparison(".json", suffix), files.comparison(".md", suffix)
    text = f"# {study.question or study.name}\n\n{comparison_markdown(comparison)}"
    write_analysis(json_file, comparison_json(comparison), finished, {markdown: text})
    return comparison
