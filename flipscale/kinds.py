"""How values of files are read: records, their options, and the kinds of value that these take.

A record is a frozen dataclass whose fields `option` gives a sentence and a default. pydantic reads a mapping into it,
finds all faults at once and derives the JSON Schema. This module adds what a study's author writes (400M, 30m, a list
of one) and says faults in words. pydantic loads when a value is read first: `--help` takes records, and reads none.
"""

import copy
import dataclasses
import fractions
import functools
import json
import math
import operator
import re
import shlex
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, TypeGuard, TypeVar

from flipscale.errors import did_you_mean
from flipscale.words import with_article

if typing.TYPE_CHECKING:
    from pydantic import TypeAdapter, ValidationError

Path_ = tuple[str | int, ...]
"""The path of a value in a document: the keys and list positions that lead to it."""

Complain = Callable[[Path_, str], None]
"""Takes the path of a value in the document and its fault."""

JsonSchema = dict[str, Any]
"""A JSON Schema, or a part of one."""

JsonObject = dict[str, Any]
"""A JSON object as it was read, or as it will be written."""

Item = TypeVar("Item")

INVALID = object()
"""The value of what was complained about."""

_TOO_MANY = 1e18
"""Every count is below this: beyond it, sums of counts no longer fit the 64 bits of a results table."""


def is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


# Options of records


@dataclass(frozen=True)
class Option:
    """A key of a record."""

    name: str
    type: Any
    says: str
    """A sentence about it."""
    required: bool
    default: Any = None
    rule: str | None = None
    """An expression that gives the value where a study gives none."""
    needs: str | None = None
    """The setting without which this one does nothing: while that is at its default, this is not part of an id.

    A mask_ratio in the tuning counts as one of the run, and so do samples of a tuning or a fine-tuning.
    """
    place: bool = False
    """Whether it says where something is or how to get at it, not what it is: then it is not part of an id."""
    unit: str = ""
    late: bool = False
    """Whether results have its column only where it is not at its default: they are older than it."""


def option(says: str, default: Any = dataclasses.MISSING, **more: Any) -> Any:
    """A field of a record with its sentence; without a default it is required. `more`: as in `Option`."""
    metadata = {"description": says, **more}
    if isinstance(default, list | dict):
        return field(default_factory=functools.partial(copy.copy, default), metadata=metadata, hash=False)
    return field(default=default, metadata=metadata)


def options_of(record: Any) -> Mapping[str, Option]:
    """The options of a record by name, in its order."""
    return _options(record)


@functools.cache
def _options(record: Any) -> Mapping[str, Option]:
    options = {}
    for each in dataclasses.fields(record):
        more = dict(each.metadata)
        default = each.default if each.default_factory is dataclasses.MISSING else each.default_factory()
        is_missing = default is dataclasses.MISSING
        options[each.name] = Option(
            each.name,
            each.type,
            more.pop("description", ""),
            required=is_missing and "rule" not in more,
            default=None if is_missing else default,
            **more,
        )
    return options


class Declared:
    """A frozen dataclass that is written as a mapping of its options; null stands for their defaults."""

    kind: ClassVar[str | None] = None
    """The key under which it is written, where it is one of several kinds."""
    short: ClassVar[str | None] = None
    """The option that a value without keys stands for: `{webdataset: "a/{0..9}.tar"}` gives its urls."""
    called: ClassVar[str | None] = None
    """Its name in complaints, if neither that kind nor the name of the class."""
    __pydantic_config__: ClassVar[Mapping[str, str]] = {"extra": "forbid"}

    @classmethod
    def noun(cls) -> str:
        return cls.called or cls.kind or re.sub(r"(?<=[a-z])(?=[A-Z])", "_", cls.__name__).lower()

    @classmethod
    def _read(cls, value: Any, read_options: Callable[[Any], Any]) -> Any:
        from pydantic import ValidationError

        if cls.short and isinstance(value, str | int | float | list) and not isinstance(value, bool):
            value = {cls.short: value}
        value = {} if value is None else value
        options = options_of(cls)
        noun = cls.noun()
        if not isinstance(value, dict):
            raise ValueError(f"{show(value)} gives no keys; {noun} takes {', '.join(options)}")
        faults: list[tuple[Path_, str]] = [
            ((key,), f"unknown key '{key}' in {noun}; {did_you_mean(key, options)}")
            for key in value
            if key not in options
        ]
        lacking = [each for each in options.values() if each.required and each.name not in value]
        faults += [((), f"{noun} lacks '{each.name}'; add it: {each.says}") for each in lacking]
        try:
            made = read_options({key: inner for key, inner in value.items() if key in options})
        except ValidationError as error:
            faults += _faults_of(error)
        if faults:
            raise Faults(faults)
        return made

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        from pydantic_core.core_schema import no_info_wrap_validator_function

        # pydantic knows a dataclass again by its reference, which has to lead to all of this.
        fields = dict(handler.resolve_ref_schema(handler(source)))
        return no_info_wrap_validator_function(cls._read, fields, ref=fields.pop("ref"))

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: Any, handler: Any) -> JsonSchema:
        short = [schema_of(options_of(cls)[cls.short].type)] if cls.short else []
        return {"anyOf": [handler(schema), {"type": "null"}, *short]}


@dataclass(frozen=True)
class OneOf:
    """Marks a union of records: a mapping with exactly one of their kinds; the bare name stands for its defaults."""

    noun: str

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        from pydantic_core.core_schema import no_info_before_validator_function, tagged_union_schema

        kinds = kinds_of(source)
        choices: dict[Any, Any] = {
            kind: no_info_before_validator_function(operator.itemgetter(kind), handler.generate_schema(record))
            for kind, record in kinds.items()
        }
        union = tagged_union_schema(choices, lambda value: next(iter(value)))
        return no_info_before_validator_function(functools.partial(self._named, kinds), union)

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> JsonSchema:
        choices = schema["schema"]["choices"]
        full = [
            {"type": "object", "additionalProperties": False, "required": [kind], "properties": {kind: handler(choice)}}
            for kind, choice in choices.items()
        ]
        return {"anyOf": [{"enum": list(choices)}, *full]}

    def _named(self, kinds: Mapping[str, type[Declared]], value: Any) -> Any:
        if isinstance(value, str):
            value = {value: None}
        if not isinstance(value, dict) or len(value) != 1:
            raise ValueError(f"{show(value)} is not {with_article(self.noun)}; name one of {', '.join(kinds)}")
        (name,) = value
        if name not in kinds:
            right = _as_a_file(str(name), kinds) or did_you_mean(name, kinds)
            raise ValueError(f"'{name}' is not {with_article(self.noun)}; {right}")
        return value


def kinds_of(union: Any) -> dict[str, type[Declared]]:
    """The records of a union by their kinds."""
    return {record.kind: record for record in typing.get_args(union)}


_KIND_OF_FILE = {".tar": "webdataset", ".csv": "captions", ".tsv": "captions", ".jsonl": "captions"}
"""The kind of data set that a file with this ending is declared as."""


def _as_a_file(name: str, kinds: Mapping[str, type[Declared]]) -> str:
    """How to write a file of one of these kinds: 'write {webdataset: x.tar}'; '' for any other name."""
    kind = next((kind for ending, kind in _KIND_OF_FILE.items() if name.lower().endswith(ending)), "")
    return f"write {{{kind}: {name}}}" if kind in kinds and kinds[kind].short else ""


# Reading, and faults in words


class Faults(ValueError):
    """The faults of a value, each with its path inside it."""

    def __init__(self, found: Sequence[tuple[Path_, str]]):
        super().__init__("; ".join(what for _, what in found))
        self.found = found


@functools.cache
def _adapter(kind: Any) -> "TypeAdapter[Any]":
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def read(kind: Any, value: Any, at: Path_, complain: Complain) -> Any:
    """A value of a type or record; INVALID after complaints about all of its faults."""
    from pydantic import ValidationError

    try:
        return _adapter(kind).validate_python(value)
    except ValidationError as error:
        for path, what in _faults_of(error, at):
            complain(path, what)
        return INVALID


def checked(kind: Any, value: Any) -> Any:
    """A value of a type or record. Raises Faults."""
    faults: list[tuple[Path_, str]] = []
    made = read(kind, value, (), lambda at, what: faults.append((at, what)))
    if faults:
        raise Faults(faults)
    return made


def record_of(kind: type[Item], data: object, *, leniently: bool = False) -> Item:
    """JSON that a program wrote, as a dataclass or another type; keys that this does not know are ignored.

    ValueError names the first fault. `leniently`, an entry of another type counts as missing.
    """
    from pydantic import ValidationError

    try:
        made: Item = _program_adapter(kind).validate_python((data,))[0]  # type: ignore[arg-type]  # a type can be hashed
        return made
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
    path = fault["loc"][1:]
    cause = fault.get("ctx", {}).get("error")
    if not path:
        raise ValueError(str(cause or "holds no JSON object"))
    if leniently and isinstance(data, dict) and path[0] in data:
        return record_of(kind, {name: value for name, value in data.items() if name != path[0]}, leniently=True)
    name = repr(".".join(map(str, path)))
    if fault["type"] == "missing":
        raise ValueError(f"has no {name}")
    raise ValueError(f"{name}: {cause}" if str(cause or "") else f"{name} is {show(fault['input'])}")


@functools.cache
def _program_adapter(kind: Any) -> "TypeAdapter[Any]":
    from pydantic import TypeAdapter

    return TypeAdapter(tuple[kind], config={"allow_inf_nan": False})  # A dataclass by itself takes no config.


def schema_of(kind: Any) -> JsonSchema:
    """The JSON Schema of a type that has no records inside it."""
    return _adapter(kind).json_schema()


def schemas_of(kinds: Mapping[str, object]) -> tuple[dict[str, JsonSchema], JsonSchema]:
    """The JSON Schemas of types by name, and the definitions that they refer to."""
    from pydantic import TypeAdapter

    schemas, shared = TypeAdapter.json_schemas([(name, "validation", _adapter(kind)) for name, kind in kinds.items()])
    return {name: schema for (name, _), schema in schemas.items()}, shared.get("$defs", {})


def _faults_of(error: "ValidationError", at: Path_ = ()) -> list[tuple[Path_, str]]:
    faults: list[tuple[Path_, str]] = []
    for fault in error.errors(include_url=False):
        path = (*at, *fault["loc"])
        cause = fault.get("ctx", {}).get("error")
        if isinstance(cause, Faults):
            faults += [((*path, *inside), what) for inside, what in cause.found]
        elif fault["type"] != "missing":  # Its record says more about it.
            faults.append((path, str(cause) if cause else _in_words(fault, path)))
    return faults


def _in_words(fault: Any, path: Path_) -> str:
    """A fault that pydantic found itself, and what would be right."""
    value = show(fault["input"])
    right = fault.get("ctx", {})
    match fault["type"]:
        case "within":
            if isinstance(fault["input"], bool) or not isinstance(fault["input"], int | float):
                return f"{value} is not a number; write {right['range']}"
            if right["most"] == 1 and 5 <= fault["input"] < 100:
                return f"{value} is out of range; write {fault['input'] / 100:g} for {value} %"
            return f"{value} is out of range; write {right['range']}"
        case "bool_type":
            return f"{value} is neither true nor false; write one of them"
        case "string_type" | "string_pattern_mismatch":
            return f"{value} is not a text; write one, in quotes if YAML would read it otherwise"
        case "literal_error":
            name = next((part for part in reversed(path) if isinstance(part, str)), "this")
            choices = re.findall("'(.*?)'", right["expected"])
            return f"{value} is not a choice of {name}; {did_you_mean(fault['input'], choices)}"
        case "too_short":
            return "an empty list says nothing; write at least one value, or leave the key out"
        case "dict_type":
            return f"{value} gives no names; write {{NAME: ...}}"
    return f"{value}: {fault['msg']}"


def show(value: Any) -> str:
    """A value as a complaint quotes it: as it was written, and not too long."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if dataclasses.is_dataclass(value) and hasattr(value, "kind"):
        value = {value.kind: vars(value)} if value.kind else vars(value)
    if isinstance(value, dict):
        return f"a mapping of {', '.join(map(str, value)) or 'nothing'}"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}" if value else "an empty list"
    if isinstance(value, str):
        return f"'{value}'" if len(value) <= 60 else f"'{value[:57]}...'"
    return f"{value:.12g}" if isinstance(value, float) else str(value)


# Kinds of value


@dataclass(frozen=True)
class By:
    """Marks a type whose values a function reads: it returns one, or raises ValueError with a sentence."""

    reads: Callable[[Any], Any]
    schema: JsonSchema | Callable[[], JsonSchema] = field(default_factory=dict, hash=False, compare=False)

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        from pydantic_core.core_schema import no_info_plain_validator_function

        return no_info_plain_validator_function(self.reads)

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> JsonSchema:
        return copy.deepcopy(self.schema() if callable(self.schema) else self.schema)  # pydantic writes into it.


@dataclass(frozen=True, eq=False)
class Among:
    """Marks a text that is one of a few names."""

    names: Iterable[str]

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        from pydantic_core.core_schema import literal_schema

        return literal_schema(list(self.names))


@dataclass(frozen=True)
class Within:
    """Marks a number between bounds, by the names that pydantic gives them."""

    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        from pydantic_core.core_schema import custom_error_schema, float_schema

        number = float_schema(strict=True, allow_inf_nan=False, **vars(self))
        words = {"gt": "above", "ge": "from", "lt": "below", "le": "up to"}
        bounds = [f"{words[name]} {bound:g}" for name, bound in vars(self).items() if bound is not None]
        most = self.lt if self.le is None else self.le
        context = {"range": " ".join(["a number", *bounds]), "most": most}
        return custom_error_schema(number, "within", custom_error_message="{range}", custom_error_context=context)


Number = Annotated[float, Within()]
NotNegative = Annotated[float, Within(ge=0)]
Positive = Annotated[float, Within(gt=0)]
Share = Annotated[float, Within(ge=0, lt=1)]
"""A part that is not all."""
Fraction = Annotated[float, Within(gt=0, le=1)]
"""A part that is not nothing."""


@dataclass(frozen=True, eq=False)
class _With:
    """Adds to the schema that pydantic has of a type."""

    schema: JsonSchema

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        return handler(source) | self.schema


Flag = Annotated[bool, _With({"strict": True})]
"""No other value is made one: 'yes' is not true."""
Text = Annotated[str, _With({"pattern": r"\S"})]
"""A text that is not empty."""
Integer = Annotated[int, _With({"ge": -(2**63), "lt": 2**63})]
"""A whole number that a table can hold."""


@dataclass(frozen=True)
class OrElse:
    """Marks what has another value where that of a file is damaged."""

    value: Any

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        from pydantic_core.core_schema import with_default_schema

        return with_default_schema(handler(source), default=self.value, on_error="default")


@dataclass(frozen=True)
class _Listed:
    """Marks a list; one value alone is a list of it."""

    least: int

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        from pydantic_core.core_schema import no_info_before_validator_function

        several = handler(source) | {"min_length": self.least}
        return no_info_before_validator_function(lambda value: value if isinstance(value, list) else [value], several)

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> JsonSchema:
        several = handler(schema)
        return {"anyOf": [several["items"], several]}


Some = Annotated[list[Item], _Listed(1)]
Listed = Annotated[list[Item], _Listed(0)]
"""A list that may be empty."""


def some(kind: Any) -> Any:
    return Some[kind]


def whole(value: Any, least: int = 1, *, null: bool = False) -> Any:
    """A whole number, written 400M, 4e8 or 400000000; with `null`, none too."""
    if value is None and null:
        return None
    number = _written_number(value) if isinstance(value, str) else value
    if is_broken(number):
        raise ValueError(f"{show(value)} is not a whole number; write {math.floor(number)} or {math.ceil(number)}")
    if isinstance(number, float) and math.isfinite(number):
        number = round(number)
    if isinstance(number, bool) or not isinstance(number, int):
        raise ValueError(f"{show(value)} is not a count; write 400M, 4e8 or 400000000")
    if number < least:
        raise ValueError(f"{show(value)} is too small; write a count of {least} or more")
    if number >= _TOO_MANY:
        raise ValueError(f"{show(value)} is too large; write a count below {_TOO_MANY:g}")
    return number


def count_from(least: int, *, null: bool = False) -> By:
    """Marks whole numbers from this one on."""
    pattern = r"^\s*\d+(\.\d+)?([eE]\+?\d+|\s*[kKMBGT])?\s*$"
    kinds: list[JsonSchema] = [{"type": "number", "minimum": least}, {"type": "string", "pattern": pattern}]
    return By(
        functools.partial(whole, least=least, null=null), {"anyOf": [*kinds, {"type": "null"}] if null else kinds}
    )


Count = Annotated[int, count_from(1)]
Whole = Annotated[int, count_from(0)]


def _written_number(text: str) -> Any:
    """12.8B or 4e8 as a number; the text where it is none."""
    written = re.fullmatch(r"\s*(\d{1,50}(?:\.\d{1,50})?(?:[eE]\+?\d+)?)\s*([kKMBGT])?\s*", text)
    if not written or (written[2] and "e" in written[1].lower()):
        return text
    return number_of(written[1], written[2]) if written[2] else float(written[1])


def number_in(text: str) -> int | float | None:
    """12.8B, 4e8 or -0.5 as a number; None where the text is none."""
    number: int | float | str = _written_number(text)
    if not isinstance(number, str):
        return number
    try:
        return float(number)
    except ValueError:
        return None


SUFFIX_FACTORS = {"k": 10**3, "K": 10**3, "M": 10**6, "B": 10**9, "G": 10**9, "T": 10**12}


def number_of(digits: str, suffix: str) -> int | float:
    """12.8 and 'B' as 12800000000, exactly."""
    number = fractions.Fraction(digits) * SUFFIX_FACTORS[suffix]
    return number.numerator if number.denominator == 1 else float(number)


def is_broken(value: object) -> bool:
    """Whether it is a number, and not a whole one."""
    if not isinstance(value, float) or not math.isfinite(value):
        return False
    return not math.isclose(value, round(value), rel_tol=1e-12)


def holds(kind: Any, number: type[int | float]) -> bool:
    """Whether a type holds whole numbers (int), or numbers (float)."""
    return kind is number or any(holds(inner, number) for inner in typing.get_args(kind))


@dataclass(frozen=True)
class Compute:
    """Training FLOPs that a schedule is to take: each cell sees as many samples as they pay for."""

    flops: float

    def __str__(self) -> str:
        mantissa, exponent = f"{self.flops:.11e}".split("e")
        return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)} FLOPs"


def schedule(value: Any) -> int | Compute:
    """The length of a schedule: a count of samples, or training FLOPs, written 1e15 FLOPs."""
    written = re.fullmatch(r"\s*(\d{1,50}(?:\.\d{1,50})?(?:[eE]\+?\d{1,3})?)\s*FLOPs\s*", str(value))
    if not written:
        return whole(value, 0)  # type: ignore[no-any-return]
    flops = float(written[1])
    if not 0 < flops < _TOO_MANY**2:
        raise ValueError(f"{show(value)} is out of range; write FLOPs above 0 and below {_TOO_MANY**2:g}")
    return Compute(flops)


_OF_FLOPS = {"type": "string", "pattern": r"^\s*\d+(\.\d+)?([eE]\+?\d+)?\s*FLOPs\s*$"}
Schedule = Annotated[int, By(schedule, {"anyOf": [*count_from(0).schema["anyOf"], _OF_FLOPS]})]


@dataclass(frozen=True)
class PartOfRun:
    """A share of a run's own samples, written 20 %: each cell has as many samples as that is."""

    share: float

    def __str__(self) -> str:
        return f"{100 * self.share:.12g} %"


def part_of_run(value: Any) -> int | PartOfRun:
    """A count of samples, or a share of the run's, written 20 %."""
    written = re.fullmatch(r"\s*(\d{1,3}(?:\.\d{1,50})?)\s*%\s*", value) if isinstance(value, str) else None
    if written and float(written[1]) <= 100:
        return PartOfRun(float(written[1]) / 100)
    if isinstance(value, float) and 0 < value < 1:
        raise ValueError(f"{show(value)} is no count; write {PartOfRun(value)} for a share of the run's samples")
    return whole(value, 0)  # type: ignore[no-any-return]


_PERCENT = {"type": "string", "pattern": r"^\s*\d+(\.\d+)?\s*%\s*$"}
SamplesOfRun = Annotated[int, By(part_of_run, {"anyOf": [*count_from(0).schema["anyOf"], _PERCENT]})]


def stage_length(value: Any) -> int | float:
    """A part of a run's samples: a count, or a share of them, written 60 % or 0.6."""
    length = value if isinstance(value, float) else part_of_run(value)
    share = length.share if isinstance(length, PartOfRun) else length
    return share if isinstance(share, float) and 0 < share < 1 else whole(value)


_BELOW_1: JsonSchema = {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}
StageLength = Annotated[Any, By(stage_length, {"anyOf": [*count_from(1).schema["anyOf"], _PERCENT, _BELOW_1]})]


def duration(value: Any, *, never: bool = False, seconds: bool = False) -> int | str:
    """A time span in seconds, written 90s, 30m, 4h or 2d; with `never`, that word too; with `seconds`, a whole number
    of them."""
    if never and value == "never":
        return "never"
    if seconds and isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**31:
        return value
    written = re.fullmatch(r"\s*(\d{1,50}(?:\.\d{1,50})?)\s*([smhd])\s*", value) if isinstance(value, str) else None
    span = round(float(written[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[written[2]]) if written else 0
    if not span:
        raise ValueError(f"{show(value)} is not a time; write 90s, 30m, 4h or 2d{', or never' if never else ''}")
    return span


_SECONDS: JsonSchema = {"type": "integer", "exclusiveMinimum": 0}
_SPAN: JsonSchema = {"type": "string", "pattern": r"^\s*\d+(\.\d+)?\s*[smhd]\s*$"}
Duration = Annotated[int, By(duration, _SPAN)]
DurationOrNever = Annotated[
    int | str,
    By(functools.partial(duration, never=True, seconds=True), {"anyOf": [_SPAN, _SECONDS, {"const": "never"}]}),
]
Seconds = Annotated[int, By(functools.partial(duration, seconds=True), {"anyOf": [_SPAN, _SECONDS]})]
"""A duration, or a whole number of seconds."""


def every(value: Any) -> int | str:
    """The seconds between two events, written every 5m or 5m, or a whole number of them."""
    return duration(value.removeprefix("every ") if isinstance(value, str) else value, seconds=True)


_EVERY: JsonSchema = {"type": "string", "pattern": r"^(every )?\s*\d+(\.\d+)?\s*[smhd]\s*$"}
Every = Annotated[int, By(every, {"anyOf": [_EVERY, _SECONDS]})]


def _name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z]\w*", str(value)):
        raise ValueError(f"{show(value)} is not a name; write letters, digits and _, a letter first")
    return value


Named = dict[Annotated[str, By(_name, {"type": "string", "pattern": r"^[A-Za-z]\w*$"})], Item]
"""Values by names that the author chooses."""


def command_words(value: Any, kind: Any = Some[Text]) -> list[str]:
    """The words of a command, as a list; one word alone is a list of it. No shell splits a text into words."""
    if isinstance(value, str) and len(words := value.split()) > 1:
        plain_word = re.compile(r"[A-Za-z_./][\w./=-]*")
        listed = ", ".join(word if plain_word.fullmatch(word) else json.dumps(word) for word in words)
        raise ValueError(f"{show(value)} is a whole command in one text; write a list of its words: [{listed}]")
    return checked(kind, value)  # type: ignore[no-any-return]


def trainer_words(value: Any) -> list[str]:
    """The words of a training command: a text is split as a shell would split it, and numbers in a list are words."""
    if isinstance(value, str):
        try:
            value = shlex.split(value)
        except ValueError as error:
            raise ValueError(f"{show(value)} cannot be split into words ({error}); close the quote") from None
    if isinstance(value, list):
        value = [f"{each}" if is_plain_number(each) else each for each in value]
    return checked(Some[Text], value)  # type: ignore[no-any-return]


def is_plain_number(value: object) -> bool:
    """Whether it is a number, and neither true nor false."""
    return isinstance(value, int | float) and not isinstance(value, bool)
