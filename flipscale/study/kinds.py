"""Kinds of value in a study file: each reads one from plain data, complains in words, and knows its JSON Schema."""

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Protocol

from flipscale.architecture import known_models, own_image_size
from flipscale.cost import flops_per_sample
from flipscale.errors import FlipscaleError, did_you_mean
from flipscale.scores import is_score, set_and_score
from flipscale.settings import plain
from flipscale.study.document import Path_
from flipscale.study.expression import number_of
from flipscale.words import short, with_article

_TOO_MANY = 1e18
"""Every count is below this: beyond it, sums of counts no longer fit the 64 bits of a results table."""

Complain = Callable[[Path_, str], None]
"""Takes the path of a value in the document and its fault."""

JsonSchema = dict[str, Any]
"""A JSON Schema, or a part of one."""

INVALID = object()
"""What a kind returns for a value that it has complained about."""


class Kind(Protocol):
    """A kind of value. `read` returns the value in its one canonical form, or complains and returns INVALID."""

    def read(self, value: Any, at: Path_, complain: Complain) -> Any: ...

    def schema(self) -> JsonSchema: ...


@dataclass(frozen=True)
class Count:
    """A whole number, written 400M, 4e8 or 400000000."""

    least: int = 1

    def read(self, value: Any, at: Path_, complain: Complain) -> Any:
        number = _written_number(value) if isinstance(value, str) else value
        if isinstance(number, float) and math.isfinite(number) and not is_broken(number):
            number = round(number)
        wrong = self._wrong(number)
        if wrong:
            complain(at, f"{show(value)} {wrong}")
            return INVALID
        return number

    def _wrong(self, number: Any) -> str:
        """Its fault, or ''."""
        if is_broken(number):
            return f"is not a whole number; write {math.floor(number)} or {math.ceil(number)}"
        if isinstance(number, bool) or not isinstance(number, int):
            return "is not a count; write 400M, 4e8 or 400000000"
        if number < self.least:
            return f"is too small; write a count of {self.least} or more"
        return "" if number < _TOO_MANY else f"is too large; write a count below {_TOO_MANY:g}"

    def schema(self) -> JsonSchema:
        return {
            "anyOf": [
                {"type": "number", "minimum": self.least},
                {"type": "string", "pattern": r"^\s*\d+(\.\d+)?([eE]\+?\d+|\s*[kKMBGT])?\s*$"},
            ]
        }


@dataclass(frozen=True)
class Compute:
    """Training FLOPs that a schedule is to take: each cell sees as many samples as they pay for."""

    flops: float

    def samples(self, settings: Mapping[str, object]) -> int:
        """The samples that they pay for with these settings, one at least. Raises FlipscaleError where these have no
        cost."""
        return max(1, round(self.flops / flops_per_sample(SimpleNamespace(**settings))))

    def __str__(self) -> str:
        return f"{self.flops:.12g} FLOPs".replace("e+", "e")


@dataclass(frozen=True)
class Schedule:
    """The length of a schedule: a count of samples, or training FLOPs, written 1e15 FLOPs."""

    def read(self, value: Any, at: Path_, complain: Complain) -> Any:
        written = re.fullmatch(r"\s*(\d{1,50}(?:\.\d{1,50})?(?:[eE]\+?\d{1,3})?)\s*FLOPs\s*", str(value))
        if not written:
            return Count(0).read(value, at, complain)
        flops = float(written[1])
        if not 0 < flops < _TOO_MANY**2:
            complain(at, f"{show(value)} is out of range; write FLOPs above 0 and below {_TOO_MANY**2:g}")
            return INVALID
        return Compute(flops)

    def schema(self) -> JsonSchema:
        of_flops = {"type": "string", "pattern": r"^\s*\d+(\.\d+)?([eE]\+?\d+)?\s*FLOPs\s*$"}
        return {"anyOf": [*Count(0).schema()["anyOf"], of_flops]}


@dataclass(frozen=True)
class Number:
    """A number from `least` to `most`; either end may be excluded, or absent."""

    least: float = -math.inf
    most: float = math.inf
    above: bool = False
    below: bool = False

    def read(self, value: Any, at: Path_, complain: Complain) -> Any:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            complain(at, f"{show(value)} is not a number; write {self._range()}")
            return INVALID
        low = value <= self.least if self.above else value < self.least
        high = value >= self.most if self.below else value > self.most
        if low or high:
            percent = (
                f"{value / 100:g} for {value:g} %" if self.least == 0 and self.most == 1 and 5 <= value < 100 else ""
            )
            complain(at, f"{show(value)} is out of range; write {percent or self._range()}")
            return INVALID
        return float(value)

    def _range(self) -> str:
        low = f"{'above' if self.above else 'from'} {self.least:g}" if math.isfinite(self.least) else ""
        high = f"{'below' if self.below else 'up to'} {self.most:g}" if math.isfinite(self.most) else ""
        return f"a number {low} {high}".rstrip().replace("  ", " ")

    def schema(self) -> JsonSchema:
        schema: JsonSchema = {"type": "number"}
        if math.isfinite(self.least):
            schema["exclusiveMinimum" if self.above else "minimum"] = self.least
        if math.isfinite(self.most):
            schema["exclusiveMaximum" if self.below else "maximum"] = self.most
        return schema


@dataclass(frozen=True)
class Duration:
    """A time span, written 90s, 30m, 4h or 2d; read as seconds. With `never`, that word too; with `seconds`, a whole
    number of them."""

    never: bool = False
    seconds: bool = False

    def read(self, value: Any, at: Path_, complain: Complain) -> Any:
        is_seconds = self.seconds and isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**31
        if is_seconds or (self.never and value == "never"):
            return value
        written = re.fullmatch(r"\s*(\d{1,50}(?:\.\d{1,50})?)\s*([smhd])\s*", value) if isinstance(value, str) else None
        if written is None or not (
            seconds := round(float(written[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[written[2]])
        ):
            complain(at, f"{show(value)} is not a time; write 90s, 30m, 4h or 2d{', or never' if self.never else ''}")
            return INVALID
        return seconds

    def schema(self) -> JsonSchema:
        span = {"type": "string", "pattern": r"^\s*\d+(\.\d+)?\s*[smhd]\s*$"}
        number = [{"type": "integer", "exclusiveMinimum": 0}] if self.seconds else []
        never = [{"enum": ["never"]}] if self.never else []
        return {"anyOf": [span, *number, *never]} if number or never else span


@dataclass(frozen=True)
class Flag:
    """True or false."""

    def read(self, value: Any, at: Path_, complain: Complain) -> Any:
        if not isinstance(value, bool):
            complain(at, f"{show(value)} is neither true nor false; write one of them")
            return INVALID
        return value

    def schema(self) -> JsonSchema:
        return {"type": "boolean"}


@dataclass(frozen=True)
class Text:
    """A text; with `holds`, one that must contain it, or one of `names`."""

    holds: str = ""
    names: tuple[str, ...] = ()

    def read(self, value: Any, at: Path_, complain: Complain) -> Any:
        if not isinstance(value, str) or not value.strip():
            complain(at, f"{show(value)} is not a text; write one, in quotes if YAML would read it otherwise")
            return INVALID
        if self.holds not in value and value not in self.names:
            known = f", or write {' or '.join(self.names)}" if self.names else ""
            complain(at, f"{show(value)} lacks '{self.holds}'; put it where the class name goes{known}")
            return INVALID
        return value

    def schema(self) -> JsonSchema:
        text = {"type": "string", "minLength": 1} | ({"pattern": re.escape(self.holds)} if self.holds else {})
        return {"anyOf": [text, {"enum": list(self.names)}]} if self.names else text


@dataclass(frozen=True)
class Choice:
    """One of a few names."""

    names: tuple[str, ...]
    noun: str

    def read(self, value: Any, at: Path_, complain: Complain) -> Any:
        if value not in self.names:
            complain(at, f"{show(value)} is not {with_article(self.noun)}; {did_you_mean(value, self.names)}")
            return INVALID
        return value

    def schema(self) -> JsonSchema:
        return {"enum": list(self.names)}


@dataclass(frozen=True)
class ScoreName:
    """One of a few scores, of the main evaluation or, after a name and a dot, of another set."""

    names: tuple[str, ...]
    """Those of the main evaluation."""

    def read(self, value: Any, at: Path_, complain: Complain) -> Any:
        if not isinstance(value, str) or not is_score(value):
            near = did_you_mean(set_and_score(value)[1] if isinstance(value, str) else value, self.names)
            complain(at, f"{show(value)} is not a score; {near}")
            return INVALID
        return value

    def schema(self) -> JsonSchema:
        return {"anyOf": [{"enum": list(self.names)}, {"type": "string", "pattern": r"^[A-Za-z]\w*\.[A-Za-z]\w*$"}]}


@dataclass(frozen=True)
class ModelName:
    """A model flipscale can build and price: a ViT of open_clip's by its name, or one of the family ViT-w48d3-4."""

    def read(self, value: Any, at: Path_, complain: Complain) -> Any:
        if not isinstance(value, str):
            complain(at, f"{show(value)} is not a model's name; write one such as ViT-B-16 or ViT-w48d3-4")
            return INVALID
        try:
            own_image_size(value)  # Whether patches divide the image is a question of the whole cell.
        except FlipscaleError as error:
            complain(at, str(error))
            return INVALID
        return value

    def schema(self) -> JsonSchema:
        return {"anyOf": [{"enum": list(known_models())}, {"type": "string", "pattern": r"^ViT-w\d+d\d+-\d+$"}]}


@dataclass(frozen=True)
class Maybe:
    """A value of a kind, or null."""

    kind: Kind

    def read(self, value: Any, at: Path_, complain: Complain) -> Any:
        return None if value is None else self.kind.read(value, at, complain)

    def schema(self) -> JsonSchema:
        return {"anyOf": [{"type": "null"}, self.kind.schema()]}


@dataclass(frozen=True)
class ListOf:
    """A list of values of a kind; one value alone is a list of it."""

    kind: Kind

    def read(self, value: Any, at: Path_, complain: Complain) -> Any:
        if not isinstance(value, list):
            item = self.kind.read(value, at, complain)
            return INVALID if item is INVALID else [item]
        if not value:
            complain(at, "an empty list says nothing; write at least one value, or leave the key out")
            return INVALID
        items = [self.kind.read(item, (*at, index), complain) for index, item in enumerate(value)]
        return INVALID if INVALID in items else items

    def schema(self) -> JsonSchema:
        return {"anyOf": [self.kind.schema(), {"type": "array", "minItems": 1, "items": self.kind.schema()}]}


@dataclass(frozen=True)
class CommandWords:
    """The words of a command, as a list; one word alone is a list of it. No shell splits a text into words."""

    def read(self, value: Any, at: Path_, complain: Complain) -> Any:
        if isinstance(value, str) and len(words := value.split()) > 1:
            plain_word = re.compile(r"[A-Za-z_./][\w./=-]*")
            listed = ", ".join(word if plain_word.fullmatch(word) else json.dumps(word) for word in words)
            complain(at, f"{show(value)} is a whole command in one text; write a list of its words: [{listed}]")
            return INVALID
        return ListOf(Text()).read(value, at, complain)

    def schema(self) -> JsonSchema:
        several = {"type": "array", "minItems": 1, "items": Text().schema()}
        return {"anyOf": [{"type": "string", "pattern": r"^\s*\S+\s*$"}, several]}


@dataclass(frozen=True)
class Either:
    """A text, or a list of them: whichever the value looks like."""

    text: Kind
    many: Kind

    def read(self, value: Any, at: Path_, complain: Complain) -> Any:
        return (self.many if isinstance(value, list) else self.text).read(value, at, complain)

    def schema(self) -> JsonSchema:
        return {"anyOf": [self.text.schema(), self.many.schema()]}


@dataclass(frozen=True)
class Option:
    """A key of a mapping: its kind, its default (or that it is required), and a sentence about it."""

    kind: Kind
    default: Any
    says: str
    required: bool = False
    place: bool = False
    """Whether it says where something is or how to get at it, not what it is: then it is not part of an id."""


@dataclass(frozen=True)
class Keys:
    """A mapping with documented keys. Omitted keys take their defaults, so the value read is complete."""

    noun: str
    options: Mapping[str, Option] = field(hash=False)
    short: str | None = None
    """The key that a value without keys stands for: `{webdataset: "a/{0..9}.tar"}` gives its urls."""
    record: type | None = None
    """The dataclass that the value is read into, its fields the options; None leaves it a mapping."""
    check: Callable[[Any, Path_, Complain], bool] | None = field(default=None, hash=False)
    """Whether the record as a whole is right, which no single option shows; complains if not."""

    def read(self, value: Any, at: Path_, complain: Complain) -> Any:
        value = self._in_full(value)
        if not isinstance(value, dict):
            complain(at, f"{show(value)} gives no keys; {self.noun} takes {', '.join(self.options)}")
            return INVALID
        unknown = [key for key in value if key not in self.options]
        for key in unknown:
            complain((*at, key), f"unknown key '{key}' in {self.noun}; {did_you_mean(key, self.options)}")
        read = {key: self._option(key, value, at, complain) for key in self.options}
        if unknown or INVALID in read.values():
            return INVALID
        made = read if self.record is None else self.record(**read)
        return made if self.check is None or self.check(made, at, complain) else INVALID

    def _in_full(self, value: Any) -> Any:
        """A value without keys as the mapping that it stands for."""
        if self.short and isinstance(value, str | int | float | list) and not isinstance(value, bool):
            return {self.short: value}
        return {} if value is None else value

    def _option(self, key: str, given: Mapping[str, object], at: Path_, complain: Complain) -> Any:
        option = self.options[key]
        if key in given:
            return option.kind.read(given[key], (*at, key), complain)
        if not option.required:
            return option.default
        complain(at, f"{self.noun} lacks '{key}'; add it: {option.says}")
        return INVALID

    def schema(self) -> JsonSchema:
        keys = {name: {"description": option.says, **option.kind.schema()} for name, option in self.options.items()}
        schema: JsonSchema = {"type": "object", "additionalProperties": False, "properties": keys}
        required = [name for name, option in self.options.items() if option.required]
        if required:
            schema["required"] = required
        return {"anyOf": [schema, {"type": "null"}, *([self.options[self.short].kind.schema()] if self.short else [])]}


@dataclass(frozen=True)
class MapOf:
    """A mapping of names, which the author chooses, to values of a kind."""

    noun: str
    kind: Kind

    def read(self, value: Any, at: Path_, complain: Complain) -> Any:
        if not isinstance(value, dict):
            complain(at, f"{show(value)} gives no names; write {{name: {self.noun}}}")
            return INVALID
        read: dict[str, object] = {}
        for name, item in value.items():
            if not re.fullmatch(r"[A-Za-z]\w*", str(name)):
                complain((*at, name), f"{show(name)} is not a name; write letters, digits and _, a letter first")
                return INVALID
            read[name] = self.kind.read(item, (*at, name), complain)
        return INVALID if INVALID in read.values() else read

    def schema(self) -> JsonSchema:
        return {
            "type": "object",
            "propertyNames": {"pattern": r"^[A-Za-z]\w*$"},
            "additionalProperties": self.kind.schema(),
        }


@dataclass(frozen=True)
class WordsOf:
    """Values of a setting, each with words for people: {14: small images}."""

    def read(self, value: Any, at: Path_, complain: Complain) -> Any:
        if not isinstance(value, dict):
            complain(at, f"{show(value)} gives no values; write {{VALUE: words}}, as {{14: small images}}")
            return INVALID
        read = {short(key): Text().read(words, (*at, key), complain) for key, words in value.items()}
        return INVALID if INVALID in read.values() else read

    def schema(self) -> JsonSchema:
        return {"type": "object", "additionalProperties": {"type": "string", "minLength": 1}}


_KIND_OF_FILE = {".tar": "webdataset", ".csv": "captions", ".tsv": "captions", ".jsonl": "captions"}
"""The kind of data set that a file with this ending is declared as."""


@dataclass(frozen=True)
class OneOf:
    """A mapping with exactly one of a few keys, each with options of its own; the bare name stands for its defaults.

    It is read into the record of that key.
    """

    noun: str
    options: Mapping[str, Keys] = field(hash=False)

    def read(self, value: Any, at: Path_, complain: Complain) -> Any:
        if isinstance(value, str):
            value = {value: {}}
        if not isinstance(value, dict) or len(value) != 1:
            complain(at, f"{show(value)} is not {with_article(self.noun)}; name one of {', '.join(self.options)}")
            return INVALID
        (name, options), *_ = value.items()
        if name not in self.options:
            complain(
                at,
                f"'{name}' is not {with_article(self.noun)}; "
                f"{self._as_a_file(name) or did_you_mean(name, self.options)}",
            )
            return INVALID
        return self.options[name].read(options, (*at, name), complain)

    def _as_a_file(self, name: str) -> str:
        """How to write a file of one of these kinds: 'write {webdataset: x.tar}'; '' for any other name."""
        kind = next((kind for ending, kind in _KIND_OF_FILE.items() if str(name).lower().endswith(ending)), None)
        known = self.options.get(kind) if kind else None
        return f"write {{{kind}: {name}}}" if known and known.short else ""

    def schema(self) -> JsonSchema:
        bare = {"enum": list(self.options)}
        full = [
            {"type": "object", "additionalProperties": False, "required": [name], "properties": {name: keys.schema()}}
            for name, keys in self.options.items()
        ]
        return {"anyOf": [bare, *full]}


def _written_number(text: str) -> Any:
    """12.8B or 4e8 as a number; the text where it is none."""
    written = re.fullmatch(r"\s*(\d{1,50}(?:\.\d{1,50})?(?:[eE]\+?\d+)?)\s*([kKMBGT])?\s*", text)
    if not written or (written[2] and "e" in written[1].lower()):
        return text
    return number_of(written[1], written[2]) if written[2] else float(written[1])


def is_broken(value: object) -> bool:
    """Whether it is a number, and not a whole one."""
    if not isinstance(value, float) or not math.isfinite(value):
        return False
    return not math.isclose(value, round(value), rel_tol=1e-12)


def counts(kind: Kind) -> bool:
    """Whether it reads whole numbers."""
    return isinstance(kind, Count | Schedule) or (isinstance(kind, Maybe) and counts(kind.kind))


def show(value: Any) -> str:
    """A value as a complaint quotes it: as it was written, and not too long."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    value = plain(value)
    if isinstance(value, dict):
        return f"a mapping of {', '.join(map(str, value)) or 'nothing'}"
    if isinstance(value, list):
        return f"a list of {len(value)}" if value else "an empty list"
    if isinstance(value, str):
        return f"'{value}'" if len(value) <= 60 else f"'{value[:57]}...'"
    return f"{value:.12g}" if isinstance(value, float) else str(value)
