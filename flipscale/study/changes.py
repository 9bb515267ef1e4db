"""The keys in which two study files differ."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import yaml

from flipscale.study.study import Study

_LINE = 10_000  # Characters: wide enough for any value to stay on one line.


@dataclass(frozen=True)
class KeyChange:
    """A key that two study files give different values, or that only one of them has."""

    key: str
    """'base.lr', 'axes.samples'."""
    first: str | None
    """Its value as YAML on one line; None where the file does not have the key."""
    second: str | None


def key_changes(first: Study, second: Study) -> tuple[KeyChange, ...]:
    """The keys in which two files differ, in the order of the first; a list counts as one value."""
    return tuple(_changes("", first.document.data, second.document.data))


def _changes(at: str, first: Mapping[str, object], second: Mapping[str, object]) -> Iterator[KeyChange]:
    for name in dict.fromkeys((*first, *second)):
        key, mine, other = f"{at}{name}", first.get(name), second.get(name)
        if isinstance(mine, Mapping) and isinstance(other, Mapping):
            yield from _changes(f"{key}.", mine, other)
        elif name not in first or name not in second or mine != other:
            yield KeyChange(key, _text(mine) if name in first else None, _text(other) if name in second else None)


def _text(value: object) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=_LINE, sort_keys=False, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")
