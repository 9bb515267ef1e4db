"""The effect that a study's seeds will detect, reported before it runs."""

from flipscale.collect import read_results
from flipscale.compare import planned_sensitivity, planned_words
from flipscale.errors import ResultsError
from flipscale.workflow.opened import OpenStudy
from flipscale.workflow.talk import say


def say_power(opened: OpenStudy) -> None:
    """Say the smallest difference that the plan's seeds detect; nothing where that is unknown."""
    path = opened.files.results
    try:
        results = read_results(path) if path.exists() else None
    except ResultsError:
        results = None  # `compare` reports the fault.
    found = planned_sensitivity(opened.study, opened.plan, results)
    if found is not None:
        say(planned_words(found))
