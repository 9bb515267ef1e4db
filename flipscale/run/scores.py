"""Scores of a run's finished weights, and what is still to score.

Scores of the evaluation that a run was trained with are in result.json and hits.json; those measured later are in
scores.json, one record for each measure (`identity.measures`) as one definition has it. A new record replaces the one
of the same definition, whose data had another content. scoring.json is the request for more: while it is there, the run
is not over.
"""

import base64
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from flipscale.errors import RunFolderError
from flipscale.identity import measures
from flipscale.run.codec import hits_from_json, read_object, write_record
from flipscale.run.files import SCORES_FILE, SCORING_FILE, WEIGHTS_FILE
from flipscale.run.folder import RunFolder
from flipscale.run.records import Hits
from flipscale.scores import set_and_score
from flipscale.settings import Evaluation, JsonObject, Settings, plain
from flipscale.study.settings import read_setting


@dataclass(frozen=True)
class Measured:
    """The scores of one measure."""

    measure: str
    what: JsonObject | None = field(hash=False)
    """What was measured, see `identity.measures`; None for scores that a trainer gave itself."""
    content: str | None = None
    """Digest of the data; None where it is not known, and data that flipscale draws have none."""
    scores: Mapping[str, float | None] = field(default_factory=dict, hash=False)
    """By column."""
    chance: Mapping[str, float] = field(default_factory=dict, hash=False)
    hits: Mapping[str, Hits] = field(default_factory=dict, hash=False)
    missing_scores: Mapping[str, str] = field(default_factory=dict, hash=False)
    seconds: float = 0.0
    finished: float = 0.0
    """Unix time."""


def read_scores(run: RunFolder) -> list[Measured]:
    """The records of scores.json; none if there is no such file. RunFolderError for any other content."""
    data = read_object(run.path, SCORES_FILE)
    if data is None:
        return []
    try:
        return [
            Measured(**{**record, "hits": hits_from_json(record["hits"]), "scores": _numbers(record["scores"])})
            for record in data["records"]
        ]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise RunFolderError(
            f"{run.path / SCORES_FILE}: holds no scores ({error}). Delete it and submit the study again, which scores "
            "the weights anew."
        ) from error


def _numbers(scores: Mapping[str, Any]) -> dict[str, float | None]:
    return {str(name): None if value is None else float(value) for name, value in scores.items()}


def scores_as_json(records: list[Measured]) -> JsonObject:
    """The content of scores.json."""
    return {"records": [asdict(record) | {"hits": _hits(record.hits)} for record in records]}


def _hits(hits: Mapping[str, Hits]) -> JsonObject:
    return {name: {**vars(of), "bits": base64.b64encode(of.bits).decode("ascii")} for name, of in hits.items()}


def standing_scores(run: RunFolder, settings: Settings) -> dict[str, Measured]:
    """The scores of a finished run by measure: for what `settings` ask, those of that definition, else any.

    A set that has the name of another that `settings` ask for has no scores among them.
    """
    wanted = measures(settings)
    found = {}
    for record in (*_while_training(run), *read_scores(run)):
        if record.measure not in wanted or record.what == wanted[record.measure]:
            found[record.measure] = record
    return found


def _while_training(run: RunFolder) -> list[Measured]:
    """The scores of result.json. Those of a set without any in it are missing for good, as the data gives none."""
    result, asked = run.result(), run.asked()
    if result is None or asked is None:
        return []
    measured = measures(asked.settled)
    names = dict.fromkeys((*measured, *(set_and_score(column)[0] for column in result.scores)))
    return [
        Measured(
            name,
            measured.get(name),
            result.contents.get(name),
            {column: value for column, value in result.scores.items() if set_and_score(column)[0] == name},
            missing_scores={c: why for c, why in result.missing_scores.items() if set_and_score(c)[0] == name},
        )
        for name in names
    ]


def unmeasured(run: RunFolder, settings: Settings, contents: Mapping[str, str | None]) -> dict[str, bool]:
    """The measures that `settings` ask for and a finished run lacks; True where its scores are of other data.

    contents: the digest of each set's data now, by the set's name; a set without one counts as unchanged.
    """
    standing = standing_scores(run, settings)
    found = {}
    for measure, what in measures(settings).items():
        record, now = standing.get(measure), contents.get(set_of(measure, settings))
        if record is None:
            found[measure] = False
        elif now is not None and record.content is not None and record.content != now:
            found[measure] = True
        del what
    return found


def set_of(measure: str, settings: Settings) -> str:
    """The name of the set of a measure."""
    return measure if measure in settings.evaluation.sets else measure.rpartition(".")[0]


def can_be_scored(run: RunFolder) -> bool:
    """Whether the finished weights are here."""
    return (run.path / WEIGHTS_FILE).is_file()


def ask_for_scores(run: RunFolder, evaluation: Evaluation) -> None:
    """Write scoring.json: the run is not over until its weights have the scores of this evaluation."""
    write_record(run.path / SCORING_FILE, {"evaluation": plain(evaluation)}, flush=False)


def asked_scores(run: RunFolder, settings: Settings) -> Evaluation:
    """The evaluation that scoring.json asks for; that of `settings` if there is none."""
    data = read_object(run.path, SCORING_FILE)
    try:
        return settings.evaluation if data is None else read_setting("evaluation", data["evaluation"])
    except (KeyError, ValueError) as error:
        raise RunFolderError(f"{run.path / SCORING_FILE}: {error}; delete it and submit again.") from error
