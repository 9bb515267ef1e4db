"""Figures from the tables."""

from dataclasses import replace
from pathlib import Path

from flipscale.collect import chance_level, read_curves, read_results
from flipscale.compare import baseline_of, judge_study, measured_scores, pick_score
from flipscale.plot import Plotted, figure_data, plot_all, read_references
from flipscale.workflow.opened import OpenStudy
from flipscale.workflow.talk import say


def draw_study(opened: OpenStudy, references: Path | None = None) -> Plotted:
    """Draw the study's figures from its tables. ResultsError where they allow none.

    references: a file of others' results to show beside.
    """
    study, files = opened.study, opened.files
    results = read_results(files.results)
    scores = [pick_score(results, study.score)] if measured_scores(results) else []
    data = figure_data(
        results,
        read_curves(files.curves, metrics=("loss", *scores)),
        study=study.name,
        baseline=baseline_of(study),
        score=study.score,
        references=read_references(references) if references else None,
        or_loss=True,
    )
    data = replace(data, chance=chance_level(opened.plan.runs, opened.workspace.results, results, data.score))
    if scores:
        data = replace(data, stated=judge_study(results, study, scores[0]))
    drawn = plot_all(data, files.figures, study.figures)
    for name, reason in drawn.skipped.items():
        say(f"{name} is not drawn: {reason}")
    return drawn
