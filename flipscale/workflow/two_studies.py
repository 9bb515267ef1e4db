"""Study against study: their results."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from flipscale.analysis.comparing import (
    RunsOfStudy,
    StudyPair,
    compare_runs,
    scored_by,
    study_pair_json,
    study_pair_markdown,
)
from flipscale.workflow.results import StudyResults, study_results, write_analysis
from flipscale.workflow.study import OpenStudy, open_study
from flipscale.workspace import Workspace

StudyFile = str | Path


def compare_studies(
    first: StudyFile,
    second: StudyFile,
    *,
    score: str | None = None,
    workspace: Workspace | None = None,
    second_workspace: Workspace | None = None,
) -> StudyPair:
    """Compare the finished runs of two studies, of equal settings and seed, the first being the baseline.

        pair = flipscale.compare_studies("studies/old.yaml", "studies/new.yaml")
        pair.same.changes        # what differs within pairs of runs
        pair.comparison.pairs    # the gain of each cell, with its CI corrected for all cells

    score: the first study's own if left out.
    second_workspace: where the second's results are, if elsewhere.

    Writes no file. Raises ResultsError where the studies have no cell or no score in common.
    """
    return _pair(open_two(first, second, workspace, second_workspace), score)[0]


def write_study_pair(opened: Sequence[OpenStudy], score: str | None = None) -> StudyPair:
    """Compare two studies, and write what came of it into the folder of the second."""
    first, second = opened
    pair, results = _pair(opened, score)
    both = StudyResults(results[1].table, all(each.are_here for each in results))
    paths = [second.files.against(first.study.name, suffix) for suffix in (".json", ".md")]
    text = f"# {' against '.join(reversed(pair.same.names))}\n\n{study_pair_markdown(pair)}"
    write_analysis(paths[0], study_pair_json(pair), both, {paths[1]: text})
    return pair


def open_two(
    first: StudyFile, second: StudyFile, workspace: Workspace | None = None, second_workspace: Workspace | None = None
) -> tuple[OpenStudy, OpenStudy]:
    """Both studies. The second's results are where the first's are, unless another workspace is given."""
    workspace = workspace or Workspace()
    return open_study(first, workspace), open_study(second, second_workspace or workspace)


def names_of(opened: Sequence[OpenStudy]) -> tuple[str, str]:
    """What to call two studies side by side: by their names, or by more where these are the same."""
    ways = (
        [study.study.name for study in opened],
        [str(study.file) for study in opened],
        [f"{study.file} in {study.workspace.results}" for study in opened],
    )
    first, second = next((names for names in ways if len(set(names)) > 1), ways[-1])
    return first, second


def _pair(opened: Sequence[OpenStudy], score: str | None) -> tuple[StudyPair, list[StudyResults]]:
    results = list(map(study_results, opened))
    first, second = (
        RunsOfStudy(name, study.study, study.finished_plan, of_study.table)
        for name, study, of_study in zip(names_of(opened), opened, results, strict=True)
    )
    pair = compare_runs(first, second, score)
    scored = scored_by([(study.plan, study.workspace) for study in opened], pair.comparison.score)
    return replace(pair, comparison=replace(pair.comparison, scored_by=scored)), results
