"""A YAML file as plain data in which every value knows its file and line, and YAML's traps are complaints.

PyYAML follows YAML 1.1: `1e8` is text to it, `no` is False, `010` is 8, `12:30` is 750, and a key given twice silently
keeps its last value. Here `1e8` is a number, and the others are complaints.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from flipscale.errors import DamagedFile, StudyError, nearest, printable
from flipscale.kinds import JsonObject, Path_
from flipscale.plain_files import read_bytes

MOST_VALUES = 100_000
"""The most values that a document may expand to: beyond it is an alias bomb, not a study."""

MOST_STUDY_BYTES = 2**20
"""The most bytes of a study's file; the largest of the paper's has 5,000."""

MOST_COMPLAINTS = 100
"""The most complaints that are reported at once."""

MOST_LEVELS = 100
"""The most levels of mappings and lists inside each other, aliases followed."""

_NUMBER = re.compile(r"[-+]?(\d[\d_]*\.?[\d_]*|\.\d+)([eE][-+]?\d+)?")
_LONGEST_NUMBER = 50
_RESOLVER = yaml.resolver.Resolver()


@dataclass(frozen=True)
class Place:
    """A line of a file, counted from 1."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass
class Complaints:
    """The faults of a study's files, gathered so that all of them are reported at once."""

    found: dict[tuple[Place, str], None] = field(default_factory=dict)
    """Each once, in the order in which they were found."""
    trapped: set[Place] = field(default_factory=set)
    """Lines on which YAML read something other than what was written: they get no further complaints."""

    def add(self, place: Place, what: str) -> None:
        if place not in self.trapped:
            self.found[place, what] = None

    def trap(self, place: Place, what: str) -> None:
        self.add(place, what)
        self.trapped.add(place)

    def raise_if_any(self) -> None:
        if self.found:
            ordered = sorted(self.found, key=lambda complaint: (complaint[0].file, complaint[0].line))
            said = [f"{place}: {what}" for place, what in ordered[:MOST_COMPLAINTS]]
            more = len(ordered) - len(said)
            raise StudyError([*said, f"and {more:,} more; correct these first"] if more > 0 else said)


@dataclass
class Document:
    """A file's data, and for each path in it the place where its value begins (for a mapping's item: its key)."""

    data: JsonObject
    places: dict[Path_, Place]

    def place(self, *path: str | int) -> Place:
        """The line of the value at `path`, or of the nearest thing around it."""
        while path not in self.places:
            path = path[:-1]
        return self.places[path]


def read_document(path: Path, complaints: Complaints, *, noun: str = "study", hint: str | None = None) -> Document:
    """Read one YAML file. Its faults are added to `complaints`; a file that cannot be read at all raises.

    `noun` names the expected kind of file, and `hint` says where to find one.
    """
    name = str(path)
    text = _text_of(path, noun, hint)
    document = Document({}, {(): Place(name, 1)})
    try:
        node = _only_mapping(name, text, noun, hint)
        document.data = _Reader(name, document.places, complaints).value(node, (), ())
    except RecursionError:  # Aliases within aliases may be deeper than the text.
        raise StudyError([f"{name}:1: is nested too deeply to read; a {noun} has a few levels"]) from None
    return document


def read_value(text: str, name: str, complaints: Complaints) -> Any:
    """A value written as in a study file. Its faults are added to `complaints`, with the name of where it stands."""
    nodes = _nodes_of(name, text)
    return _Reader(name, {}, complaints).value(nodes[0], (), ()) if nodes else None


def _text_of(path: Path, noun: str, hint: str | None) -> str:
    name = str(path)
    if path.is_dir():
        raise StudyError([f"{name}: is a folder; give the {noun}'s YAML file"])
    try:
        return read_bytes(path, most=MOST_STUDY_BYTES, follow=True).decode("utf-8")
    except FileNotFoundError:
        start = hint or _beside(path) or f"`flipscale init {name}` writes one to start from"
        raise StudyError([f"{name}: there is no such file; {start}"]) from None
    except DamagedFile as error:
        raise StudyError([str(error)]) from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise StudyError([f"{name}:{line}: is not UTF-8 text; save the file as UTF-8"]) from None


def _beside(path: Path) -> str:
    """'Did you mean' with the file of the most similar name in the folder; '' if no name is similar."""
    near = nearest(path.name, sorted(file.name for file in path.parent.glob("*.y*ml")))
    return f"did you mean {path.with_name(near)}?" if near else ""


def _nodes_of(name: str, text: str) -> list[yaml.Node]:
    """The YAML documents of a text."""
    try:
        return list(yaml.compose_all(text, Loader=yaml.SafeLoader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        # A problem may quote an anchor or a tag, and the file may be one that an include in a stranger's study names.
        problem = re.sub("(alias|anchor|handle) .*", r"\1", error.problem or "")
        raise StudyError([f"{name}:{line}: is not YAML ({problem}); {_yaml_hint(error)}"]) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        what = f"a character that YAML forbids, {ord(text[error.position]):#04x}"
        raise StudyError([f"{name}:{line}: holds {what}; save the file as plain text"]) from None


def _only_mapping(name: str, text: str, noun: str, hint: str | None) -> yaml.MappingNode:
    """The one document of a text, which has keys with values."""
    nodes = _nodes_of(name, text)
    if not nodes or (isinstance(nodes[0], yaml.ScalarNode) and nodes[0].value in ("", "~", "null")):
        raise StudyError([f"{name}:1: is empty; {hint or '`flipscale init` writes a study to start from'}"])
    if len(nodes) > 1:
        line = nodes[1].start_mark.line + 1
        raise StudyError([f"{name}:{line}: a second YAML document begins here; a {noun} is one document, remove '---'"])
    if not isinstance(nodes[0], yaml.MappingNode):
        line = nodes[0].start_mark.line + 1
        raise StudyError([f"{name}:{line}: holds {_kind_of(nodes[0])}, not keys with values; begin with schema: 1"])
    return nodes[0]


def merge(under: Document, over: Document) -> Document:
    """`over` laid on `under`, key by key: mappings of two levels are merged, everything else is replaced."""
    data = dict(under.data)
    replaced: set[Path_] = set()
    for key, value in over.data.items():
        if isinstance(value, Mapping) and isinstance(data.get(key), Mapping):
            data[key] = {**data[key], **value}
            replaced |= {(key, inner) for inner in value}
        else:
            data[key] = value
            replaced.add((key,))
    kept = {path: place for path, place in under.places.items() if not {path[:1], path[:2]} & replaced}
    return Document(data, kept | over.places)


@dataclass
class _Reader:
    """Turns YAML nodes into values. Each node knows its line; aliases are followed, and counted."""

    file: str
    places: dict[Path_, Place]
    complaints: Complaints
    values: int = 0

    def value(self, node: yaml.Node, path: Path_, inside: tuple[int, ...]) -> Any:
        here = Place(self.file, node.start_mark.line + 1)
        self.places.setdefault(path, here)
        self.values += 1
        if self.values > MOST_VALUES:
            raise StudyError([f"{here}: aliases (*) expand to more than {MOST_VALUES:,} values; write the values out"])
        if len(inside) > MOST_LEVELS:
            raise RecursionError  # As Python would further down, but not where a program has raised its limit.
        if id(node) in inside:
            raise StudyError([f"{here}: an alias (*) contains itself; write the values out"])
        inside = (*inside, id(node))
        # An explicit tag shows by differing from the one that YAML would have chosen.
        plain = isinstance(node, yaml.ScalarNode) and node.style is None
        if node.tag != _RESOLVER.resolve(type(node), node.value, (plain, True)):  # type: ignore[no-untyped-call]
            tag = node.tag.replace("tag:yaml.org,2002:", "!!")
            self.complaints.trap(here, f"the tag '{tag}' means nothing here; write the plain value, and text in quotes")
            if isinstance(node, yaml.ScalarNode):
                return None
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path, inside)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*path, at), inside) for at, item in enumerate(node.value)]
        assert isinstance(node, yaml.ScalarNode), "YAML has three kinds of node"
        return self._scalar(node, here)

    def _mapping(self, node: yaml.MappingNode, path: Path_, inside: tuple[int, ...]) -> JsonObject:
        items: JsonObject = {}
        merged: JsonObject = {}
        first: dict[str, int] = {}
        for key_node, value_node in node.value:
            here = Place(self.file, key_node.start_mark.line + 1)
            if not isinstance(key_node, yaml.ScalarNode):
                self.complaints.add(here, f"a key is {_kind_of(key_node)}; a key must be one word")
                continue
            key = _joined(key_node.value)  # as written: `on:` and `no:` are words here, not True and False
            if key == "<<" and key_node.style is None:
                many = value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]
                for mapping in many:
                    value = self.value(mapping, path, inside)
                    if isinstance(value, dict):
                        merged = {**value, **merged}
                    else:
                        self.complaints.add(here, "'<<' merges a mapping; give it an alias of one")
                continue
            key = self._checked(key, here)
            if key in first:
                self.complaints.add(here, f"'{key}' is given twice, first on line {first[key]}; keep one of them")
                continue
            first[key] = here.line
            self.places[(*path, key)] = here
            items[key] = self.value(value_node, (*path, key), inside)
        return {**merged, **items}

    def _checked(self, text: str, here: Place) -> str:
        """The text as it can be printed, with a complaint where UTF-8 cannot hold it or where it steers a terminal:
        escapes in quotes can make both."""
        if (plain := printable(text)) != text:
            what = "half a character" if re.search("[\ud800-\udfff]", text) else "a control character"
            self.complaints.add(here, f"{plain!r} holds {what}; name files in UTF-8, and write it plainly")
        return plain

    def _scalar(self, node: yaml.ScalarNode, here: Place) -> Any:
        text = self._checked(_joined(str(node.value)), here)
        if node.style is not None:
            return text  # quoted text stays text
        kind = node.tag.removeprefix("tag:yaml.org,2002:")
        if trap := _trap(kind, text):
            self.complaints.trap(here, trap)
            return None
        if kind == "null":
            return None
        return text.lower() == "true" if kind == "bool" else _number_or_text(kind, text)


def _joined(text: str) -> str:
    """The text with halves of characters joined: JSON's escapes write every character past U+FFFF as two halves."""
    return re.sub(
        "[\ud800-\udbff][\udc00-\udfff]",
        lambda halves: halves[0].encode("utf-16-le", "surrogatepass").decode("utf-16-le"),
        text,
    )


def _trap(kind: str, text: str) -> str:
    """A complaint, with its remedy, if YAML takes this text for something that hardly anybody means; else ''."""
    if kind == "bool" and text.lower() not in ("true", "false"):
        word = str(text.lower() in ("yes", "on")).lower()
        return f"YAML reads {text} as {word}; write {word}, or '{text}' in quotes for text"
    number = text.replace("_", "")
    if kind == "int" and re.fullmatch(r"[-+]?0[0-7]+", number):
        return f"YAML reads {text} as the octal number {int(number, 8)}; write it without the 0"
    if kind in ("int", "float") and ":" in text:
        return f"YAML reads {text} as a number in base 60; write '{text}' in quotes for text"
    return f"YAML reads {text} as a date; write '{text}' in quotes for text" if kind == "timestamp" else ""


def _number_or_text(kind: str, text: str) -> Any:
    """The number that an unquoted text is, or else the text."""
    number = text.replace("_", "")
    if len(number) > _LONGEST_NUMBER:
        return text
    if _NUMBER.fullmatch(text):
        return int(number) if re.fullmatch(r"[-+]?\d+", number) else float(number)
    try:
        if kind == "float":  # .inf and .nan
            return float(number.replace(".", ""))
        if kind == "int":  # 0x10, 0b1
            return int(number, 0)
    except ValueError:  # to YAML 1.1, 0x_ is a number
        pass
    return text


def _kind_of(node: yaml.Node) -> str:
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    return "a list" if isinstance(node, yaml.SequenceNode) else "a text"


def _yaml_hint(error: yaml.MarkedYAMLError) -> str:
    """The likeliest remedy, by what PyYAML was reading (context) and met (problem)."""
    context = error.context or ""
    problem = error.problem or ""
    begun = error.context_mark.line + 1 if error.context_mark else 1
    if "'\\t'" in problem:
        return "use spaces, not tabs"
    if "while parsing a flow" in context:
        return f"close the bracket of line {begun}"
    if "while scanning a quoted scalar" in context:
        return f"close the quote of line {begun}"
    if "cannot start any token" in problem or "mapping values are not allowed" in problem:
        return "put a text with such characters in quotes, or check the indentation"
    if "undefined alias" in problem:
        return "mark the value that is meant with & and this name, above this line"
    return "check the indentation, the colons and the brackets around this line"
