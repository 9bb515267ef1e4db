"""The answers of a job's attempt to the failures of its runs, as policy.py decides."""

from dataclasses import replace

from flipscale.launch.breaker import Breaker
from flipscale.launch.launcher import Attempt
from flipscale.launch.policy import INSTANT_SECONDS, answer_failure
from flipscale.run import FailureKind, RunFolder

_INSTANT_KINDS = (FailureKind.CODE, FailureKind.DATA, FailureKind.OOM)
"""Failures that runs of one submission may share."""


class Answers:
    """The answers to failures in an attempt, and what follows from them for it."""

    def __init__(self, attempt: Attempt, breaker: Breaker, *, elsewhere: bool):
        """elsewhere: whether there are other nodes."""
        self.attempt = attempt
        self.breaker = breaker
        self.elsewhere = elsewhere
        self.is_away = False
        """Whether the remaining runs have to go to another node."""
        self.found_nothing = False
        """Whether a worker has found nothing to begin with, and no run has become free again since."""
        self._stays = not elsewhere

    def stay(self) -> None:
        """From now on the remaining runs stay on this node, whatever fails."""
        self._stays, self.is_away = True, False

    def answer(
        self,
        run: RunFolder,
        kind: FailureKind,
        reason: str,
        *,
        at: Attempt | None = None,
        took: float | None = None,
        by_its_error: bool = False,
        node: str | None = None,
    ) -> None:
        """Make the run free for another start, or give it up.

        at: the attempt that failed, None for this one. took: seconds from the start to the failure. by_its_error:
        whether the run's own error.json says so. node: the one that failed; None is the attempt's first node.
        """
        at = at or self.attempt
        failed_at = replace(at, node=node or at.node)
        decision = answer_failure(run, kind, reason, at=failed_at, elsewhere=not self._stays, took=took)
        if decision.again:
            asked = run.asked()
            if asked is not None and decision.resources != asked.resources:
                run.ask(replace(asked, resources=decision.resources))
            (run.path / "error.json").unlink(missing_ok=True)  # From here on anybody may take it up.
            self.is_away = self.is_away or (decision.away and not self._stays and at.node == self.attempt.node)
            self.found_nothing = False
            return
        if by_its_error and run.error() is None:
            return  # somebody has submitted it again meanwhile, and it is another job's
        self.give_up(run, kind, f"{_sentence(reason)} {_sentence(decision.says)}", took=took)

    def give_up(self, run: RunFolder, kind: FailureKind, reason: str, *, took: float | None = None) -> None:
        run.write_error(kind, reason, noted=True)
        if took is not None and took < INSTANT_SECONDS and kind in _INSTANT_KINDS:
            self.breaker.note(run, kind, reason)


def _sentence(words: str) -> str:
    """With a capital and a full stop; a path, id or setting that comes first stays as it is."""
    if not words:
        return ""
    first = words.split(maxsplit=1)[0]
    begun = f"{words[:1].upper()}{words[1:]}" if first.strip(",;").isalpha() else words
    return f"{begun}{'' if words.endswith(('.', '!', '?')) else '.'}"
