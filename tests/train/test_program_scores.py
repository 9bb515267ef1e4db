"""Programs of the user's own that score runs trained in a second: what they give, how they fail and are stopped."""

import json
import re
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flipscale.run import FailureKind, RunFolder, State
from flipscale.train import train
from tests.patience import wait_until
from tests.train.conftest import SETTINGS

DOCS = Path(__file__).parents[2] / "docs" / "own-scores.md"

Ask = Callable[..., RunFolder]


@pytest.fixture
def asked(run: Callable[..., RunFolder], tmp_path: Path) -> Ask:
    """A run of two steps that this Python program scores, by accuracy and CIDEr."""

    def ask(program: str, *, name: str = "run", scores: Any = None, **changes: Any) -> RunFolder:
        script = tmp_path / "score.py"
        script.write_text(program)
        declared = {
            "arguments": [sys.executable, str(script)],
            "scores": scores or {"accuracy": "higher", "cider": "higher"},
        }
        evaluated = {**SETTINGS["evaluation"], "images": 64, "sets": {"mine": {"command": declared}}}
        return run(name, evaluation=evaluated, **{"samples": 64, **changes})

    return ask


def gives(answer: Any) -> str:
    return f"import sys\nprint('{{nothing}}')\nprint({json.dumps(json.dumps(answer))})\nprint('bye', file=sys.stderr)\n"


def log(folder: RunFolder) -> str:
    return (folder.path / "log.txt").read_text()


@pytest.mark.slow
def test_a_program_scores_the_weights_of_a_finished_training(asked: Ask) -> None:
    """The example of the docs loads model.pt with open_clip alone."""
    found = re.search(r"<!-- example -->\n\n```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert found is not None
    folder = asked(found[1], scores={"accuracy": "higher"})
    assert train([folder.path]) == 0
    result = folder.result()
    assert result is not None
    assert result.scores["mine.accuracy"] in [0, pytest.approx(1 / 3), pytest.approx(2 / 3), 1]
    assert result.chance["mine.accuracy"] == pytest.approx(1 / 3)
    assert result.scores["zero_shot_top1"] is not None
    assert result.missing_scores == {}
    assert result.evaluation_seconds is not None
    assert result.finished is not None
    assert not {"checkpoint.pt", "evaluation_program.json", "life.json"} & {path.name for path in folder.path.iterdir()}


def test_the_last_answer_counts_and_what_is_not_in_it_is_missing_with_the_reason(asked: Ask) -> None:
    program = gives({"scores": {"accuracy": 0.1}}) + gives(
        {"scores": {"accuracy": None}, "missing": {"cider": "no java"}}
    )
    folder = asked(program)
    assert train([folder.path]) == 0
    result = folder.result()
    assert result is not None
    assert "mine.accuracy" not in result.scores
    assert result.missing_scores == {"mine.accuracy": "its program gave none", "mine.cider": "no java"}
    assert "mine.cider is missing: no java" in log(folder)
    assert "\nbye\n" in log(folder)
    assert json.loads((folder.path / "result.json").read_text())["missing_scores"] == result.missing_scores


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("import sys\nprint('no model')\nsys.exit(3)", r"score.py ended with exit code 3.*Its last output: no model"),
        ("print('done')", r"printed no scores; have it print a line of JSON at its end, such as {.*accuracy"),
        (gives({"scores": {"acuracy": 0.1}}), "its scores has 'acuracy', which is not declared"),
        (gives({"scores": {}, "chance": {"other": 1}}), "its chance has 'other', which is not declared"),
        (gives({"scores": {"accuracy": 41}}), "it gives accuracy as 41; by its name .*0.41 for 41 %"),
        (gives({"scores": {"cider": "high"}}), "it gives cider as 'high'; write a finite number"),
        (gives({"scores": {"cider": float("nan")}}), "it gives cider as nan; write a finite number"),
        (gives({"scores": [1]}), "its \"scores\" is .*; write an object"),
        (
            'import sys\nopen(sys.argv[1] + "/error.json", "w").write(\'{"kind": "oom", "reason": "too large"}\')',
            "evaluation.sets.mine: too large",
        ),
    ],
)  # fmt: skip
def test_a_program_that_fails_or_gives_what_cannot_be_fails_the_run(asked: Ask, program: str, words: str) -> None:
    folder = asked(program)
    assert train([folder.path]) == 1
    failure = folder.error()
    assert failure is not None
    assert failure.kind is FailureKind.CODE
    assert failure.reason.startswith("evaluation.sets.mine: ")
    assert re.search(words, failure.reason)
    assert folder.result() is None
    assert folder.state() is State.FAILED


def test_a_program_that_is_not_there_is_named_with_its_set(asked: Ask) -> None:
    folder = asked("")
    settings = json.loads((folder.path / "run.json").read_text())
    settings["settings"]["evaluation"]["sets"]["mine"]["command"]["arguments"] = ["no-such-program"]
    (folder.path / "run.json").write_text(json.dumps(settings))
    assert train([folder.path]) == 1
    failure = folder.error()
    assert failure is not None
    assert failure.reason.startswith("evaluation.sets.mine: no-such-program: there is no such program")


def test_after_a_program_has_failed_nothing_is_trained_again(asked: Ask, tmp_path: Path) -> None:
    whole = asked(gives({"scores": {"cider": 1.27, "accuracy": 0.5}}), name="whole")
    assert train([whole.path]) == 0
    folder = asked("import sys; sys.exit(1)")
    assert train([folder.path]) == 1
    records = (folder.path / "metrics.jsonl").read_text()
    (folder.path / "error.json").unlink()
    (tmp_path / "score.py").write_text(gives({"scores": {"cider": 1.27, "accuracy": 0.5}}))
    assert train([folder.path]) == 0
    assert (folder.path / "metrics.jsonl").read_text() == records
    first, again = whole.result(), folder.result()
    assert first is not None
    assert again is not None
    assert again.scores == first.scores
    assert again.chance == first.chance
    assert again.final_loss == first.final_loss
    assert folder.hits() == whole.hits()
    assert again.attempts == 2
    assert not (folder.path / "checkpoint.pt").exists()


def test_a_signal_is_passed_on_and_the_program_is_begun_anew(asked: Ask) -> None:
    program = (
        "import os, sys, time\nready = sys.argv[1] + '/ready'\n"
        "if not os.path.exists(ready):\n    open(ready, 'w')\n    time.sleep(600)\n"
    )
    folder = asked(program + gives({"scores": {"cider": 1, "accuracy": 1}}))
    other = threading.Thread(
        target=lambda: (wait_until((folder.path / "ready").exists, "ready"), signal.raise_signal(15))
    )
    other.start()
    assert train([folder.path]) == 128 + signal.SIGTERM
    other.join()
    assert folder.state() is State.PLANNED
    assert folder.result() is None
    assert "evaluation.sets.mine: stopped by SIGTERM; it starts over when the run resumes" in log(folder)
    assert train([folder.path]) == 0
    result = folder.result()
    assert result is not None
    assert result.scores["mine.cider"] == 1.0


def test_a_run_is_evaluating_while_a_program_scores_it(asked: Ask) -> None:
    program = "import json, sys\nprint(json.load(open(sys.argv[1] + '/life.json')))\n"
    folder = asked(program + gives({"scores": {}}))
    assert train([folder.path]) == 0
    assert "'doing': 'evaluating'" in log(folder)


def test_a_training_command_is_scored_too(asked: Ask, tmp_path: Path) -> None:
    trainer = tmp_path / "trainer.py"
    trainer.write_text(
        "import sys\nopen(sys.argv[1] + '/result.json', 'w').write('{\"scores\": {\"zero_shot_top1\": 0.5}}')\n"
        "open(sys.argv[1] + '/weights', 'w').write('0.25')\n"
    )
    program = (
        "import json, os, sys\nassert not os.path.exists(sys.argv[1] + '/result.json')\n"
        "print(json.dumps({'scores': {'cider': float(open(sys.argv[1] + '/weights').read())}}))\n"
    )
    command = {"command": {"arguments": [sys.executable, str(trainer)], "name": None}}
    folder = asked(program, trainer=command, scores={"cider": "higher"})
    assert train([folder.path]) == 0
    result = folder.result()
    assert result is not None
    assert result.scores == {"zero_shot_top1": 0.5, "mine.cider": 0.25}


def test_the_folder_may_stand_anywhere_among_the_arguments(asked: Ask) -> None:
    folder = asked("import sys, os\nassert sys.argv[1] == os.environ['FLIPSCALE_RUN']\n" + gives({"scores": {}}))
    asked_for = json.loads((folder.path / "run.json").read_text())
    command = asked_for["settings"]["evaluation"]["sets"]["mine"]["command"]
    command["arguments"] += ["{folder}", "--last"]
    (folder.path / "run.json").write_text(json.dumps(asked_for))
    assert train([folder.path]) == 0
