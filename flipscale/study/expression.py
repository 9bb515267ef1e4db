"""Couplings and constraints are expressions over a run's settings, read safely: never Python's eval.

An expression knows numbers, counts (12.8B), texts, settings by name, + - * / // % **, comparisons, and / or / not,
`a if b else c`, `in` a list, and the functions below. Nothing else is allowed: no attributes, no other calls.
"""

import ast
import itertools
import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flipscale.errors import did_you_mean
from flipscale.kinds import number_of

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "min": min,
    "max": max,
    "round": lambda value, digits=0: _rounded(value, digits),
    "ceil": math.ceil,
    "floor": math.floor,
    "sqrt": math.sqrt,
    "log2": math.log2,
    "abs": abs,
}

_ARGUMENTS = {"min": (2, 99), "max": (2, 99), "round": (1, 2)}
"""The fewest and most arguments of a function that does not take exactly one."""

_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: lambda base, exponent: _power(base, exponent),
}
_UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.USub: lambda value: -_number(value),
    ast.Not: operator.not_,
}

_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
}
_COUNT_OR_TEXT = re.compile(r"""'[^']*'|"[^"]*"|(?<![\w.])(?P<digits>\d+(\.\d+)?)(?P<suffix>[kKMBGT])(?!\w)""")
_LONGEST = 500
_LARGEST = 1e30
_MOST_DIGITS = 30

ARITHMETIC = "arithmetic over settings, as in 256 / (1 - mask_ratio)"
CONDITION = "a condition such as mask_ratio <= 0.5 or model == 'ViT-B-16'"

Evaluate = Callable[[Mapping[str, object]], Any]


class ExpressionError(ValueError):
    """The fault of an expression and its remedy, as the end of a complaint."""


@dataclass(frozen=True)
class Expression:
    """An expression that has been read: its text, the settings it needs, and how to evaluate it."""

    text: str
    names: frozenset[str]
    evaluate: Evaluate

    def __call__(self, settings: Mapping[str, object]) -> Any:
        """The value for these settings. Raises ExpressionError where arithmetic has no answer."""
        try:
            value = self.evaluate(settings)
            if isinstance(value, int | float) and abs(value) > _LARGEST:
                raise OverflowError
        except ExpressionError:  # That of another expression, which this one evaluates.
            raise
        except ZeroDivisionError:
            problem = "divides by zero"
        except OverflowError:
            problem = "gives a number too large"
        except ValueError:
            problem = "takes the root or logarithm of a negative number or zero"
        except TypeError:
            absent = sorted(name for name in self.names if settings.get(name) is None)
            problem = f"needs {absent[0]}, which is null" if absent else "mixes numbers and texts"
        else:
            return value
        raise ExpressionError(problem)


def read_expression(source: object, known: Mapping[str, object] | list[str], example: str = ARITHMETIC) -> Expression:
    """Read an expression over the `known` setting names. Raises ExpressionError with what would be right."""
    if isinstance(source, bool) or not isinstance(source, str | int | float):
        raise ExpressionError(f"is not an expression; write {example}")
    text = str(source)
    if len(text) > _LONGEST:
        raise ExpressionError(f"is longer than {_LONGEST} characters; write a shorter one")
    try:
        tree = ast.parse(_COUNT_OR_TEXT.sub(_written_out, text.strip()), mode="eval")
        compiler = _Compiler(list(known))
        evaluate = compiler.compiled(tree.body)
    except ExpressionError:
        raise
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ExpressionError(f"cannot be read; write {example}") from None
    return Expression(text, frozenset(compiler.names), evaluate)


def read_listed(source: Sequence[object], known: Mapping[str, object]) -> Expression:
    """Read a list, such as stages, whose values are expressions or stand as they are written: 80 %, ViT-B-16."""

    def read(value: object) -> Expression:
        try:
            return read_expression(value, known)
        except ExpressionError:
            return Expression(str(value), frozenset(), lambda _: value)

    def worked_out(part: Expression | dict[str, Expression], settings: Mapping[str, object]) -> Any:
        return {key: each(settings) for key, each in part.items()} if isinstance(part, dict) else part(settings)

    parts = [
        {key: read(value) for key, value in item.items()} if isinstance(item, dict) else read(item) for item in source
    ]
    values = itertools.chain(*(part.values() if isinstance(part, dict) else [part] for part in parts))
    names = frozenset[str]().union(*(value.names for value in values))
    return Expression(str(source), names, lambda settings: [worked_out(part, settings) for part in parts])


def plain_value(text: str) -> Any:
    """A value as it stands on a command line: 12.8B, 4e8 and 1/2 are numbers, null is None, all else is text."""
    if text in ("null", ""):
        return None
    try:
        value = read_expression(text, [])({})
    except ExpressionError:
        return text
    return value if isinstance(value, bool | int | float) else text


def _written_out(written: re.Match[str]) -> str:
    return str(number_of(written["digits"], written["suffix"])) if written["digits"] else written[0]


@dataclass
class _Compiler:
    """Turns the tree of an expression into a function of settings, and notes the settings that it names."""

    known: list[str]
    names: set[str] = field(default_factory=set)

    def compiled(self, node: ast.expr) -> Evaluate:
        match node:
            case ast.Constant(value=bool() | int() | float() | str() | None as value):
                return lambda _: value
            case ast.Name(id=name):
                return self._setting(name)
            case ast.List(elts=items) | ast.Tuple(elts=items):
                parts = self._all(items)
                return lambda settings: [part(settings) for part in parts]
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
                a = self.compiled(left)
                b = self.compiled(right)
                apply = _BINARY[type(op)]
                return lambda settings: apply(_number(a(settings)), _number(b(settings)))
            case ast.UnaryOp(op=op, operand=operand) if type(op) in _UNARY:
                inner = self.compiled(operand)
                change = _UNARY[type(op)]
                return lambda settings: change(inner(settings))
            case ast.BoolOp(op=op, values=values):
                parts = self._all(values)
                combine = all if isinstance(op, ast.And) else any
                return lambda settings: combine(part(settings) for part in parts)
            case ast.Compare(left=left, ops=ops, comparators=comparators) if _COMPARE.keys() >= set(map(type, ops)):
                terms = self._all([left, *comparators])
                tests = [_COMPARE[type(op)] for op in ops]
                return lambda settings: _chain([term(settings) for term in terms], tests)
            case ast.IfExp(test=test, body=body, orelse=orelse):
                chosen, then, otherwise = self._all([test, body, orelse])
                return lambda settings: then(settings) if chosen(settings) else otherwise(settings)
            case ast.Call(func=ast.Name(id=name), args=args, keywords=[]):
                return self._call(name, args)
        raise ExpressionError(
            f"uses '{ast.unparse(node)}', which is not allowed; use settings, numbers, + - * / // % **, comparisons, "
            f"and, or, not, if else, in, {', '.join(FUNCTIONS)}"
        )

    def _setting(self, name: str) -> Evaluate:
        if name not in self.known:
            raise ExpressionError(f"names '{name}', which is not a setting; {did_you_mean(name, self.known)}")
        self.names.add(name)
        # A data set is known to expressions by its kind, as in data == 'shapes'.
        return lambda settings: getattr(settings[name], "kind", settings[name])

    def _call(self, name: str, args: Sequence[ast.expr]) -> Evaluate:
        if name not in FUNCTIONS:
            raise ExpressionError(f"calls '{name}', which is not a function; {did_you_mean(name, FUNCTIONS)}")
        least, most = _ARGUMENTS.get(name, (1, 1))
        if not least <= len(args) <= most:
            takes = {1: "one", 2: "one or two"}.get(most, "two or more")
            raise ExpressionError(f"calls '{name}' with {len(args)} arguments; it takes {takes}")
        function = FUNCTIONS[name]
        parts = self._all(args)
        return lambda settings: function(*[_number(part(settings)) for part in parts])

    def _all(self, nodes: Sequence[ast.expr]) -> list[Evaluate]:
        return [self.compiled(node) for node in nodes]


def _number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError
    return value


def _rounded(value: Any, digits: Any) -> Any:
    # For a whole number, round computes ten to the power of the digits, which has no limit either.
    if abs(digits) > _MOST_DIGITS:
        raise OverflowError
    return round(value, digits) if digits else round(value)


def _power(base: Any, exponent: Any) -> Any:
    # Whole numbers have no limit in Python: 9 ** 9 ** 9 would fill the memory.
    if abs(exponent) > 64 or abs(base) > _LARGEST:
        raise OverflowError
    value = base**exponent
    if isinstance(value, complex):
        raise ValueError
    return value


def _chain(values: list[Any], tests: list[Callable[[Any, Any], Any]]) -> bool:
    return all(test(values[at], values[at + 1]) for at, test in enumerate(tests))
