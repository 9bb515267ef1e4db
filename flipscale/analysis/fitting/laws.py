"""The forms of scaling laws: what each predicts, how it changes with its parameters, and where to start looking.

Every law predicts on a *link* scale, on which its residuals are taken: the logarithm of a loss, or the logit of an
error rate. There a law of powers is a log-sum-exp of straight lines, so its Jacobian is exact and cheap:

    log(E + A N^-a + B D^-b) = log-sum-exp(log E, log A - a log N, log B - b log D)

LAWS names them all. Sources: Chinchilla (arXiv 2203.15556) for the sum of two powers; Gadre et al. (2403.08540) for the
error as an exponential of the loss. The laws of odds are flipscale's own.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, reduce
from typing import Literal

import numpy as np

from flipscale.analysis.stats import Array
from flipscale.errors import ResultsError, did_you_mean

Link = Literal["log", "logit", "linear"]

FAR = 30.0
"""How many e-folds below the data a term may sink in a fit: there it is negligible and its coefficient meaningless."""

MOST_EXPONENT = 4.0
"""Bound of an exponent: a power that steep is a step between two points."""


# Sums of powers


@dataclass(frozen=True)
class Term:
    """One power in a sum: `coefficient` times each variable to the minus `exponents`; without any, a constant."""

    coefficient: str
    exponents: Mapping[int, str] = field(default_factory=dict)
    """Role's place -> the exponent's name."""


@dataclass(frozen=True)
class PowerSum:
    """(sum of terms) ^ outer, on a log or logit scale.

    Its parameters are fitted as an unconstrained vector `theta`, and read by a person as `values`.
    """

    name: str
    formula: str
    about: str
    """Its purpose, in half a sentence."""
    roles: tuple[str, ...]
    """The role of each variable in the formula, in the order in which columns are given."""
    terms: tuple[Term, ...]
    link: Link = "log"
    outer: str | None = None
    """Name of the exponent around the sum."""
    floor: bool = False
    """Whether the first term, a constant, stands outside that exponent."""
    rising: bool = False
    """Whether exponents are written as what grows, x^a."""

    @property
    def parameters(self) -> tuple[str, ...]:
        coefficients = [term.coefficient for term in self.terms]
        exponents = [name for term in self.terms for name in term.exponents.values()]
        return (*coefficients, *exponents, *([self.outer] if self.outer else []))

    @cached_property
    def _powers(self) -> list[tuple[int, int, int]]:
        """Each exponent: the places of its term, of its variable, and of itself in theta."""
        powers = [(i, role) for i, term in enumerate(self.terms) for role in term.exponents]
        return [(i, role, len(self.terms) + place) for place, (i, role) in enumerate(powers)]

    @property
    def is_line(self) -> bool:
        """Whether it is straight in the logarithms of its variables, so that its best fit is unique and exact."""
        return len(self.terms) == 1 and self.outer is None

    def evaluate(self, theta: Array, x: Array) -> tuple[Array, Array]:
        """The prediction on the link scale [..., n] and its Jacobian [..., n, parameters], for variables x [n, roles].

        theta is [..., parameters]: one vector, or several at once.
        """
        logs = np.log(x)
        k = len(self.terms)
        heights = [np.repeat(theta[..., i, None], len(x), axis=-1) for i in range(k)]
        for i, role, at in self._powers:
            heights[i] -= theta[..., at, None] * logs[:, role]
        first = int(self.floor)
        top = reduce(np.maximum, heights[first:])
        shares = [np.exp(height - top) for height in heights[first:]]
        total = reduce(np.add, shares)
        inner = top + np.log(total)
        outer = theta[..., -1, None] if self.outer else np.ones(1)
        jacobian = np.empty((*inner.shape, theta.shape[-1]))
        for i, share in enumerate(shares, first):
            jacobian[..., i] = outer * share / total
        for i, role, at in self._powers:
            jacobian[..., at] = -jacobian[..., i] * logs[:, role]
        if self.outer:
            jacobian[..., -1] = inner
        if not self.floor:
            return outer * inner, jacobian
        whole = np.logaddexp(heights[0], outer * inner)
        jacobian *= np.exp(outer * inner - whole)[..., None]
        jacobian[..., 0] = np.exp(heights[0] - whole)
        return whole, jacobian

    def starts(self, rng: np.random.Generator, x: Array, z: Array, n: int) -> Array:
        """n starting points [n, parameters] from variables x, and z on the link scale.

        Exponents U(.1, .8); each coefficient so that its term is a share of the value at the centroid.
        """
        logs = np.log(x)
        centre = logs.mean(axis=0)
        level = float(z.mean())
        k = len(self.terms)
        starts = np.empty((n, len(self.parameters)))
        rising = k == 1 and np.corrcoef(logs.sum(axis=1), z)[0, 1] > 0
        for i in range(n):
            outer = np.exp(rng.uniform(np.log(0.4), np.log(2.5))) if self.outer and i else 1.0
            shares = rng.dirichlet(np.ones(k))
            exponents = (-1 if rising else 1) * rng.uniform(0.1, 0.8, len(self.parameters) - k - bool(self.outer))
            coefficients = level / outer + np.log(np.maximum(shares, 1e-3))
            if self.floor:
                coefficients[0] += level - level / outer
            for j, role, at in self._powers:
                coefficients[j] += exponents[at - k] * centre[role]
            starts[i] = [*coefficients, *exponents, *([outer] if self.outer else [])]
        return starts

    def bounds(self, x: Array, z: Array) -> tuple[Array, Array]:
        """The lowest and the highest value of each parameter."""
        logs = np.log(x)
        reach = np.abs(logs).max(initial=1.0) * MOST_EXPONENT * max(len(t.exponents) for t in self.terms)
        room = [FAR + (reach if term.exponents else 0) for term in self.terms]
        least = -MOST_EXPONENT if len(self.terms) == 1 else 0.0  # a law of one term may rise or fall
        ends = [(float(z.min()) - far, float(z.max()) + far) for far in room]
        ends += [(least, MOST_EXPONENT)] * len(self._powers) + [(0.05, 20.0)] * bool(self.outer)
        low, high = np.array(ends).T
        return low, high

    def values(self, theta: Array) -> dict[str, float]:
        """The parameters as in the formula."""
        k = len(self.terms)
        return {
            name: float(np.exp(min(value, 700.0)) if i < k else -value if self.rising else value)
            for i, (name, value) in enumerate(zip(self.parameters, theta, strict=True))
        }

    def needs(self, name: str) -> tuple[str, ...]:
        """The parameters without which this one means nothing, as an exponent for the coefficient of its term."""
        if self.floor and name == self.terms[0].coefficient:
            return ()
        exponents = [of for term in self.terms if term.coefficient == name for of in term.exponents.values()]
        return (*exponents, *([self.outer] if self.outer and name != self.outer else []))

    def theta(self, name: str, value: float) -> float:
        """A parameter's value as it is fitted. Raises ResultsError where the law cannot take it."""
        if name not in [term.coefficient for term in self.terms]:
            return -value if self.rising else value
        if value < 0:
            raise ResultsError(f"{name} of the law {self.name} cannot be fixed at {value:g}: it is 0 or more.")
        return float(np.log(value)) if value else -1e3


class Exponential:
    """E - k exp(-g x): an error rate as it follows from a loss. k is fitted as its logarithm."""

    name = "exponential"
    formula = "y = E - k exp(-g x)"
    about = "an error rate from a loss: the second step from size to accuracy (arXiv 2403.08540)"
    roles = ("loss",)
    link: Link = "linear"
    parameters = ("E", "k", "g")
    outer = None
    floor = False
    is_line = False

    def evaluate(self, theta: Array, x: Array) -> tuple[Array, Array]:
        top, log_k, rate = (theta[..., i, None] for i in range(3))
        drop = np.exp(np.clip(log_k - rate * x[:, 0], -700, 700))
        return top - drop, np.stack([np.ones_like(drop), -drop, drop * x[:, 0]], axis=-1)

    def starts(self, rng: np.random.Generator, x: Array, z: Array, n: int) -> Array:
        loss = x[:, 0]
        span = max(float(np.ptp(z)), 1e-9)
        starts = np.empty((n, 3))
        for i in range(n):
            rate = rng.uniform(0.2, 4) / max(float(np.ptp(loss)), 1e-9)
            top = z.max() + span * rng.uniform(0.01, 1)
            starts[i] = top, np.log(top - z.min()) + rate * loss.min(), rate
        return starts

    def bounds(self, x: Array, z: Array) -> tuple[Array, Array]:
        steepest = 50 / max(float(np.ptp(x[:, 0])), 1e-9)
        reach = FAR + steepest * float(np.abs(x[:, 0]).max())
        span = float(np.ptp(z)) + abs(float(z.max()))
        return np.array([z.min() - span, -reach, 0.0]), np.array([z.max() + 5 * span, reach, steepest])

    def values(self, theta: Array) -> dict[str, float]:
        top, log_k, rate = map(float, theta)
        return {"E": top, "k": float(np.exp(log_k)), "g": rate}

    def needs(self, name: str) -> tuple[str, ...]:
        return ("g",) if name == "k" else ()

    def theta(self, name: str, value: float) -> float:
        if name == "k" and value <= 0:
            raise ResultsError(f"k of the law exponential cannot be fixed at {value:g}: it must be above 0.")
        return float(np.log(value)) if name == "k" else value


# All of them by name

Law = PowerSum | Exponential


def law_named(name: str) -> Law:
    """The law of that name. Raises ResultsError for an unknown one."""
    if name in LAWS:
        return LAWS[name]
    raise ResultsError(f"There is no law {name!r}: {did_you_mean(name, LAWS)}.")


def _sum(name: str, formula: str, about: str, roles: str, *terms: Term, **more: object) -> PowerSum:
    return PowerSum(name, formula, about, tuple(roles.split()), terms, **more)  # type: ignore[arg-type]


_E = Term("E")
_A = Term("A", {0: "a"})
_B = Term("B", {1: "b"})

_FORMS: tuple[Law, ...] = (
    _sum("power", "y = A x^-a", "a straight line on log-log axes", "x", _A),
    _sum(
        "product",
        "y = A N^-a D^-b",
        "two variables, no floor, no limit of either",
        "N D",
        Term("A", {0: "a", 1: "b"}),
    ),
    _sum("growth", "y = A x^a", "the same for what grows, as the best size with the budget", "x", _A, rising=True),
    _sum("power+floor", "y = E + A x^-a", "a power law that ends at a floor", "x", _E, _A),
    _sum("chinchilla", "y = E + A N^-a + B D^-b", "two variables (arXiv 2203.15556)", "N D", _E, _A, _B),
    _sum(
        "chinchilla-k",
        "y = E + (A N^-a + B D^-b)^k",
        "two variables whose terms do not simply add up",
        "N D",
        _E,
        _A,
        _B,
        outer="k",
        floor=True,
    ),
    _sum(
        "odds",
        "err / (1 - err) = (A G^-a + B S^-b)^c",
        "an accuracy through its odds: G FLOPs per sample, S samples seen",
        "G S",
        _A,
        _B,
        link="logit",
        outer="c",
    ),
    _sum(
        "odds-power",
        "err / (1 - err) = A x^-a",
        "an accuracy through its odds, along one variable",
        "x",
        _A,
        link="logit",
    ),
    _sum(
        "odds-product",
        "err / (1 - err) = A G^-a S^-b",
        "the odds as a product: what one more of both gives does not depend on the other",
        "G S",
        Term("A", {0: "a", 1: "b"}),
        link="logit",
    ),
    Exponential(),
)

LAWS = {law.name: law for law in _FORMS}
"""Every law by its name."""
