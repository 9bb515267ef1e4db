"""A checkpoint to start from: an open_clip file, or a tag of its pretrained weights. Looked at without torch."""

import ast
import functools
import importlib.util
import json
import os
import struct
import zipfile
from collections.abc import Iterable
from pathlib import Path

from flipscale.architecture import architecture
from flipscale.data.paths import reason_of
from flipscale.errors import FlipscaleError

_OLD_TORCH = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"
"""The beginning of files of torch before 1.6, after the two bytes of the pickle's protocol."""

_MOST_HEADER_BYTES = 100_000_000
"""safetensors itself reads no larger header."""


def check_weights(start: str, model: str, parameters: int) -> bool:
    """Whether `start` is a file; if it is not it is a tag, and the weights are downloaded when a run starts.

    Raises FlipscaleError for anything else, and for a file that is not a checkpoint or too small for the model.
    """
    path = Path(start)
    if not path.is_file():
        tags = pretrained_tags(model)
        if tags is not None:
            if start not in tags:
                raise no_such_weights(start, model, tags)
            check_activation(start, model, tags[start])
        return False
    try:
        wrong = _flaw(path)
        size = path.stat().st_size
    except OSError as error:
        raise FlipscaleError(f"{path}: cannot be read ({reason_of(error)}); fix its permissions.") from error
    if wrong:
        raise FlipscaleError(
            f"{path}: is not a checkpoint of open_clip ({wrong}); give a file of weights that "
            f"open_clip.create_model(pretrained=...) takes."
        )
    # Weights take two bytes or four each, and no known form takes less than one.
    if size < parameters:
        raise FlipscaleError(
            f"{path}: has {size:,} bytes, too few for the {parameters:,} weights of {model}. Set model to the "
            f"one that these weights belong to, or give a checkpoint of {model}."
        )
    return True


def no_such_weights(tag: str, model: str, tags: Iterable[str]) -> FlipscaleError:
    tags = list(tags)
    known = f"its tags are {', '.join(tags)}" if tags else f"open_clip has no pretrained weights of {model}"
    return FlipscaleError(f"init: {tag} is neither a file nor a tag of open_clip's weights for {model}; {known}.")


def check_activation(tag: str, model: str, quick: bool) -> None:
    """Raise FlipscaleError where the weights of a tag were trained with another activation than the model has."""
    if quick != architecture(model).open_clip_config.get("quick_gelu", False):
        other = model.removesuffix("-quickgelu") if model.endswith("-quickgelu") else f"{model}-quickgelu"
        raise FlipscaleError(f"init: {tag} was trained with another activation than {model} has; set model: {other}.")


def pretrained_tags(model: str) -> dict[str, bool] | None:
    """The tags of open_clip's pretrained weights of a model, and whether each was trained with the quick GELU.

    They are read from open_clip's source, as importing it takes torch; None where that cannot be read.
    """
    known = _pretrained()
    if known is None:
        return None
    quick = {tag: True for tag, is_quick in known.get(model.removesuffix("-quickgelu"), {}).items() if is_quick}
    return quick if model.endswith("-quickgelu") else known.get(model, {})


def _flaw(path: Path) -> str | None:
    """Why a file cannot be a checkpoint; None if it looks like one."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        beginning = file.read(16)
        if not beginning:
            return "it is empty"
        if path.suffix == ".safetensors":
            return _safetensors_flaw(file.fileno(), size)
    if beginning[2:].startswith(_OLD_TORCH):
        return None
    if not beginning.startswith(b"PK"):
        return f"it begins with {beginning[:8]!r}"
    try:
        with zipfile.ZipFile(path) as archive:
            whole = any(name.endswith("data.pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError, struct.error):
        return "it was cut off, or is damaged"
    return None if whole else "it is a zip file of something else"


def _safetensors_flaw(file: int, size: int) -> str | None:
    length = int.from_bytes(os.pread(file, 8, 0), "little")
    try:
        if not 0 < length <= min(size - 8, _MOST_HEADER_BYTES):
            raise ValueError
        header = json.loads(os.pread(file, length, 8))
        ends = [tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"]
        is_whole = not ends or 8 + length + max(ends) == size
    except (ValueError, AttributeError, KeyError, TypeError, IndexError, RecursionError):
        return "it has no safetensors header"
    if not ends:
        return "it holds no weights"
    return None if is_whole else "it was cut off, or is damaged"


@functools.cache
def _pretrained() -> dict[str, dict[str, bool]] | None:
    """Tags by model, and whether each was trained with the quick GELU, as open_clip's pretrained.py says."""
    spec = importlib.util.find_spec("open_clip")
    if spec is None or not spec.submodule_search_locations:
        return None
    try:
        tree = ast.parse(Path(spec.submodule_search_locations[0], "pretrained.py").read_text(encoding="utf-8"))
        tables, quick = _assignments(tree), _quick_functions(tree)
        written = tables["_PRETRAINED"]
        assert isinstance(written, ast.Dict)
        return {
            ast.literal_eval(model): _tags(tables[value.id] if isinstance(value, ast.Name) else value, quick)
            for model, value in zip(written.keys, written.values, strict=True)
            if model is not None
        }
    except (OSError, SyntaxError, ValueError, KeyError, AssertionError):
        return None


def _assignments(tree: ast.Module) -> dict[str, ast.expr]:
    """The value of each name of the module."""
    return {
        target.id: statement.value
        for statement in tree.body
        if isinstance(statement, ast.Assign)
        for target in statement.targets
        if isinstance(target, ast.Name)
    }


def _quick_functions(tree: ast.Module) -> set[str]:
    """The functions that declare tags trained with the quick GELU."""
    return {
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and "'quick_gelu': True" in ast.unparse(node)
    }


def _tags(table: ast.expr, quick: set[str]) -> dict[str, bool]:
    """The tags of `dict(tag=_pcfg(...), ...)` or `{"tag": _pcfg(...), ...}`."""
    if isinstance(table, ast.Dict):
        items = {ast.literal_eval(key): value for key, value in zip(table.keys, table.values, strict=True) if key}
    else:
        assert isinstance(table, ast.Call)
        items = {keyword.arg: keyword.value for keyword in table.keywords if keyword.arg}
    found = {}
    for tag, made in items.items():
        assert isinstance(made, ast.Call)
        given = {
            keyword.arg: ast.literal_eval(keyword.value) for keyword in made.keywords if keyword.arg == "quick_gelu"
        }
        found[tag] = given.get("quick_gelu", ast.unparse(made.func) in quick)
    return found
