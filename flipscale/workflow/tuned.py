"""A study with its sweep: what the sweep's ended runs choose, by their folders or else by tune.json."""

from dataclasses import dataclass, replace
from pathlib import Path

from flipscale.cell import read_cell
from flipscale.collecting.rows import row_of
from flipscale.errors import RunFolderError
from flipscale.plain_files import or_none, read_json
from flipscale.planning import Plan, plan
from flipscale.run import FailureKind, RunFolder, is_number, write_json
from flipscale.study import Study, Sweep, with_choice
from flipscale.sweeps import SweepOutcome, outcome
from flipscale.workspace import Workspace


def with_sweep(study: Study, workspace: Workspace) -> tuple[Study, SweepOutcome | None]:
    """The study with what its sweep has chosen and added so far, and the sweep; None for a study without one."""
    if study.sweep is None:
        return study, None
    kept = _kept(workspace.study(study.name).tune, study.sweep)
    while True:
        found = _outcome(study, study.sweep, plan(study), workspace, kept)
        further = found.extensions(study.further)
        if further == study.further:
            break
        study = replace(study, further=further)
    chosen = found.chosen
    if chosen is None:
        return study, found
    return replace(with_choice(study, chosen), caveats=(found.words, *study.caveats)), found


def _outcome(study: Study, sweep: Sweep, planned: Plan, workspace: Workspace, kept: "_TuneFile") -> SweepOutcome:
    by_id = {run.id: run for run in planned.runs}
    scores: dict[str, float | None] = {each.id: each.score for each in kept.runs}
    chance = kept.chance
    for run in (each.run for each in planned.swept):
        folder = RunFolder(workspace.run(run.id))
        try:
            if folder.is_trained:
                row, _ = row_of(run, study.name, folder, by_id)
                level = dict(read_cell(str(row["chance"] or ""))).get(sweep.by)
                chance = float(level) if level else chance
                if is_number(score := row.get(sweep.by)):
                    scores[run.id] = score
            elif (error := folder.error()) and error.kind is FailureKind.DIVERGED:
                scores[run.id] = None
        except RunFolderError:
            continue  # `status` names it.
    return outcome(planned, sweep, scores, chance)


@dataclass(frozen=True)
class _KeptRun:
    id: str
    score: float | None


@dataclass(frozen=True)
class _TuneFile:
    """tune.json: what a sweep's runs said, for places where their folders are not."""

    by: str
    chance: float | None
    runs: list[_KeptRun]


def _kept(path: Path, sweep: Sweep) -> _TuneFile:
    found: _TuneFile | None = or_none(read_json, path, _TuneFile)
    return found if found and found.by == sweep.by else _TuneFile(sweep.by, None, [])


def write_sweep(found: SweepOutcome, path: Path) -> None:
    """Write tune.json."""
    sweep = found.sweep
    write_json(
        path,
        {
            "over": sweep.over,
            "factors": sweep.rule is not None,
            "by": sweep.by,
            "pick": sweep.pick,
            "chance": found.arms[0].chance,
            "arms": [
                {
                    "arm": arm.words,
                    "chosen": arm.chosen,
                    "refused": "" if arm.due else arm.refusal,
                    "expected_best": arm.expected_best(),
                }
                for arm in found.arms
            ],
            "runs": [
                {"id": run, "arm": arm.words, "value": tried.value, "seed": seed, "score": score}
                for arm in found.arms
                for tried in arm.tried
                for run, (seed, score) in tried.runs.items()
            ],
        },
        rows="runs",
    )
