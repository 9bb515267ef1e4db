"""Hostile versions of good data: values, texts, bytes and files, drawn by a seeded generator."""

import json
import os
import random
from collections.abc import Callable, MutableMapping, MutableSequence
from pathlib import Path
from typing import Any

VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 2**70, -(10**9), 10**400, 1e308, 5e-324, float("inf"), -float("inf"),
    float("nan"), "", " ", "0", "null", "\x00", "\x1b[31mred\x1b[0m", "\ud83d", "\U0001f600", "..",
    "../../../etc/passwd", "/etc/passwd", "/dev/zero", "/proc/self/mem", "$(touch hacked)",
    "`touch hacked`", "a'b", 'a"b', "$\\frac{x$",
    "<script>alert(1)</script>", "a\nb", "a\r\nb", "x" * 10_000, "é" * 300, "lots", "1e999", "12.8B", "1e15 FLOPs",
    "0.5", "-0", "1_000", "0x10", "{0..10000000}.tar", "{a,b}{c,d}", "pipe:true", "s3://bucket/{0..9}.tar",
    [], {}, [[]],
    [None], {"": ""}, {"a": {"b": {"c": {}}}}, [1, "a", None], list(range(300)), "2026-01-01", "!!python/object:x",
    "ViT-B-16", "ViT-w1000000d1000000-1", "ViT-w16d1-4", "mask_ratio", "seed", {"mask_ratio": 0.5}, "9" * 5000,
)  # fmt: skip
"""Values that may trip readers of files."""

TEXTS = tuple(value for value in VALUES if isinstance(value, str))


def anything(draw: random.Random, depth: int = 0) -> Any:
    """An unexpected value."""
    kind = draw.random()
    if kind < 0.75 or depth > 3:
        return draw.choice(VALUES)
    if kind < 0.85:
        return [anything(draw, depth + 1) for _ in range(draw.randrange(4))]
    if kind < 0.95:
        return {draw.choice(TEXTS)[:40]: anything(draw, depth + 1) for _ in range(draw.randrange(4))}
    nested: Any = "deep"
    for _ in range(draw.choice((50, 500, 3000))):
        nested = [nested]
    return nested


def mutated(data: Any, draw: random.Random, times: int = 1) -> Any:
    """The data with this number of changes, each at a random place. Changes the data in place."""
    for _ in range(times):
        data = _change(data, draw)
    return data


def _change(data: Any, draw: random.Random) -> Any:
    places = list(_places(data))
    if not places or draw.random() < 0.02:
        return anything(draw)
    holder, key = draw.choice(places)
    how = draw.random()
    if how < 0.6:
        holder[key] = anything(draw)
    elif how < 0.75:
        del holder[key]
    elif how < 0.85 and isinstance(holder, dict):
        holder[draw.choice([*map(str, holder), *(text[:60] for text in TEXTS)])] = holder.pop(key)
    elif how < 0.93:
        other, elsewhere = draw.choice(places)
        holder[key] = other[elsewhere] if _is_there(other, elsewhere) and other is not holder else anything(draw)
    else:
        holder[key] = [holder[key]]
    # Data that contains itself cannot be written.
    return json.loads(_dumped(data)) if _is_there(holder, key) else data


def _dumped(data: Any) -> str:
    try:
        return json.dumps(data)
    except (ValueError, RecursionError):
        return "null"


def _places(data: Any) -> "list[tuple[Any, Any]]":
    found: list[tuple[Any, Any]] = []
    todo = [data]
    while todo and len(found) < 2000:
        node = todo.pop()
        if isinstance(node, MutableMapping):
            found += [(node, key) for key in node]
            todo += node.values()
        elif isinstance(node, MutableSequence):
            found += [(node, at) for at in range(len(node))]
            todo += node
    return found


def _is_there(holder: Any, key: Any) -> bool:
    try:
        holder[key]
    except (KeyError, IndexError):
        return False
    return True


def bytes_changed(data: bytes, draw: random.Random) -> bytes:
    """The bytes with one change: cut off, a byte flipped, a piece repeated, removed or replaced."""
    at, end = sorted((draw.randrange(len(data) + 1), draw.randrange(len(data) + 1)))
    odd = draw.choice(
        (b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\xed\xa0\xbd", b"\t", b"\r", b"{", b"]", b"-", b":", b"&a *a")
    )
    return draw.choice(
        (
            data[:at],
            data[at:],
            data[:at] + odd * draw.choice((1, 1, 40)) + data[at:],
            data[:at] + data[end:],
            data[:end] + data[at:],
            data[:at] + bytes([draw.randrange(256)]) + data[at + 1 :],
            draw.randbytes(draw.choice((0, 1, 100, 5000))),
        )
    )


def json_changed(data: bytes, draw: random.Random) -> bytes:
    """A JSON text, or one per line, with changed values; other data get changed bytes."""
    lines = data.splitlines()
    at = draw.randrange(len(lines)) if lines else 0
    is_lines = len(lines) > 1 and lines[0].startswith(b"{") and lines[0].endswith(b"}")
    try:
        text = _dumped(mutated(json.loads(lines[at] if is_lines else data), draw, draw.choice((1, 1, 2, 5))))
    except (ValueError, IndexError):
        return bytes_changed(data, draw)
    if not is_lines:
        return text.encode()
    return b"\n".join([*lines[:at], text.encode(), *lines[at + 1 :]]) + b"\n"


def file_changed(path: Path, draw: random.Random) -> str:
    """Make a file hostile, or put a hostile one at a free path. Returns the kind of change."""
    data = b'{"schema": 1}'
    if path.is_file():
        data = path.read_bytes()
    how = draw.random()
    if how < 0.55:
        _write(path, json_changed(data, draw))
        return "values"
    if how < 0.75:
        _write(path, bytes_changed(data, draw))
        return "bytes"
    ways: dict[str, Callable[[], None]] = {
        "fifo": lambda: os.mkfifo(path),
        "folder": path.mkdir,
        "loop": lambda: path.symlink_to(path.name),
        "dangling": lambda: path.symlink_to("nowhere"),
        "device": lambda: path.symlink_to("/dev/zero"),
        "outside": lambda: path.symlink_to("/etc/passwd"),
        "empty": lambda: _write(path, b""),
        "list": lambda: _write(path, b"[1, 2]"),
        "text": lambda: _write(path, b'"text"'),
        "nested": lambda: _write(path, b"[" * 100_000),
        "sparse": lambda: _sparse(path),
        "absent": lambda: None,
    }
    name = draw.choice(list(ways))
    path.unlink(missing_ok=True)
    ways[name]()
    return name


def _write(path: Path, data: bytes) -> None:
    """Write with the time of the old file: a lease written just now counts as living, and `cancel` waits for it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    before = path.stat() if path.is_file() else None
    path.write_bytes(data)
    if before:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _sparse(path: Path) -> None:
    """200 GB of zeros that take no space."""
    with open(path, "wb") as file:
        file.truncate(200 * 10**9)


OPERATORS = ("+", "-", "*", "/", "//", "%", "**", "==", "!=", "<", "<=", ">", ">=", "and", "or", "in", "if")


def expression(draw: random.Random, depth: int = 0) -> str:
    """An expression over settings, or nearly one."""
    atoms = ("mask_ratio", "samples", "batch_size", "model", "'ViT-B-16'", "0", "1e9", "12.8B", "0.5", "-1", "x", "''",
             "10**9", "None", "True", "seed", "__import__('os')", "().__class__", "[1, 2]", "nan",
             "1e400", "9" * 200)  # fmt: skip
    if depth > 4 or draw.random() < 0.3:
        return draw.choice(atoms)
    one, two = (expression(draw, depth + 1) for _ in range(2))
    name = draw.choice(("min", "max", "round", "ceil", "floor", "sqrt", "log2", "abs", "pow", "eval", "len"))
    operator = draw.choice(OPERATORS)
    whole = draw.choice(
        (
            f"({one} {operator} {two})",
            f"{one} {operator} {two}",
            f"{name}({one})",
            f"{name}({one}, {two})",
            f"not {one}",
            f"-{one}",
            f"{one} if {two} else {one}",
            f"{one}[{two}]",
            f"({one}",
            f"[{one} for x in {two}]",
        )
    )
    return whole if len(whole) < 2000 else draw.choice(atoms)
