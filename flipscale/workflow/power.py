"""The effect that a study's seeds will detect, reported before it runs."""

from flipscale.errors import ResultsError
from flipscale.sensitivity import PlannedSensitivity, planned_words, usual_sensitivity
from flipscale.workflow.opened import OpenStudy
from flipscale.workflow.talk import say


def say_power(opened: OpenStudy) -> None:
    """Say the smallest difference that the plan's seeds detect; nothing where that is unknown."""
    has_results = opened.files.results.exists()
    found = _by_results(opened) if has_results else usual_sensitivity(opened.study, opened.plan)
    if found is not None:
        say(planned_words(found))


def _by_results(opened: OpenStudy) -> PlannedSensitivity | None:
    """The same by the scatter of finished runs. Kept apart because it loads pandas and all of compare."""
    from flipscale.collect import read_results
    from flipscale.compare import planned_sensitivity

    try:
        results = read_results(opened.files.results)
    except ResultsError:  # `compare` reports the fault.
        return usual_sensitivity(opened.study, opened.plan)
    return planned_sensitivity(opened.study, opened.plan, results)
