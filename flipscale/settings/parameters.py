"""Settings of a user's own program: the parameters that a study declares, beside the settings of flipscale's own.

    parameters: {depth: 8, norm: layer, tokens: 100M}

`record_for` gives the settings of such a study as a record, so that all that reads a setting by its name reads a
parameter too. A program need not train CLIP: where the study names no model, samples or batch size, none is asked for.
"""

import functools
import keyword
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import make_dataclass
from typing import Annotated, Any

from flipscale.kinds import By, Flag, JsonSchema, Text, count_from, is_broken, option, options_of, show, whole
from flipscale.scores import is_own_score
from flipscale.settings.declarations import Settings

FLIPSCALES = options_of(Settings)
"""The settings of flipscale's own."""

CLIP = tuple(name for name, setting in FLIPSCALES.items() if setting.required)
"""Those that a study of CLIP gives: without one of them it is a study of something else."""

_RESERVED = ("seed", "folder", "trainer", "evaluation", "parameters")
"""Names that a parameter cannot have: flipscale gives these values itself."""

_COUNT: JsonSchema = count_from(0).schema  # type: ignore[assignment]


def _number(value: Any) -> int | float:
    """A number; a whole one is whole however it is written: 100M, 1e8, 100000000."""
    if isinstance(value, str):
        return whole(value, 0)  # type: ignore[no-any-return]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{show(value)} is not a number, as this parameter's default is; write one, such as 8 or 100M")
    return value if is_broken(value) else round(value)


_Number = Annotated[float, By(_number, _COUNT)]


def _kind(value: Any) -> Any:
    """The type of a parameter with this value. ValueError for one that no parameter can have."""
    if isinstance(value, bool):
        return Flag
    if isinstance(value, int | float):
        return _Number
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{show(value)} is not a parameter's value; write a number, a count, a text, true or false")
    try:
        _number(value)
    except ValueError:
        return Text
    return _Number


def faults_of_parameters(given: Mapping[str, Any], taken: Collection[str]) -> Iterator[tuple[str, str]]:
    """The parameters that cannot be, each with its fault. taken: the names of other columns of results.csv."""
    for name, value in given.items():
        if not name.isidentifier() or keyword.iskeyword(name):
            yield name, f"'{name}' is not a name; write letters, digits and _, a letter first"
        elif name in _RESERVED:
            yield name, f"'{name}' is a value that flipscale gives itself; choose another name"
        elif name not in FLIPSCALES and (name in taken or is_own_score(name)):
            yield name, f"'{name}' is a column of results.csv; choose another name"
        else:
            try:
                _kind(value)
            except ValueError as error:
                yield name, str(error)


def record_for(parameters: Mapping[str, Any], named: Collection[str]) -> type[Settings]:
    """The record of settings with these parameters, by their defaults; Settings itself without any.

    named: the settings that the study, or a run's file, gives a value. Without a model, samples and batch size, or with
    a parameter of the name of one of flipscale's settings, they are not those of a CLIP.
    """
    if not parameters:
        return Settings
    is_clip = set(CLIP) <= set(named) and not FLIPSCALES.keys() & parameters
    return _record(tuple((name, _kind(value)) for name, value in parameters.items()), is_clip)


@functools.cache
def _record(parameters: tuple[tuple[str, Any], ...], is_clip: bool) -> type[Settings]:
    names = tuple(name for name, _ in parameters)
    fields: list[tuple[str, Any, Any]] = []
    if not is_clip:
        unasked = [setting for setting in FLIPSCALES.values() if setting.required or setting.rule]
        unasked = [setting for setting in unasked if setting.name not in names]
        fields = [(setting.name, setting.type | None, option(setting.says, None)) for setting in unasked]
    fields += [(name, kind, option("a parameter of the study's own program")) for name, kind in parameters]
    namespace = {"parameter_names": names, "is_clip": is_clip}
    return make_dataclass("Settings", fields, bases=(Settings,), namespace=namespace, frozen=True, kw_only=True)
