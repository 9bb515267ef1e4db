"""The forms of scaling laws: what each predicts, how it changes with its parameters, and where to start looking.

Every law predicts on a *link* scale, on which its residuals are taken: the logarithm of a loss, or the logit of an
error rate. There a law of powers is a log-sum-exp of straight lines, so its Jacobian is exact and cheap:

    log(E + A N^-a + B D^-b) = log-sum-exp(log E, log A - a log N, log B - b log D)

LAWS names them all. Sources: Chinchilla (arXiv 2203.15556) for the sum of two powers; Alabdulmohsin et al.
(2209.06640) for M4; Caballero et al. (2210.14891) for broken power laws; Gadre et al. (2403.08540) for the error as an
exponential of the loss. The laws of odds and of masks are flipscale's own (docs/fits.md says how they were tested).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from flipscale.errors import ResultsError, did_you_mean
from flipscale.fit.law import FAR, MOST_EXPONENT, Law, Link
from flipscale.fit.other_laws import M4, Broken, Exponential, Shifted
from flipscale.stats import Array


def law_named(name: str) -> Law:
    """The law of that name, or of one of its other names. Raises ResultsError for an unknown one."""
    known = _OTHER_NAMES.get(name.lower().replace("_", "-").replace(" ", ""), name)
    for law in (known, known.lower().replace("_", "-")):
        if law in LAWS:
            return LAWS[law]
    raise ResultsError(f"There is no law {name!r}: {did_you_mean(name, LAWS)}.")


# Sums of powers


@dataclass(frozen=True)
class Term:
    """One power in a sum: `coefficient` times each variable to the minus `exponents`; without any, a constant."""

    coefficient: str
    exponents: Mapping[int, str] = field(default_factory=dict)
    """Role's place -> the exponent's name."""


@dataclass(frozen=True)
class PowerSum:
    """(sum of terms) ^ outer, on a log or logit scale."""

    name: str
    formula: str
    about: str
    roles: tuple[str, ...]
    terms: tuple[Term, ...]
    link: Link = "log"
    outer: str | None = None
    """Name of the exponent around the sum."""
    kept: int | None = None
    """The variable that is a mask ratio m, and enters as its kept share 1 - m."""
    rising: bool = False
    """Whether exponents are written as what grows, x^a."""

    @property
    def parameters(self) -> tuple[str, ...]:
        coefficients = [term.coefficient for term in self.terms]
        exponents = [name for term in self.terms for name in term.exponents.values()]
        return (*coefficients, *exponents, *([self.outer] if self.outer else []))

    @property
    def is_line(self) -> bool:
        return len(self.terms) == 1 and self.outer is None

    def evaluate(self, theta: Array, x: Array) -> tuple[Array, Array]:
        logs = self._logs(x)
        k = len(self.terms)
        heights = np.repeat(theta[..., None, :k], len(x), axis=-2)
        at = k
        for i, term in enumerate(self.terms):
            for role in term.exponents:
                heights[..., i] -= theta[..., at, None] * logs[:, role]
                at += 1
        top = heights.max(axis=-1)
        shares = np.exp(heights - top[..., None])
        total = shares.sum(axis=-1)
        shares /= total[..., None]
        inner = top + np.log(total)
        outer = theta[..., -1, None] if self.outer else np.ones(1)
        jacobian = np.empty((*inner.shape, theta.shape[-1]))
        jacobian[..., :k] = outer[..., None] * shares
        at = k
        for i, term in enumerate(self.terms):
            for role in term.exponents:
                jacobian[..., at] = -jacobian[..., i] * logs[:, role]
                at += 1
        if self.outer:
            jacobian[..., -1] = inner
        return outer * inner, jacobian

    def starts(self, rng: np.random.Generator, x: Array, z: Array, n: int) -> Array:
        """Exponents U(.1, .8); each coefficient so that its term is a share of the value at the centroid."""
        logs = self._logs(x)
        centre, level = logs.mean(axis=0), float(z.mean())
        k = len(self.terms)
        starts = np.empty((n, len(self.parameters)))
        rising = k == 1 and np.corrcoef(logs.sum(axis=1), z)[0, 1] > 0
        for i in range(n):
            outer = np.exp(rng.uniform(np.log(0.4), np.log(2.5))) if self.outer and i else 1.0
            shares = rng.dirichlet(np.ones(k))
            exponents = (-1 if rising else 1) * rng.uniform(0.1, 0.8, len(self.parameters) - k - bool(self.outer))
            coefficients = level / outer + np.log(np.maximum(shares, 1e-3))
            at = 0
            for j, term in enumerate(self.terms):
                for role in term.exponents:
                    coefficients[j] += exponents[at] * centre[role]
                    at += 1
            starts[i] = [*coefficients, *exponents, *([outer] if self.outer else [])]
        return starts

    def bounds(self, x: Array, z: Array) -> tuple[Array, Array]:
        logs = self._logs(x)
        reach = np.abs(logs).max(initial=1.0) * MOST_EXPONENT * max(len(t.exponents) for t in self.terms)
        low: list[float] = []
        high: list[float] = []
        for term in self.terms:
            constant = not term.exponents
            low.append(float(z.min()) - FAR - (0 if constant else reach))
            high.append(float(z.max()) + FAR + (0 if constant else reach))
        for term in self.terms:
            for role in term.exponents:
                # A law of one term may rise or fall; in a sum only a mask may do either.
                free = len(self.terms) == 1 or role == self.kept
                low.append(-MOST_EXPONENT if free else 0.0)
                high.append(MOST_EXPONENT)
        if self.outer:
            low.append(0.05)
            high.append(20.0)
        return np.array(low), np.array(high)

    def values(self, theta: Array) -> dict[str, float]:
        k = len(self.terms)
        found = {
            name: float(np.exp(min(value, 700.0)) if i < k else -value if self.rising else value)
            for i, (name, value) in enumerate(zip(self.parameters, theta, strict=True))
        }
        if self.kept is not None:
            # The sum holds (S (1-m)^g)^-b as S^-b (1-m)^-h, which is linear in its parameters: h = b g.
            found["g"] = found["h"] / found["b"] if found["b"] else float("nan")
        return found

    def theta(self, name: str, value: float) -> float:
        if name not in [term.coefficient for term in self.terms]:
            return -value if self.rising else value
        if value < 0:
            raise ResultsError(f"{name} of the law {self.name} cannot be fixed at {value:g}: it is 0 or more.")
        return float(np.log(value)) if value else -1e3

    def _logs(self, x: Array) -> Array:
        if self.kept is None:
            return np.log(x)
        x = x.copy()
        x[:, self.kept] = 1 - x[:, self.kept]
        return np.log(x)


def _sum(name: str, formula: str, about: str, roles: str, *terms: Term, **more: object) -> PowerSum:
    return PowerSum(name, formula, about, tuple(roles.split()), terms, **more)  # type: ignore[arg-type]


_E = Term("E")
_A = Term("A", {0: "a"})
_B = Term("B", {1: "b"})

LAWS: dict[str, Law] = {
    law.name: law
    for law in (
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
        Shifted(),
        _sum("chinchilla", "y = E + A N^-a + B D^-b", "two variables (arXiv 2203.15556)", "N D", _E, _A, _B),
        _sum(
            "data-limited",
            "y = E + A N^-a + B D^-b + K U^-k",
            "two variables and the unique pairs U that the samples are drawn from",
            "N D U",
            _E,
            _A,
            _B,
            Term("K", {2: "k"}),
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
        _sum(
            "mask",
            "err / (1 - err) = (A G^-a + B (S (1-m)^g)^-b)^c, h = b g",
            "odds with a mask ratio m: G counts kept tokens, and g is what masking costs in samples (0: nothing)",
            "G S m",
            _A,
            Term("B", {1: "b", 2: "h"}),
            link="logit",
            outer="c",
            kept=2,
        ),
        _sum(
            "mask+floor",
            "y = E + A G^-a + B (S (1-m)^g)^-b, h = b g",
            "the same for a loss",
            "G S m",
            _E,
            _A,
            Term("B", {1: "b", 2: "h"}),
            kept=2,
        ),
        M4(),
        Broken(),
        Exponential(),
    )
}
"""Every law by its name."""

_OTHER_NAMES = {
    "powerlaw": "power",
    "power-law": "power",
    "floor": "power+floor",
    "power-floor": "power+floor",
    "powerfloor": "power+floor",
    "two-variable": "chinchilla",
    "two-variables": "chinchilla",
    "nd": "chinchilla",
    "n,d": "chinchilla",
    "datalimited": "data-limited",
    "m4": "M4",
    "bnsl": "BNSL",
    "broken": "BNSL",
    "power-with-floor": "power+floor",
    "saturating-power": "power+floor",
    "shifted-power": "shifted",
    "odds-law": "odds",
    "logit": "odds",
    "mask-ratio": "mask",
    "mask-floor": "mask+floor",
    "joint": "mask",
    "exp": "exponential",
}
