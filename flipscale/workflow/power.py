"""The effect that a study's seeds will detect, reported before it runs."""

from flipscale.errors import ResultsError
from flipscale.sensitivity import PlannedSensitivity, planned_pairs, planned_words, unknown_words
from flipscale.workflow.messages import say
from flipscale.workflow.study import OpenStudy


def say_power(opened: OpenStudy) -> None:
    """Say the smallest difference that the plan's seeds detect; nothing for a study without twins."""
    if pairs := planned_pairs(opened.study, opened.plan):
        found = _by_results(opened) if opened.files.results.exists() else None
        say(planned_words(found) if found else unknown_words(pairs))


def _by_results(opened: OpenStudy) -> PlannedSensitivity | None:
    """Kept apart because it loads pandas and all of compare."""
    from flipscale.collecting import read_results
    from flipscale.comparing import planned_sensitivity

    try:
        results = read_results(opened.files.results)
    except ResultsError:  # `compare` reports the fault.
        return None
    return planned_sensitivity(opened.study, opened.plan, results)
