"""Figures and the page from the tables."""

import contextlib
from dataclasses import replace
from pathlib import Path

from flipscale.collect import baseline_of, chance_level, read_curves
from flipscale.compare import judge_study, measured_scores, pick_score
from flipscale.errors import ResultsError
from flipscale.plot import FORMATS, Plotted, figure_data, plot_all, read_references
from flipscale.report import Report, write_report
from flipscale.words import count
from flipscale.workflow.opened import OpenStudy
from flipscale.workflow.results import study_results
from flipscale.workflow.talk import Steps, say


def draw_study(opened: OpenStudy, references: Path | None = None, *, redraw: bool = False) -> Plotted:
    """Draw the study's figures from its tables, those that have changed. ResultsError where they allow none.

    references: a file of others' results to show beside.
    redraw: draw all. Else figures that are there stay where the folders of the runs are not here.
    """
    study, files = opened.study, opened.files
    found = study_results(opened)
    results = found.table
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
    chance = chance_level(opened.plan.runs, opened.workspace.results, results, data.score)
    data = replace(data, chance=chance, looks=study.looks)
    if scores:
        data = replace(data, stated=judge_study(results, study, scores[0]))
    if redraw:
        files.drawn.unlink(missing_ok=True)
    with Steps("drawing figures") as steps:
        keep = not (found.are_here or redraw)
        drawn = plot_all(data, files.figures, study.figures, note=files.drawn, keep=keep, progress=steps)
    if keep and drawn.unchanged:
        say("the folders of these runs are not here, so figures that are there stay; --redraw draws all")
    asked = study.figures is not None
    for name, reason in drawn.skipped.items() if asked else ():
        say(f"{name} is not drawn: {reason}")
    if drawn.skipped and not asked:
        figures = "1 figure does" if len(drawn.skipped) == 1 else f"{len(drawn.skipped)} figures do"
        say(f"{figures} not apply to these runs: {', '.join(drawn.skipped)} (flipscale plot --json says why)")
    return drawn


def report_study(opened: OpenStudy) -> Report:
    """Write the study's page. Runs that have finished since are collected first; without any, the page says so."""
    with contextlib.suppress(ResultsError):
        study_results(opened)
    with Steps("writing the report"):
        return write_report(opened.study, opened.plan, opened.file, opened.workspace.results, opened.workspace.plots)


def drawn_in_words(drawn: Plotted, folder: Path) -> str:
    """'wrote 33 files to plots/quickstart/; 2 figures have not changed'."""
    written = len(drawn.files) - len(FORMATS) * len(drawn.unchanged)
    same = count(len(drawn.unchanged), "figure")
    if not written and drawn.unchanged:
        return f"{folder}/ is up to date ({same})"
    unchanged = f"; {same} {'has' if len(drawn.unchanged) == 1 else 'have'} not changed" if drawn.unchanged else ""
    return f"wrote {count(written, 'file')} to {folder}/{unchanged}"
