"""What a reader of a study's table has to know of the study, from its file, its plan and its runs' folders."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from flipscale.cell import Cell, write_cell
from flipscale.collecting.columns import baseline_of, setting_value
from flipscale.door.record import PlannedPairs, Results, ScoredBy, StudyRecord, read_record
from flipscale.door.statements import Contrast, StatedClaim, Values
from flipscale.errors import RunFolderError
from flipscale.plain_files import or_none, read_bytes, replacing
from flipscale.planning.runs import Plan
from flipscale.run import RunFolder, standing_scores
from flipscale.scores import is_score, set_and_score
from flipscale.settings.declarations import Settings
from flipscale.study import Study
from flipscale.study.claims import claims_at_budgets
from flipscale.study.named_sets import members
from flipscale.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd


def results_of(table: "pd.DataFrame", study: Study, planned: Plan, written: Path | None = None) -> Results:
    """The rows of a study's finished runs with its record; `written` is the one that `collect` wrote, if it did."""
    return Results(table, record_of(study, planned, _scored_by_in(written) if written else {}))


def write_record(path: Path, study: Study, planned: Plan, workspace: Workspace, table: Iterable[str]) -> None:
    """Write the record of a study as `path`.

    workspace: where the runs' folders are, which say by what the scores among the columns of `table` were measured.
    """
    scores = filter(is_score, table)
    scored_by = _scored_by(planned, workspace, list(scores))
    data = json.dumps(asdict(record_of(study, planned, scored_by)), indent=1).encode() + b"\n"
    if data != or_none(read_bytes, path):
        with replacing(path) as file:
            file.write(data)


def _scored_by_in(path: Path) -> Mapping[str, tuple[ScoredBy, ...]]:
    """What the record there says of evaluations; nothing where it cannot be read, as `collect` writes it anew."""
    record = or_none(read_record, path)
    return record.scored_by if record else {}


def record_of(study: Study, planned: Plan, scored_by: Mapping[str, tuple[ScoredBy, ...]]) -> StudyRecord:
    """The record of a study and its plan."""
    return StudyRecord(
        study=study.name,
        question=study.question or study.name,
        baseline=baseline_of(study),
        base_cell=base_cell(study, planned),
        score=study.score,
        answer=study.answer,
        margin=study.margin,
        effect=study.effect,
        looks=study.looks,
        claims=tuple(map(as_in_tables, study.claims)),
        at_budgets=tuple(map(as_in_tables, claims_at_budgets(study))),
        caveats=tuple(study.caveats),
        labels=study.labels,
        x=study.x,
        pairs=planned_pairs(study, planned),
        runs=tuple(run.id for run in planned.cells),
        scored_by=scored_by,
    )


def base_cell(study: Study, planned: Plan) -> str | None:
    """The cell of the study's base as results.csv writes it. None where the base leaves an axis open."""
    axes = [axis.name for axis in study.axes if axis.name not in study.baseline]
    if any(axis not in study.base for axis in axes):
        return None
    wanted = {axis: setting_value(study.base[axis]) for axis in axes}
    for run in planned.cells:
        if run.cell is not None and all(setting_value(getattr(run.settings, axis)) == wanted[axis] for axis in axes):
            return write_cell(run.cell)
    return None


def as_in_tables(claim: StatedClaim) -> StatedClaim:
    """The claim with the values that results.csv has of settings."""
    return replace(
        claim,
        contrast=_contrast(claim.contrast),
        than=None if claim.than is None else _contrast(claim.than),
        score=_score(claim.score),
        than_score=_score(claim.than_score),
        along=tuple(map(_contrast, claim.along)),
    )


def _contrast(contrast: Contrast) -> Contrast:
    return replace(
        contrast,
        left=_values(contrast.left),
        right=_values(contrast.right),
        left_cells=tuple(map(_values, contrast.left_cells)),
        right_cells=tuple(map(_values, contrast.right_cells)),
    )


def _score(score: float | Values | None) -> float | Values | None:
    return score if score is None or isinstance(score, int | float) else _values(score)


def _values(values: Values) -> Values:
    return {name: setting_value(value) for name, value in values.items()}


def planned_pairs(study: Study, planned: Plan) -> PlannedPairs | None:
    """The twins of a plan; None without a baseline or without twins."""
    baseline = baseline_of(study)
    if not baseline:
        return None
    seeds: dict[tuple[Cell, tuple[object, ...]], set[int]] = {}
    for run in planned.cells:
        assert run.cell is not None
        seeds.setdefault((run.cell, _arm(run.settings, list(baseline))), set()).add(run.settings.seed)
    base = tuple(baseline.values())
    pairs = [(cell, arm) for cell, arm in seeds if arm != base and (cell, base) in seeds]
    if not pairs:
        return None
    return PlannedPairs(
        comparisons=len(pairs),
        seeds=min(len(seeds[pair]) for pair in pairs),
    )


def _arm(settings: Settings, names: Sequence[str]) -> tuple[object, ...]:
    """What makes it an arm: its values of the baseline's settings."""
    return tuple(setting_value(getattr(settings, name)) for name in names)


def _scored_by(planned: Plan, workspace: Workspace, scores: Sequence[str]) -> dict[str, tuple[ScoredBy, ...]]:
    """The evaluations that the finished runs have each score from, as far as their folders say it."""
    runs_of: dict[str, Counter[tuple[str, str, str]]] = {score: Counter() for score in scores}
    for run in planned.cells:
        evaluation = run.settings.evaluation
        try:
            standing = standing_scores(RunFolder(workspace.run(run.id)), run.settings)
        except RunFolderError:
            continue  # `collect` names it.
        for score in scores:
            mean = set_and_score(score)[0]
            for column in members(evaluation, mean) if mean in evaluation.means else [score]:
                record = standing.get(set_and_score(column)[0])
                if record is not None and record.digest is not None and record.scores.get(column) is not None:
                    runs_of[score][record.measure, json.dumps(record.what), record.digest] += 1
    return {
        score: tuple(ScoredBy(measure, json.loads(what), digest, runs) for (measure, what, digest), runs in of.items())
        for score, of in runs_of.items()
        if of
    }
