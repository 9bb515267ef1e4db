"""The loss to minimise: a law, its points, and the parameters held fixed."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from flipscale.fit.law import Law
from flipscale.stats import Array

Loss = Literal["huber", "squares"]

DELTA = 1e-3
"""Residual at which the Huber loss turns from a square to a line: as in arXiv 2203.15556."""


@dataclass(frozen=True)
class Problem:
    """A law, its points, and the parameters held fixed."""

    law: Law
    x: Array
    """Variables [n, roles]."""
    z: Array
    """Measurements on the law's link scale [n]; [m, n] if m tables are fitted at once."""
    loss: Loss
    linear: bool = False
    """Whether residuals are taken in y itself, where the link is a logarithm."""
    fixed: Mapping[str, float] | None = None
    """Parameter -> its value in theta."""
    tied: Mapping[str, str] | None = None
    """Parameter -> the one it equals."""
    weights: Array | None = None
    """Inverse variances of the points, 1 on average [n]; None: all equal."""
    delta: float = DELTA
    """Where Huber's loss turns from a square to a line."""

    @property
    def free_places(self) -> list[int]:
        """The places in theta that are fitted."""
        names = self.law.parameters
        return [i for i, name in enumerate(names) if name not in (self.fixed or {}) and name not in (self.tied or {})]

    def with_points(self, rows: "np.ndarray[tuple[int], np.dtype[np.intp]]") -> "Problem":
        """The same with these points only, each as often as it is listed."""
        weights = None if self.weights is None else self.weights[rows]
        return replace(self, x=self.x[rows], z=self.z[rows], weights=weights)

    def moved(self, by: Array | float) -> "Problem":
        """The same with all measurements moved up by this much; [m] values make m tables."""
        return replace(self, z=self.z + np.asarray(by, dtype=np.float64)[..., None])

    @property
    def bend(self) -> float:
        """Residual at which the loss turns from a square to a line; infinite for squares."""
        return self.delta if self.loss == "huber" else float("inf")

    @property
    def bounds(self) -> tuple[Array, Array]:
        """The lowest and the highest value of each free parameter."""
        low, high = self.law.bounds(self.x, self.z)
        return low[self.free_places], high[self.free_places]

    def whole(self, part: Array) -> Array:
        """theta [..., parameters] from its free part."""
        theta = np.empty((*part.shape[:-1], len(self.law.parameters)))
        theta[..., self.free_places] = part
        place = {name: i for i, name in enumerate(self.law.parameters)}
        for name, value in (self.fixed or {}).items():
            theta[..., place[name]] = value
        for name, other in (self.tied or {}).items():
            theta[..., place[name]] = theta[..., place[other]]
        return theta

    def residuals(self, part: Array) -> tuple[Array, Array]:
        """Predicted minus measured [..., n], and its Jacobian over the free parameters [..., n, free]."""
        predicted, jacobian = self.law.evaluate(self.whole(part), self.x)
        place = {name: i for i, name in enumerate(self.law.parameters)}
        for name, other in (self.tied or {}).items():
            jacobian[..., place[other]] += jacobian[..., place[name]]
        if self.fixed or self.tied:
            jacobian = jacobian[..., self.free_places]
        value = predicted - self.z
        if self.linear and self.law.link != "linear":
            y = np.exp(np.minimum(predicted, 700.0))
            value, jacobian = y - np.exp(self.z), jacobian * y[..., None]
        if self.weights is None:
            return value, jacobian
        roots = np.sqrt(self.weights)
        return roots * value, roots[:, None] * jacobian
