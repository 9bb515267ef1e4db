"""Study against study for people and programs: what the two share, what differs, then the comparison."""

from collections.abc import Mapping

from flipscale.compare.as_json import comparison_json
from flipscale.compare.layout import AsTable, aligned, comparison_markdown, comparison_text, markdown
from flipscale.compare.same_cells import SameCells, SettingChange
from flipscale.compare.study_pair import StudyPair
from flipscale.words import count, joined

_CELLS_LISTED = 6
_VALUES_LISTED = 3


def study_pair_text(pair: StudyPair) -> str:
    """All of it for a terminal."""
    return "\n\n".join([*_parts(pair.same, aligned), comparison_text(pair.comparison)])


def study_pair_markdown(pair: StudyPair) -> str:
    """All of it as Markdown."""
    return "\n\n".join([*_parts(pair.same, markdown), comparison_markdown(pair.comparison)])


def study_pair_json(pair: StudyPair) -> dict[str, object]:
    """All of it in JSON's types; docs/compare.md lists the keys."""
    return {"schema": 1, **same_cells_json(pair.same), "comparison": comparison_json(pair.comparison)}


def same_cells_text(same: SameCells) -> str:
    """What two studies share, for a terminal."""
    return "\n\n".join(_parts(same, aligned))


def _parts(same: SameCells, as_table: AsTable) -> list[str]:
    """What two studies share and in what they differ, one paragraph or table each."""
    first, second = same.names
    shared = joined([*same.axes, "seed"])
    parts = [f"{second} against {first}: {count(len(same.pairs), 'pair')} of runs with the same {shared}."]
    if same.changes:
        parts.append("What differs within pairs:")
        parts.append(as_table(["setting", first, second, "pairs"], [_change_row(change) for change in same.changes]))
    elif same.pairs:
        parts.append("No setting differs within pairs.")
    if any(change.name == "evaluation" for change in same.changes):
        parts.append("The evaluations differ, so part of a difference may be that of the tests.")
    if same.same_runs:
        runs = count(len(same.same_runs), "run")
        parts.append(f"{runs} belong to both studies, so there is nothing to compare there.")
    parts += [_only(name, cells) for name, cells in zip(same.names, same.only, strict=True) if cells]
    return parts


def same_cells_json(same: SameCells) -> dict[str, object]:
    """The same in JSON's types."""
    first, second = same.names
    return {
        "studies": [first, second],
        "paired_by": [*same.axes, "seed"],
        "pairs": [list(ids) for ids in same.pairs],
        "differences": {
            change.name: {"values": [list(both) for both in change.values], "pairs": change.pairs}
            for change in same.changes
        },
        "same_runs": list(same.same_runs),
        "only": {name: dict(cells) for name, cells in zip(same.names, same.only, strict=True)},
    }


def _change_row(change: SettingChange) -> list[str]:
    """'4e-3, 2e-3', '2e-3, 1e-3': values of one pair of runs have the same position in both."""
    listed = change.values[:_VALUES_LISTED]
    more = [", ..."] * (len(change.values) > _VALUES_LISTED)
    columns = [", ".join(values) + "".join(more) for values in zip(*listed, strict=True)]
    return [change.name, *columns, str(change.pairs)]


def _only(name: str, cells: Mapping[str, int]) -> str:
    listed = [f"{cell or 'its only cell'} ({count(runs, 'run')})" for cell, runs in list(cells.items())[:_CELLS_LISTED]]
    more = f"; and {count(len(cells) - _CELLS_LISTED, 'more cell')}" if len(cells) > _CELLS_LISTED else ""
    return f"Only in {name}: {count(sum(cells.values()), 'run')}: {'; '.join(listed)}{more}."
