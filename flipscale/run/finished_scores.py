"""Scores of a run's finished weights, and what is still to score.

Scores of the evaluation that a run was trained with are in result.json and hits.json; those measured later are in
scores.json, one record for each measure (`identity.measures`) as one definition has it. A new record replaces the one
of the same definition, whose data had another content. scoring.json is the request for more: while it is there, the run
is not over.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated

from flipscale.kinds import By
from flipscale.planning.identity import measures, trains
from flipscale.run.codec import read_record, read_scores, write_record
from flipscale.run.files import SCORING_FILE
from flipscale.run.folder import RunFolder
from flipscale.run.records import Measured
from flipscale.scores import AVERAGED, set_and_score
from flipscale.settings.declarations import Evaluation, Resources, ResourcesRead, Settings, plain
from flipscale.study.settings import read_setting


def standing_scores(run: RunFolder, settings: Settings) -> dict[str, Measured]:
    """The scores of a finished run by measure: for what `settings` ask, those of that definition, else any.

    A set that has the name of another that `settings` ask for has no scores among them.
    """
    wanted = measures(settings)
    standing = {}
    for record in (*_while_training(run), *read_scores(run.path)):
        if record.measure not in wanted or record.what == wanted[record.measure]:
            standing[record.measure] = record
    return standing


def _while_training(run: RunFolder) -> list[Measured]:
    """The scores of result.json. Those of a set without any in it are missing for good, as the data gives none."""
    result = run.result()
    asked = run.asked()
    if result is None or asked is None or not trains(asked.settled):
        return []
    measured = measures(asked.settled)
    names = dict.fromkeys((*measured, *(set_and_score(column)[0] for column in result.scores)))
    return [
        Measured(
            name,
            measured.get(name),
            result.digests.get(set_of(name, asked.settled)),
            {column: value for column, value in result.scores.items() if set_and_score(column)[0] == name},
            missing_scores={c: why for c, why in result.missing_scores.items() if set_and_score(c)[0] == name},
        )
        for name in names
    ]


def unmeasured(run: RunFolder, settings: Settings, digests: Mapping[str, str]) -> dict[str, bool]:
    """The measures that `settings` ask for and a finished run lacks; True where its scores are of other data.

    digests: of each set's data now, by the set's name; a set without one counts as unchanged.
    """
    standing = standing_scores(run, settings)
    lacking = {}
    for measure in measures(settings):
        record = standing.get(measure)
        now = digests.get(set_of(measure, settings))
        if record is None:
            lacking[measure] = False
        elif now is not None and record.digest is not None and record.digest != now:
            lacking[measure] = True
    return lacking


def set_of(measure: str, settings: Settings) -> str:
    """The name of the set of a measure."""
    of_set, _, shown = measure.rpartition(".")
    return of_set if shown in (*settings.evaluation.inference, AVERAGED) else measure


@dataclass(frozen=True)
class _ScoresAsked:
    """scoring.json."""

    evaluation: Annotated[Evaluation, By(functools.partial(read_setting, "evaluation"))]
    resources: ResourcesRead


def ask_for_scores(run: RunFolder, evaluation: Evaluation, resources: Resources | None = None) -> None:
    """Write scoring.json: the run is not over until its weights have the scores of this evaluation."""
    written = {"evaluation": plain(evaluation), "resources": plain(resources or Resources())}
    write_record(run.path / SCORING_FILE, written, flush=False)


def asked_scores(run: RunFolder) -> tuple[Settings, Resources]:
    """A run's settings with the evaluation that scoring.json asks for, and what to score it on; those of run.json if
    there is none. The resources are those of today's study: what trained the run may be another machine.
    """
    asked = run.asked()
    wanted = read_record(_ScoresAsked, run, SCORING_FILE)
    assert asked is not None
    if wanted is None:
        return asked.settled, asked.resources
    return replace(asked.settled, evaluation=wanted.evaluation), wanted.resources
