"""Figures and the page from the tables."""

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pandas.api.types import is_numeric_dtype

from flipscale.analysis.comparing import judge_study, measured_scores, pick_score
from flipscale.analysis.plotting import NO_CURVES, FigureData, Plotted, figure_data, plot_all
from flipscale.analysis.reporting import Report
from flipscale.collecting.references import read_references
from flipscale.errors import ResultsError, missing_package
from flipscale.words import count
from flipscale.workflow.messages import Steps, say
from flipscale.workflow.opened import OpenStudy
from flipscale.workflow.reported import write_report
from flipscale.workflow.results import study_results


def draw_study(opened: OpenStudy, references: Path | None = None, formats: Sequence[str] = ()) -> Plotted:
    """Draw the study's figures from its tables. ResultsError where they allow none.

    references: a file of others' results to show beside.
    formats: "png" and "pdf", to draw beside SVG.
    """
    study = opened.study
    if study.awaits_choice and opened.sweep and any(tried.runs for arm in opened.sweep.arms for tried in arm.tried):
        drawn = draw_sweep(opened, formats)
    else:
        drawn = _draw_results(opened, references, formats)
    say(f"wrote {count(len(drawn.files), 'file')} to {opened.files.figures}/")
    return drawn


def _draw_results(opened: OpenStudy, references: Path | None, formats: Sequence[str]) -> Plotted:
    study = opened.study
    files = opened.files
    finished = study_results(opened)
    results = finished.table
    record = finished.results.record
    score = pick_score(results, study.score) if measured_scores(results) else None
    try:
        from flipscale.collecting import read_curves

        curves = read_curves(files.curves, metrics=(score,) if score else ())
    except ModuleNotFoundError as error:  # A small install has no pyarrow.
        say(f"learning curves are not drawn: {missing_package(str(error.name))}")
        curves = NO_CURVES
    data = figure_data(
        results,
        curves,
        study=study.name,
        baseline=record.baseline,
        score=study.score,
        references=read_references(references) if references else None,
        or_loss=True,
        labels=study.labels,
        stated=judge_study(finished.results, score) if score else None,
        looks=study.looks,
        x=study.x,
    )
    with Steps("drawing figures") as steps:
        drawn = plot_all(replace(data, sweep=opened.sweep), files.figures, study.figures, formats, steps)
    asked = study.figures is not None
    for name, reason in drawn.skipped.items() if asked else ():
        say(f"{name} is not drawn: {reason}")
    if asked or not drawn.skipped:
        return drawn
    if study.record.is_clip:
        figures = "1 figure does" if len(drawn.skipped) == 1 else f"{len(drawn.skipped)} figures do"
        say(f"{figures} not apply to these runs: {', '.join(drawn.skipped)} (flipscale plot --json says why)")
    elif study.x is None:
        names = [name for name in study.record.parameter_names if is_numeric_dtype(results[name])]
        if varied := [name for name in names if results[name].nunique() > 1]:
            say(f"no curves are drawn along a parameter; x: {varied[0]} in the study file draws them")
    return drawn


def draw_sweep(opened: OpenStudy, formats: Sequence[str] = ()) -> Plotted:
    """Draw what a study's sweep has found so far, where nothing else of the study has run."""
    assert opened.sweep is not None
    score = opened.sweep.sweep.by
    data = FigureData(NO_CURVES, NO_CURVES, opened.study.name, {}, score, (), (), sweep=opened.sweep)
    return plot_all(data, opened.files.figures, ["tune"], formats)


def report_study(opened: OpenStudy) -> Report:
    """Write the study's page. Runs that have finished since are collected first; without any, the page says so."""
    with contextlib.suppress(ResultsError):
        study_results(opened)
    with Steps("writing the report"):
        roots = opened.workspace.results, opened.workspace.plots
        report = write_report(opened.study, opened.plan, opened.file, *roots, opened.sweep)
    say(f"wrote {report.path} ({report.size / 1e6:.1f} MB); open it in a browser")
    return report
