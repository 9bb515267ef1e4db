"""Scores a finished run's weights by an evaluation that its folder asks for (scoring.json). Nothing is trained.

A set is opened and digested once for all runs of a process. Scores are written set by set, so a job that is killed goes
on where it was.
"""

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import torch
from open_clip import CLIP

from flipscale.cost.arithmetic import trained_parameters
from flipscale.planning.identity import measures, scored, stage
from flipscale.run import (
    AVERAGED_FILE,
    SCORING_FILE,
    WEIGHTS_FILE,
    Doing,
    Lease,
    Measured,
    Result,
    RunFolder,
    ask_for_scores,
    asked_scores,
    set_of,
    unmeasured,
)
from flipscale.scores import AVERAGED, set_and_score
from flipscale.settings.declarations import CommandSet, Settings
from flipscale.train.distributed import Group
from flipscale.train.evaluate import Evaluated, check_scores, digests_once, evaluate
from flipscale.train.failure import say
from flipscale.train.machine import device_name
from flipscale.train.model import build, save
from flipscale.train.requests import TrainedWeights, asked_of
from flipscale.train.sources import evaluations_of
from flipscale.train.stop import Stop
from flipscale.train.trainers.builtin.pretrain import facts
from flipscale.train.trainers.builtin.training import Progress
from flipscale.train.trainers.program.evaluation import with_program_scores


def score_weights(run: RunFolder, lease: Lease | None, group: Group, stop: Stop) -> None:
    """Measure what the request asks for and the run lacks, then remove the request; a signal leaves it there.

    All processes of the group call it. The one with the lease has the items and writes; the others encode with it.
    """
    settings, _ = asked_scores(run)
    staged = scored(settings)
    files = [name for name in (WEIGHTS_FILE, AVERAGED_FILE) if (run.path / name).is_file()]
    models: dict[str, CLIP] = {}

    def on_set(name: str, only: Collection[str]) -> Evaluated:
        with group.together():
            evaluations = evaluations_of(run, staged, {name}) if lease else {}
            if not models:
                models.update(_models(run, staged, files, group))
        evaluated = Evaluated()
        for file, model in models.items():
            averaged = file == AVERAGED_FILE
            evaluated = evaluated.beside(evaluate(model, evaluations, staged, group, only, averaged=averaged))
        return evaluated

    if lease is None:
        while group.said():
            on_set("", ())
        return
    digests = digests_once(settings)
    wanted = _measurable(run, unmeasured(run, settings, digests), files)
    programs = {name: of for name, of in settings.evaluation.sets.items() if isinstance(of, CommandSet)}
    names = dict.fromkeys(set_of(measure, settings) for measure in wanted)
    for name in sorted(names, key=programs.__contains__):  # Programs come last, when the other processes have left.
        if stop.signal:
            break
        lease.live(Doing.EVALUATING)
        began = time.perf_counter()
        only = {measure for measure in wanted if set_of(measure, settings) == name}
        group.said("" if name in programs else "another set")
        if name in programs:
            group.part()
            models.clear()
            answer = with_program_scores(Result(), run, lease, stop, {name: programs[name]})
            if answer is None:
                break
            evaluated = Evaluated(dict(answer.scores), dict(answer.chance))  # type: ignore[arg-type]  # none is None
            missing = answer.missing_scores
        else:
            evaluated = on_set(name, only)
            missing = {}
            check_scores(evaluated.scores, "the end")
        seconds = (time.perf_counter() - began) / len(only)
        records = [_record(measure, settings, evaluated, digests.get(name), seconds) for measure in sorted(only)]
        lease.write_scores([replace(record, missing_scores=missing) for record in records])
        where = f" on {name}" if name else ""
        say(run, f"scored{where}, {device_name(group.device)}, {seconds * len(only):.1f} s of evaluation")
    else:
        lease.fence()
        (run.path / SCORING_FILE).unlink(missing_ok=True)
    group.said("")


def _measurable(run: RunFolder, wanted: Mapping[str, object], files: Sequence[str]) -> list[str]:
    """Those of the wanted measures whose weights are in `files`; the others are said."""
    for file in sorted({_weights_of(measure) for measure in wanted}.difference(files)):
        say(run, f"not scored, as its {file} is not here")
    return [measure for measure in wanted if _weights_of(measure) in files]


def _models(run: RunFolder, staged: Settings, files: Sequence[str], group: Group) -> dict[str, CLIP]:
    """The models of these files of weights, on the device."""
    return {file: build(staged, start=TrainedWeights(run.path / file, staged)).to(group.device) for file in files}


def _weights_of(measure: str) -> str:
    """The file of the weights that a measure is of."""
    return AVERAGED_FILE if measure.rpartition(".")[2] == AVERAGED else WEIGHTS_FILE


def take_weights(run: RunFolder, lease: Lease, device: torch.device) -> None:
    """Write the weights that a run without training starts from as its own, and ask for their scores."""
    spent = Progress(time.time())
    settings = asked_of(run).settled
    with lease.replace(WEIGHTS_FILE) as file:
        save(build(stage(settings)), file)
    ask_for_scores(run, settings.evaluation)
    lease.write_result(
        replace(
            facts(spent, device, 1, None),
            params=trained_parameters(settings),
            samples_seen=0,
            steps=0,
            unique_pairs=0,
            devices=None,
            evaluation_seconds=None,
        )
    )


def _record(measure: str, settings: Settings, evaluated: Evaluated, digest: str | None, seconds: float) -> Measured:
    def of_it(columns: Collection[str]) -> list[str]:
        return [column for column in columns if set_and_score(column)[0] == measure]

    return Measured(
        measure,
        measures(settings)[measure],
        digest,
        {column: evaluated.scores[column] for column in of_it(evaluated.scores)},
        {column: evaluated.chance[column] for column in of_it(evaluated.chance)},
        {column: evaluated.hits[column] for column in of_it(evaluated.hits)},
        seconds=seconds,
        finished=time.time(),
    )
