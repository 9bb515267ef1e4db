"""A law as the fitter sees it: a prediction on a link scale, its Jacobian, and starting points."""

from typing import Literal, Protocol

import numpy as np

from flipscale.stats import Array

Link = Literal["log", "logit", "linear"]

FAR = 30.0
"""How many e-folds below the data a term may sink in a fit: there it is negligible and its coefficient meaningless."""

MOST_EXPONENT = 4.0
"""Bound of an exponent: a power that steep is a step between two points."""

STEEPEST = 100.0
"""Bound of the exponents on either side of a break, which may be that steep where the other side is flat."""


class Law(Protocol):
    """A form. Its parameters are fitted as an unconstrained vector `theta`, and read by a person as `values`."""

    @property
    def name(self) -> str: ...

    @property
    def formula(self) -> str: ...

    @property
    def about(self) -> str:
        """Its purpose, in half a sentence."""

    @property
    def roles(self) -> tuple[str, ...]:
        """The role of each variable in the formula, in the order in which columns are given."""

    @property
    def link(self) -> Link: ...

    @property
    def parameters(self) -> tuple[str, ...]: ...

    @property
    def is_line(self) -> bool:
        """Whether it is straight in the logarithms of its variables, so that its best fit is unique and exact."""

    def evaluate(self, theta: Array, x: Array) -> tuple[Array, Array]:
        """The prediction on the link scale [..., n] and its Jacobian [..., n, parameters], for variables x [n, roles].

        theta is [..., parameters]: one vector, or several at once.
        """

    def starts(self, rng: np.random.Generator, x: Array, z: Array, n: int) -> Array:
        """n starting points [n, parameters] drawn from the data: variables x, and z on the link scale."""

    def bounds(self, x: Array, z: Array) -> tuple[Array, Array]:
        """The lowest and the highest value of each parameter."""

    def values(self, theta: Array) -> dict[str, float]:
        """The parameters as in the formula, and values derived from them."""

    def theta(self, name: str, value: float) -> float:
        """A parameter's value as it is fitted. Raises ResultsError where the law cannot take it."""
