"""How much a reader of flipscale has to hold: tokens, statements, lines, files, public names, verbs, options.

Tokens leave out comments, docstrings and line ends, so that joining or splitting lines changes nothing.
"""

import argparse
import ast
import io
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from flipscale.cli.parser import VERBS

ROOT = Path(__file__).parents[1]

LAYOUT = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}
"""Tokens that a reader does not read."""

DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def docstring_lines(tree: ast.Module) -> set[int]:
    """The lines of strings that stand alone as statements."""
    alone = [node for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)]
    return {
        line
        for node in alone
        if isinstance(node.value.value, str)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }


def count_tokens(source: str, tree: ast.Module) -> int:
    left_out = docstring_lines(tree)
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return sum(token.type not in LAYOUT and token.start[0] not in left_out for token in tokens)


def imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def weigh() -> dict[str, int]:
    """The weight of flipscale/, by what is counted."""
    weight: Counter[str] = Counter()
    importers: Counter[str] = Counter()
    modules = set()
    for path in sorted((ROOT / "flipscale").rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        tree = ast.parse(source)
        weight["tokens"] += count_tokens(source, tree)
        weight["statements"] += sum(isinstance(node, ast.stmt) for node in ast.walk(tree))
        weight["lines"] += source.count("\n")
        weight["files"] += 1
        weight["public names"] += sum(
            isinstance(node, DEFINITIONS) and not node.name.startswith("_") for node in tree.body
        )
        if path.name != "__init__.py":
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            modules.add(name)
            importers.update(set(imported(tree)) - {name})
    weight["modules with one importer"] = sum(importers[name] == 1 for name in modules)
    verbs = [verb for group in VERBS.values() for verb in group]
    weight["verbs"] = len(verbs)
    weight["options"] = sum(count_options(add) for _, add in verbs)
    weight["lines of tests"] = sum(
        path.read_text(encoding="utf-8").count("\n") for path in (ROOT / "tests").rglob("*.py")
    )
    return dict(weight)


def count_options(add_arguments: object) -> int:
    parser = argparse.ArgumentParser(add_help=False)
    assert callable(add_arguments)
    add_arguments(parser)
    return sum(bool(action.option_strings) for action in parser._actions)


if __name__ == "__main__":
    for what, number in weigh().items():
        print(f"{number:>9,} {what}")
