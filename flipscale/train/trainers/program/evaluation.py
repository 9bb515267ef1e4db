"""Scores of a finished training that the user's own programs measure: the sets of an evaluation that are commands.

    evaluation: {sets: {coco: {command: {arguments: [python, caption.py], scores: {cider: higher, spice: higher}}}}}

They run one after the other between writing a run's weights and writing its result, with the run's folder as their last
argument, or wherever {folder} stands, and with FLIPSCALE_RUN set to it. A program

    reads    run.json, model.pt  the request, and the weights as open_clip loads them
    prints   a line of JSON, the last of its kind: {"scores": {"cider": 1.27, "spice": null}}
             and optionally "missing": {"spice": "why"}, and "chance": {"cider": the chance level}

and exits with 0. A score that the study does not declare is refused; an absent one is missing, with the reason. No
program runs on a fine-tuned run.
"""

import json
import math
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from flipscale.errors import FlipscaleError, did_you_mean
from flipscale.plain_files import parsed as parsed_json
from flipscale.run import Doing, FailureKind, Lease, Result, RunFolder
from flipscale.scores import is_fraction
from flipscale.settings.declarations import CommandSet, Settings
from flipscale.train.failure import Cause, Failed, say
from flipscale.train.requests import request_of
from flipscale.train.stop import Stop
from flipscale.train.trainers.program.outcome import as_fraction
from flipscale.train.trainers.program.process import Program, ProgramStart, run_program, with_folder

EVALUATION_NOTE = "evaluation_program.json"
"""The file that says which process evaluates, while it lives."""

_KEPT_KINDS = (FailureKind.DISK, FailureKind.DATA)
"""Failures of an evaluation that keep their kind. The policy for other kinds is meant for trainings."""

JsonAnswer = dict[str, Any]
"""The scores that a program printed."""


def programs_of(settings: Settings) -> dict[str, CommandSet]:
    """The sets of an evaluation that are programs, by name. A fine-tuned run has the one score of its head."""
    if settings.fine_tuning is not None:
        return {}
    sets = settings.evaluation.sets.items()
    return {name: of for name, of in sets if isinstance(of, CommandSet) and of.arguments is not None}


def with_program_scores(
    result: Result,
    run: RunFolder,
    lease: Lease,
    stop: Stop,
    programs: Mapping[str, CommandSet] | None = None,
) -> Result | None:
    """The result with what programs measure, those of the run's evaluation; None if a signal stopped one of them.

    Raises Failed, by kind, for a program that fails, and FlipscaleError for one that cannot be started or whose answer
    cannot be right. Both name the set.
    """
    for name, program in (programs_of(request_of(run)[0]) if programs is None else programs).items():
        lease.live(Doing.EVALUATING)
        began = time.perf_counter()
        try:
            answer = _answer(program, run, lease, stop)
            measured = None if answer is None else _checked(name, program, answer)
        except Failed as error:
            kind = FailureKind(error.failure.kind)
            reason = error.failure.reason
            cause = Cause(kind if kind in _KEPT_KINDS else FailureKind.CODE, f"evaluation.sets.{name}: {reason}")
            raise Failed(cause) from error
        except FlipscaleError as error:
            raise FlipscaleError(f"evaluation.sets.{name}: {error}") from error
        if measured is None:
            say(run, f"evaluation.sets.{name}: stopped by {stop.name}; it starts over when the run resumes")
            return None
        for score, why in measured.missing_scores.items():
            say(run, f"{score} is missing: {why}")
        result = replace(
            result,
            scores={**result.scores, **measured.scores},
            chance={**result.chance, **measured.chance},
            missing_scores={**result.missing_scores, **measured.missing_scores},
            evaluation_seconds=(result.evaluation_seconds or 0.0) + time.perf_counter() - began,
            finished=time.time(),
        )
    return result


def finish(result: Result, run: RunFolder, lease: Lease, stop: Stop, leftovers: Iterable[Path], took: str) -> bool:
    """Have the user's own programs score the run, and write its result: True, or False if a signal stopped one of them.

    leftovers: files and folders that only a run that goes on needs. took: its time in words, for the log.
    """
    scored = with_program_scores(result, run, lease, stop)
    if scored is None:
        return False
    # result.json goes last: its presence is what "finished" means.
    lease.write_result(scored)
    for leftover in leftovers:
        if leftover.is_dir():
            shutil.rmtree(leftover)
        leftover.unlink(missing_ok=True)
    say(run, f"finished, {took}")
    return True


def _answer(program: CommandSet, run: RunFolder, lease: Lease, stop: Stop) -> JsonAnswer | None:
    """The last line that the program printed; None if a signal stopped it."""
    answers: list[JsonAnswer] = []

    def heed(line: str, when: float, at_work: Program) -> None:
        if (answer := parsed_answer(line)) is not None:
            answers[:] = [answer]

    assert program.arguments is not None
    start = ProgramStart(with_folder(program.arguments, run), note=EVALUATION_NOTE)
    ended = run_program(start, run, lease, stop, heed=heed)
    (run.path / EVALUATION_NOTE).unlink(missing_ok=True)
    if ended.stopped and ended.code != 0:
        return None
    name = " ".join(program.arguments)
    ended.raise_failure(name, run)
    if not answers:
        raise FlipscaleError(
            f"{name} ended with exit code 0 and printed no scores; have it print a line of JSON at its end, such as "
            f"{json.dumps({'scores': dict.fromkeys(program.scores, 0.5)})}."
        )
    return answers[0]


def parsed_answer(line: str) -> JsonAnswer | None:
    """The answer that a line of output is; None for any other line."""
    if not line.lstrip().startswith("{"):
        return None
    try:
        answer = parsed_json(line.encode(errors="surrogatepass"))
    except ValueError:
        return None
    return answer if isinstance(answer, dict) and "scores" in answer else None


def _checked(name: str, program: CommandSet, answer: JsonAnswer) -> Result:
    """The scores of an answer by their columns, what guessing gives, and why scores are missing."""
    objects: dict[str, Mapping[str, Any]] = {key: answer.get(key, {}) for key in ("scores", "missing", "chance")}
    for key, values in objects.items():
        if not isinstance(values, dict):
            raise FlipscaleError(f'its "{key}" is {values!r}; write an object, such as {{"{key}": {{"cider": ...}}}}.')
        if stranger := next((score for score in values if score not in program.scores), None):
            raise FlipscaleError(
                f"its {key} has {stranger!r}, which is not declared; {did_you_mean(stranger, program.scores)}"
            )
    scores = dict(_numbers(name, objects["scores"]))
    missing = {
        f"{name}.{score}": str(objects["missing"].get(score) or "its program gave none")
        for score in program.scores
        if f"{name}.{score}" not in scores
    }
    return Result(scores=scores, chance=dict(_numbers(name, objects["chance"])), missing_scores=missing)


def _numbers(name: str, values: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Those that are not null, by column. Raises FlipscaleError for anything but a number."""
    for score, value in values.items():
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise FlipscaleError(f"it gives {score} as {value!r}; write a finite number, or null.")
        if is_fraction(f"{name}.{score}") and not 0 <= value <= 1:
            raise FlipscaleError(
                f"it gives {score} as {value}; by its name that is a fraction, so write one from 0 to 1"
                f"{as_fraction(value)}, or give the score another name."
            )
        yield f"{name}.{score}", float(value)
