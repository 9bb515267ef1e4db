"""What `doctor` says about a thing that flipscale or a study needs: its health, what was found, and what to do."""

from dataclasses import asdict, dataclass
from enum import StrEnum


class Health(StrEnum):
    """The state of a thing."""

    OK = "ok"
    WARNING = "warning"
    """Nothing stops, but a person should know."""
    PROBLEM = "problem"
    """Runs would fail."""


@dataclass(frozen=True)
class Diagnosis:
    """One line of `doctor`."""

    health: Health
    subject: str
    """What was looked at: 'torch', 'data'."""
    found: str
    advice: str = ""
    """What to do; '' where nothing is to be done."""

    def to_dict(self) -> dict[str, str]:
        return asdict(self)


def ok(subject: str, found: str, advice: str = "") -> Diagnosis:
    return Diagnosis(Health.OK, subject, found, advice)


def warning(subject: str, found: str, advice: str = "") -> Diagnosis:
    return Diagnosis(Health.WARNING, subject, found, advice)


def problem(subject: str, found: str, advice: str = "") -> Diagnosis:
    return Diagnosis(Health.PROBLEM, subject, found, advice)
