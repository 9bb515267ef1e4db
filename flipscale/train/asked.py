"""What was asked of a run, and what was spent on the line of runs that it goes on from."""

from typing import Any

from flipscale.plan import stage
from flipscale.run import RunFolder

_SPENT = ("samples", "train_seconds", "cpu_seconds", "gpu_hours")
"""What the result of a child says of its parent: what it cost to come to where the child began."""


def asked_of(run: RunFolder) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings of what the run itself trains, and the resources it may use."""
    asked = run.asked()
    assert asked is not None
    return stage(asked["settings"]), asked.get("resources") or {}


def parent_of(run: RunFolder) -> RunFolder | None:
    """The run whose weights this one starts from: its folder is beside this one."""
    parents = (run.asked() or {}).get("parents") or []
    return RunFolder(run.path.parent / parents[0]) if parents else None


def spent_before(parent: RunFolder | None) -> dict[str, dict[str, str | float | None]]:
    """What was spent before the run began: by its parent, and by the parent's own."""
    if parent is None:
        return {}
    result = parent.result() or {}
    grandparents = result.get("parent") or {}
    spent: dict[str, float | None] = {}
    for name in _SPENT:
        parts = [part[name] for part in (result, grandparents) if part.get(name) is not None]
        # What the parent did not measure is not known of the line either.
        spent[name] = sum(parts) if result.get(name) is not None else None
    return {"parent": {"id": parent.id, **spent}}
