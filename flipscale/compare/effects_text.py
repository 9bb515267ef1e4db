"""How deltas read: a table of cells, their steps on top of others, and which interactions are absent."""

from flipscale.compare.columns import settings_words
from flipscale.compare.effects import Deltas
from flipscale.compare.estimates import Estimate
from flipscale.compare.layout import aligned
from flipscale.words import short, signed


def deltas_text(deltas: Deltas) -> str:
    """All of it for a terminal."""
    rows = [
        [cell.name, f"{cell.score:.4g}", _cell(cell.delta), *_joint(cell.changed, cell.singles, cell.interaction)]
        for cell in deltas.cells
    ]
    parts = [
        f"{deltas.y} is {deltas.reference:.4g} at {settings_words(deltas.baseline)}. From there:",
        aligned(["cell", deltas.y, "delta", "sum of singles", "interaction"], rows),
        *_steps(deltas),
        *_absent(deltas),
        *_legend(deltas),
    ]
    if deltas.left_out:
        parts.append("Left out: " + "; ".join(f"{row}: {why}" for row, why in deltas.left_out.items()))
    return "\n\n".join(parts) + "\n"


def _joint(changed: tuple[str, ...], *estimates: Estimate) -> list[str]:
    """Cells that only a joint step has."""
    return [_cell(estimate) if len(changed) > 1 else "" for estimate in estimates]


def _steps(deltas: Deltas) -> list[str]:
    steps = [
        [f"{step.axis}={short(step.value)}", step.onto, _cell(step.delta)]
        for cell in deltas.cells
        for step in cell.steps
        if step.delta.mean is not None
    ]
    if not steps:
        return []
    return ["One more setting on top of others:", aligned(["setting", "on top of", "delta"], steps)]


def _absent(deltas: Deltas) -> list[str]:
    absent = {
        f"- {cell.name}: no interaction, as {cell.interaction.why}"
        for cell in deltas.cells
        if len(cell.changed) > 1 and cell.interaction.mean is None
    }
    return ["\n".join(sorted(absent))] if absent else []


def _legend(deltas: Deltas) -> list[str]:
    estimates = [cell.delta for cell in deltas.cells]
    parts = []
    if any(estimate.interval for estimate in estimates):
        parts.append("Brackets are uncorrected 95 % CIs over seeds.")
    if any(estimate.n == 1 for estimate in estimates):
        parts.append("Numbers without brackets are of one seed, which gives no CI.")
    return parts


def _cell(estimate: Estimate) -> str:
    """The mean and its interval, rounded to 10 decimals first: a sum of decimals ends in float dust."""
    if estimate.mean is None:
        return "-"
    mean, *ends = (signed(round(value, 10)) for value in (estimate.mean, *(estimate.interval or [])))
    return f"{mean} [{', '.join(ends)}]" if ends else mean
