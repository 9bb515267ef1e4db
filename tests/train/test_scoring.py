"""Train once, score any time: the scores of finished weights, and what training owes to its evaluation."""

import json
import signal
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from flipscale.errors import RunFolderError
from flipscale.run import Measured, RunFolder, State, ask_for_scores, read_scores, standing_scores
from flipscale.settings.declarations import Evaluation, Resources
from flipscale.study.settings import read_setting
from flipscale.train import scoring, train
from flipscale.train.encoding import Encoders
from tests.test_other_data import exchange, put_colours
from tests.train.conftest import SETTINGS
from tests.train.forks import Forked


def evaluation(**changes: Any) -> Evaluation:
    found: Evaluation = read_setting("evaluation", {**SETTINGS["evaluation"], **changes})
    return found


def two(root: Path) -> dict[str, Any]:
    """Further sets: one of red and blue pictures."""
    return {"sets": {"two": {"folder": {"path": str(root / "two")}}}}


def records(run: RunFolder) -> list[dict[str, Any]]:
    """metrics.jsonl without times."""
    lines = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    timed = ("seconds", "time", "images_per_second", "cpu_seconds")
    return [{name: value for name, value in line.items() if name not in timed} for line in lines]


def weights(run: RunFolder) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = torch.load(run.path / "model.pt", weights_only=True)["state_dict"]
    return found


def test_training_is_bit_equal_with_and_without_evaluation(run, tmp_path: Path) -> None:
    put_colours(tmp_path / "two", "red", "blue")
    more = {**two(tmp_path), "at": [0.25, 0.5], "linear_probe": True, "inference": ["masked", "ensemble"]}
    scored = run("scored", evaluation={**SETTINGS["evaluation"], **more})
    plain = run("plain", evaluation={**SETTINGS["evaluation"], "at": [0.25, 0.5]})
    none = run("none")
    assert train([scored.path, plain.path, none.path]) == 0
    losses = [[line for line in records(folder) if "loss" in line] for folder in (scored, plain, none)]
    assert losses[0] == losses[1]
    # Records come at evaluations too, and a loss is the mean since the record before.
    assert losses[0][-1]["logit_scale"] == losses[2][-1]["logit_scale"]
    for name, value in weights(none).items():
        if name != "token_embedding.weight":  # Words that only an evaluation has decay in another order of rounding.
            assert torch.equal(weights(scored)[name], value), name


def test_scores_measured_later_are_those_of_training_and_nothing_is_trained(run, tmp_path: Path) -> None:
    put_colours(tmp_path / "two", "red", "blue")
    more = {**two(tmp_path), "inference": ["masked", "ensemble"]}
    at_once = run("at_once", evaluation={**SETTINGS["evaluation"], **more}, average=0.2)
    later = run("later", average=0.2)
    assert train([at_once.path, later.path]) == 0
    files = {
        name: (later.path / name).read_bytes() for name in ("result.json", "metrics.jsonl", "run.json", "code.json")
    }
    ask_for_scores(later, evaluation(**more))
    assert later.state() is State.PLANNED
    assert train([later.path]) == 0
    assert later.state() is State.FINISHED
    expected = at_once.result()
    assert expected is not None
    found = standing_scores(later, replace(asked(later), evaluation=evaluation(**more)))
    assert {name: value for of in found.values() for name, value in of.scores.items()} == expected.scores
    assert {
        name: value for of in found.values() for name, value in of.chance.items()
    }.items() <= expected.chance.items()
    assert later.hits() == at_once.hits()
    assert {name: (later.path / name).read_bytes() for name in files} == files
    assert not (later.path / "scoring.json").exists()


def asked(folder: RunFolder) -> Any:
    found = folder.asked()
    assert found is not None
    return found.settled


def test_a_set_that_changed_replaces_its_scores_and_one_that_moved_does_not(run, tmp_path: Path) -> None:
    put_colours(tmp_path / "two", "red", "blue")
    folder = run()
    assert train([folder.path]) == 0
    ask_for_scores(folder, evaluation(**two(tmp_path)))
    assert train([folder.path]) == 0
    (first,) = read_scores(folder.path)
    (tmp_path / "two").rename(tmp_path / "moved")
    moved = {"sets": {"two": {"folder": {"path": str(tmp_path / "moved")}}}}
    ask_for_scores(folder, evaluation(**moved))
    scoring_log = (folder.path / "log.txt").read_text()
    assert train([folder.path]) == 0
    assert (read_scores(folder.path), (folder.path / "log.txt").read_text()) == ([first], scoring_log)
    exchange(tmp_path / "moved", "red", "blue")
    (tmp_path / "moved").rename(tmp_path / "exchanged")
    ask_for_scores(folder, evaluation(sets={"two": {"folder": {"path": str(tmp_path / "exchanged")}}}))
    assert train([folder.path]) == 0
    (second,) = read_scores(folder.path)
    assert (second.what, second.digest != first.digest) == (first.what, True)
    assert second.scores["two.zero_shot_top1"] == pytest.approx(1 - (first.scores["two.zero_shot_top1"] or 0))


def test_a_request_ends_without_weights_and_where_nothing_is_missing(run, tmp_path: Path) -> None:
    put_colours(tmp_path / "two", "red", "blue")
    folder = run()
    assert train([folder.path]) == 0
    ask_for_scores(folder, evaluation())
    assert train([folder.path]) == 0
    assert folder.state() is State.FINISHED
    (folder.path / "model.pt").unlink()
    ask_for_scores(folder, evaluation(**two(tmp_path)))
    assert train([folder.path]) == 0
    assert folder.state() is State.FINISHED
    assert "not scored, as its model.pt is not here" in (folder.path / "log.txt").read_text()


def test_the_last_weights_are_scored_where_their_mean_is_gone(run, tmp_path: Path) -> None:
    put_colours(tmp_path / "two", "red", "blue")
    folder = run(average=0.2)
    assert train([folder.path]) == 0
    (folder.path / "averaged.pt").unlink()
    ask_for_scores(folder, evaluation(**two(tmp_path)))
    assert train([folder.path]) == 0
    assert [record.measure for record in read_scores(folder.path)] == ["two"]
    assert "not scored, as its averaged.pt is not here" in (folder.path / "log.txt").read_text()


class Killed(BaseException):
    """Nothing catches it."""


def test_a_stop_between_two_sets_keeps_the_first_and_the_rest_is_done_later(
    run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_colours(tmp_path / "two", "red", "blue")
    put_colours(tmp_path / "three", "red", "blue", "green")
    sets = {name: {"folder": {"path": str(tmp_path / name)}} for name in ("two", "three")}
    folder, done = run(), []
    assert train([folder.path]) == 0
    ask_for_scores(folder, evaluation(sets=sets))
    look = scoring.evaluate

    def once(model: Any, evaluations: Any, *more: Any, **options: Any) -> Any:
        done.extend(evaluations)
        if done == ["two", "three"]:
            raise Killed
        return look(model, evaluations, *more, **options)

    monkeypatch.setattr(scoring, "evaluate", once)
    with pytest.raises(Killed):
        train([folder.path])
    assert [record.measure for record in read_scores(folder.path)] == ["two"]
    assert (folder.path / "scoring.json").exists()
    assert train([folder.path]) == 0
    assert done == ["two", "three", "three"]
    assert {record.measure for record in read_scores(folder.path)} == {"two", "three"}


def test_the_score_of_a_column_is_that_of_the_definition_asked_for(run) -> None:
    folder = run()
    assert train([folder.path]) == 0
    one, other = (replace(asked(folder), evaluation=evaluation(images=number)) for number in (160, 80))
    ask_for_scores(folder, other.evaluation)
    assert train([folder.path]) == 0
    result = folder.result()
    assert result is not None
    (later,) = read_scores(folder.path)
    assert standing_scores(folder, one)[""].scores == result.scores
    assert standing_scores(folder, other)[""] == later
    assert later.scores != result.scores


def test_damaged_scores_are_named(run) -> None:
    folder = run()
    (folder.path / "scores.json").write_text('{"records": [{"measure": "two"}]}')
    with pytest.raises(RunFolderError, match=r"scores\.json: .*Delete it and submit the study again"):
        read_scores(folder.path)
    assert Measured("two", None) == Measured("two", None)


@pytest.mark.slow
def test_two_processes_score_as_one_and_share_the_batches(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_colours(tmp_path / "two", "red", "blue")
    more = {**two(tmp_path), "inference": ["masked"]}
    by_one, *by_two = runs = [run(name) for name in ("one", "first", "second")]
    assert train([folder.path for folder in runs]) == 0
    encoded: list[tuple[str, int]] = []
    features = Encoders._features

    def noted(self: Encoders, way: str, batch: torch.Tensor, first: int) -> torch.Tensor:
        encoded.append((way, first))
        return features(self, way, batch, first)

    monkeypatch.setattr(Encoders, "_features", noted)
    ask_for_scores(by_one, evaluation(**more))
    assert train([by_one.path]) == 0
    alone = encoded.copy()
    encoded.clear()
    for folder in by_two:
        ask_for_scores(folder, evaluation(**more), Resources(processes=2))
    assert train([folder.path for folder in by_two]) == 0
    # Batches of 64 go round: of the 160 images of its own data this process encodes the first and the third.
    assert encoded == [(way, first) for way, first in alone if first % 128 == 0] * 2
    assert 0 < len(encoded) < 2 * len(alone)
    for folder in by_two:
        assert scores_of(folder) == scores_of(by_one)
        assert folder.state() is State.FINISHED


def scores_of(folder: RunFolder) -> list[Measured]:
    """The records of scores.json, without times."""
    return [replace(record, seconds=0, finished=0) for record in read_scores(folder.path)]


DYING = """
import os, signal, sys
from pathlib import Path
from flipscale.run import Lease
from flipscale.train import scoring, train
from flipscale.train.encoding import Encoders

place, left = None, {times}

def come(event):
    global left
    with open({log!r}, "a") as log:
        print(event, place, file=log)
    left -= event == {event!r}
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

def noted(owner, name, before=None, after=None, of=lambda *given: True):
    done = getattr(owner, name)
    def call(*given, **more):
        if before and of(*given):
            come(before)
        found = done(*given, **more)
        if after and of(*given):
            come(after)
        return found
    setattr(owner, name, call)

def is_place(run, settings, names):
    global place
    place = (run.id, *names)
    return True

noted(scoring, "evaluations_of", "begun", of=is_place)
noted(Encoders, "_features", "batch")
noted(Path, "replace", "whole", of=lambda path, target: target.name == "scores.json")
noted(Lease, "write_scores", after="written")
noted(Path, "unlink", "over", "removed", of=lambda path: path.name == "scoring.json")
sys.exit(train({folders}))
"""
"""Code that scores runs, logs its events, and is killed at one: the first of its kind, or a later one."""

KILLS = [
    *[("begun", 1), ("batch", 2), ("whole", 1), ("written", 1), ("over", 1)],  # in the first set of the first run
    *[("begun", 2), ("batch", 2), ("whole", 1), ("written", 1), ("over", 1)],  # in the second set of the second run
    *[("written", 2), ("batch", 1), ("whole", 1), ("begun", 1), ("removed", 1)],  # in the last set of the third run
    *[("begun", 1), ("whole", 2), ("batch", 3), ("written", 1), ("over", 1)],
]


@pytest.mark.slow
def test_20_kills_lose_no_score_and_repeat_only_those_in_flight(run, tmp_path: Path) -> None:
    put_colours(tmp_path / "two", "red", "blue")
    put_colours(tmp_path / "three", "red", "blue", "green")
    sets = {name: {"folder": {"path": str(tmp_path / name)}} for name in ("two", "three")}
    more = evaluation(sets=sets, inference=["masked", "ensemble"])
    runs = [run(f"run-{number}", seed=number) for number in range(4)]
    undisturbed = [run(f"undisturbed-{number}", seed=number) for number in range(4)]
    assert train([folder.path for folder in (*runs, *undisturbed)]) == 0
    for folder in (*runs, *undisturbed):
        ask_for_scores(folder, more)
    assert train([folder.path for folder in undisturbed]) == 0

    log, ends = tmp_path / "events", []
    for event, times in [*KILLS, ("never", 1)]:
        folders = [str(folder.path) for folder in runs]
        worker = Forked(DYING.format(event=event, times=times, log=str(log), folders=folders))
        _, said = worker.communicate()
        assert worker.returncode == (0 if event == "never" else -signal.SIGKILL), said
        ends.append(log.read_text().splitlines()[-1])
    seen = Counter(log.read_text().splitlines())
    killed = Counter(end.partition(" ")[2] for end in ends if end.split()[0] in ("begun", "batch", "whole"))
    places = [f"{(folder.id, name)}" for folder in runs for name in ("", "two", "three")]
    assert {place: seen[f"written {place}"] for place in places} == dict.fromkeys(places, 1)
    assert {place: seen[f"begun {place}"] for place in places} == {place: 1 + killed[place] for place in places}
    assert {end.split()[1] for end in ends[:-1]} == {f"('{folder.id}'," for folder in runs}
    for folder, expected in zip(runs, undisturbed, strict=True):
        assert folder.state() is State.FINISHED
        assert scores_of(folder) == scores_of(expected)
