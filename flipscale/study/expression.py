"""Couplings and constraints are expressions over a run's settings, read safely: never Python's eval.

An expression knows numbers, counts (12.8B), texts, settings by name, + - * / // % **, comparisons, and / or / not,
`a if b else c`, `in` a list, and the functions below. Nothing else is a word: no attributes, no calls of anything else.
"""

import ast
import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from flipscale.errors import did_you_mean

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "min": min,
    "max": max,
    "round": round,
    "ceil": math.ceil,
    "floor": math.floor,
    "sqrt": math.sqrt,
    "log2": math.log2,
    "abs": abs,
}

_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
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
_SUFFIXES = {"k": 10**3, "K": 10**3, "M": 10**6, "B": 10**9, "G": 10**9, "T": 10**12}
_COUNT = re.compile(r"(?<![\w.'\"-])(\d+(?:\.\d+)?)([kKMBGT])(?![\w'\"])")
_LONGEST = 500

Evaluate = Callable[[Mapping[str, Any]], Any]


class ExpressionError(ValueError):
    """What is wrong with an expression, and what would be right, as the end of a complaint."""


@dataclass(frozen=True)
class Expression:
    """An expression that has been read: its text, the settings it needs, and how to evaluate it."""

    text: str
    names: frozenset[str]
    evaluate: Evaluate

    def __call__(self, settings: Mapping[str, Any]) -> Any:
        """The value for these settings. Raises ExpressionError where arithmetic has no answer."""
        try:
            return self.evaluate(settings)
        except ZeroDivisionError:
            problem = "divides by zero"
        except OverflowError:
            problem = "gives a number too large"
        except (TypeError, ValueError):
            absent = sorted(name for name in self.names if settings.get(name) is None)
            problem = f"needs {absent[0]}, which is null" if absent else "mixes numbers and texts"
        raise ExpressionError(problem)


def read_expression(source: object, known: Mapping[str, object] | list[str]) -> Expression:
    """Read an expression over the `known` setting names. Raises ExpressionError with what would be right."""
    if isinstance(source, bool) or not isinstance(source, str | int | float):
        raise ExpressionError("is not an expression; write arithmetic over settings, as in 256 / (1 - mask_ratio)")
    text = str(source)
    if len(text) > _LONGEST:
        raise ExpressionError(f"is longer than {_LONGEST} characters; couple through a second setting")
    try:
        tree = ast.parse(_COUNT.sub(lambda count: str(number_of(count[1], count[2])), text.strip()), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ExpressionError("cannot be read; write arithmetic over settings, as in 256 / (1 - mask_ratio)") from None
    names: set[str] = set()
    evaluate = _compile(tree.body, list(known), names)
    return Expression(text, frozenset(names), evaluate)


def number_of(digits: str, suffix: str) -> int | float:
    """12.8 and 'B' as 12800000000: exact, since the digits are scaled as decimals."""
    whole, _, fraction = digits.partition(".")
    scale = _SUFFIXES[suffix]
    value, remainder = divmod(int(whole + fraction) * scale, 10 ** len(fraction))
    return value if not remainder else value + remainder / 10 ** len(fraction)


def _compile(node: ast.expr, known: list[str], names: set[str]) -> Evaluate:
    def compiled(child: ast.expr) -> Evaluate:
        return _compile(child, known, names)

    match node:
        case ast.Constant(value=bool() | int() | float() | str() | None as value):
            return lambda _: value
        case ast.Name(id=name):
            if name not in known:
                raise ExpressionError(f"names '{name}', which is no setting; {did_you_mean(name, known)}")
            names.add(name)
            return lambda settings: settings[name]
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            base, exponent = compiled(left), compiled(right)
            return lambda settings: _power(base(settings), exponent(settings))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            a, b, apply = compiled(left), compiled(right), _BINARY[type(op)]
            return lambda settings: apply(_number(a(settings)), _number(b(settings)))
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            inner = compiled(operand)
            return lambda settings: -_number(inner(settings))
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            inner = compiled(operand)
            return lambda settings: not inner(settings)
        case ast.BoolOp(op=ast.And(), values=values):
            parts = [compiled(value) for value in values]
            return lambda settings: all(part(settings) for part in parts)
        case ast.BoolOp(op=ast.Or(), values=values):
            parts = [compiled(value) for value in values]
            return lambda settings: any(part(settings) for part in parts)
        case ast.Compare(left=left, ops=ops, comparators=comparators) if all(type(op) in _COMPARE for op in ops):
            terms = [compiled(term) for term in (left, *comparators)]
            tests = [_COMPARE[type(op)] for op in ops]
            return lambda settings: _chain([term(settings) for term in terms], tests)
        case ast.IfExp(test=test, body=body, orelse=orelse):
            chosen, then, otherwise = compiled(test), compiled(body), compiled(orelse)
            return lambda settings: then(settings) if chosen(settings) else otherwise(settings)
        case ast.List(elts=items) | ast.Tuple(elts=items):
            parts = [compiled(item) for item in items]
            return lambda settings: [part(settings) for part in parts]
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]):
            if name not in FUNCTIONS:
                raise ExpressionError(f"calls '{name}', which is no function; {did_you_mean(name, FUNCTIONS)}")
            function, parts = FUNCTIONS[name], [compiled(arg) for arg in args]
            return lambda settings: function(*[_number(part(settings)) for part in parts])
    raise ExpressionError(
        f"uses '{ast.unparse(node)}', which is not allowed; use settings, numbers, + - * / // % **, comparisons, "
        f"and, or, not, if else, in, {', '.join(FUNCTIONS)}"
    )


def _number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError
    return value


def _power(base: Any, exponent: Any) -> Any:
    if abs(_number(exponent)) > 64 or abs(_number(base)) > 1e30:
        raise OverflowError
    value = base**exponent
    if isinstance(value, complex):
        raise ValueError
    return value


def _chain(values: list[Any], tests: list[Callable[[Any, Any], Any]]) -> bool:
    return all(test(values[at], values[at + 1]) for at, test in enumerate(tests))
