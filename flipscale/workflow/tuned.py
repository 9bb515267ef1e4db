"""A study with its sweep: what the sweep's ended runs choose, by their folders or else by tune.json."""

from dataclasses import dataclass, replace
from pathlib import Path

from flipscale.cell import read_cell
from flipscale.collecting.rows import row_of
from flipscale.door.sweep import SweepOutcome
from flipscale.errors import RunFolderError
from flipscale.kinds import is_number
from flipscale.plain_files import or_none, read_json
from flipscale.planning.runs import Plan, plan
from flipscale.planning.sweeps import outcome
from flipscale.run import FailureKind, RunFolder, write_json
from flipscale.study import Study, Sweep, with_choice
from flipscale.workspace import Workspace


def with_sweep(study: Study, workspace: Workspace) -> tuple[Study, SweepOutcome | None]:
    """The study with what its sweep has chosen and added so far, and the sweep; None for a study without one."""
    if study.sweep is None:
        return study, None
    kept: _TuneFile | None = or_none(read_json, workspace.study(study.name).tune, _TuneFile)
    if kept is None or kept.by != study.sweep.by:
        kept = _TuneFile(study.sweep.by, None, [])
    while True:
        choice = _outcome(study, study.sweep, plan(study), workspace, kept)
        further = choice.extensions(study.further)
        if further == study.further:
            break
        study = replace(study, further=further)
    chosen = choice.chosen
    if chosen is None:
        return study, choice
    return replace(with_choice(study, chosen), caveats=(choice.words, *study.caveats)), choice


def _outcome(study: Study, sweep: Sweep, planned: Plan, workspace: Workspace, kept: "_TuneFile") -> SweepOutcome:
    by_id = {run.id: run for run in planned.runs}
    scores: dict[str, float | None] = {each.id: each.score for each in kept.runs}
    chance = kept.chance
    unscored = set[str]()
    for run in (each.run for each in planned.swept):
        folder = RunFolder(workspace.run(run.id))
        try:
            if folder.is_trained:
                row, _ = row_of(run, study.name, folder, by_id)
                level = dict(read_cell(str(row["chance"] or ""))).get(sweep.by)
                chance = float(level) if level else chance
                if is_number(score := row.get(sweep.by)):
                    scores[run.id] = score
                elif run.id not in scores:
                    unscored.add(run.id)
            elif (error := folder.error()) and error.kind is FailureKind.DIVERGED:
                scores[run.id] = None
        except RunFolderError:
            continue  # `status` names it.
    return replace(outcome(planned, sweep, scores, chance), unscored=len(unscored))


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


def write_sweep(choice: SweepOutcome, path: Path) -> None:
    """Write tune.json."""
    sweep = choice.sweep
    write_json(
        path,
        {
            "over": sweep.over,
            "factors": sweep.rule is not None,
            "by": sweep.by,
            "pick": sweep.pick,
            "chance": choice.arms[0].chance,
            "arms": [
                {
                    "arm": arm.words,
                    "chosen": arm.chosen,
                    "refused": "" if arm.due else arm.refusal,
                    "expected_best": arm.expected_best,
                }
                for arm in choice.arms
            ],
            "runs": [
                {"id": run, "arm": arm.words, "value": tried.value, "seed": seed, "score": score}
                for arm in choice.arms
                for tried in arm.tried
                for run, (seed, score) in tried.runs.items()
            ],
        },
        rows="runs",
    )
