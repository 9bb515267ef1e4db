"""Laws other than sums of powers: with a late start, a plateau, a break, or an exponential."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flipscale.errors import ResultsError
from flipscale.fit.law import FAR, MOST_EXPONENT, STEEPEST, Link
from flipscale.stats import Array


@dataclass(frozen=True)
class Shifted:
    """E + A (x + B)^-a: a power law that starts late, as a score near chance does."""

    name: str = "shifted"
    formula: str = "y = E + A (x + B)^-a"
    about: str = "a power law with a floor whose start is shifted, for curves that begin at chance"
    roles: tuple[str, ...] = ("x",)
    link: Link = "log"
    parameters: tuple[str, ...] = ("E", "A", "B", "a")
    is_line: bool = False

    def evaluate(self, theta: Array, x: Array) -> tuple[Array, Array]:
        floor, scale, shift, power = _columns(theta)
        log_x = np.log(x[:, 0])
        moved = np.logaddexp(log_x, shift)
        height = scale - power * moved
        z = np.logaddexp(floor, height)
        share = np.exp(height - z)
        moves = np.exp(shift - moved)
        return z, np.stack([1 - share, share, -share * power * moves, -share * moved], axis=-1)

    def starts(self, rng: np.random.Generator, x: Array, z: Array, n: int) -> Array:
        log_x = np.log(x[:, 0])
        starts = np.empty((n, 4))
        for i in range(n):
            share, power = rng.uniform(0.02, 0.9), rng.uniform(0.1, 0.8)
            shift = rng.uniform(log_x.min() - 2, log_x.max())
            centre = np.logaddexp(log_x.mean(), shift)
            starts[i] = z.min() + np.log(1 - share), z.mean() + np.log(share) + power * centre, shift, power
        return starts

    def bounds(self, x: Array, z: Array) -> tuple[Array, Array]:
        log_x = np.log(x[:, 0])
        reach = (np.abs(log_x).max() + 5) * MOST_EXPONENT
        low = [z.min() - FAR, z.min() - FAR - reach, log_x.min() - FAR, 0.0]
        high = [z.max(), z.max() + FAR + reach, log_x.max() + 5, MOST_EXPONENT]
        return np.array(low), np.array(high)

    def values(self, theta: Array) -> dict[str, float]:
        floor, scale, shift, power = map(float, theta)
        return {"E": np.exp(floor).item(), "A": np.exp(scale).item(), "B": np.exp(shift).item(), "a": power}

    def theta(self, name: str, value: float) -> float:
        return _log_of(self.name, name, value, ("E", "A", "B"))


@dataclass(frozen=True)
class M4:
    """(y - E) / (I - y)^c = A x^-a: a power law between a ceiling I at the start and a floor E."""

    name: str = "M4"
    formula: str = "(y - E) / (I - y)^c = A x^-a"
    about: str = "from a plateau I, as chance, to a floor E (arXiv 2209.06640)"
    roles: tuple[str, ...] = ("x",)
    link: Link = "log"
    parameters: tuple[str, ...] = ("E", "I", "A", "a", "c")
    is_line: bool = False

    def evaluate(self, theta: Array, x: Array) -> tuple[Array, Array]:
        """y lies at u between E and I, where log s(u) - c log s(-u) = right side: Newton's steps find u, as it rises.

        theta is log E, log(I - E), log A, a and log c.
        """
        floor, width, scale, power, log_c = _columns(theta)
        c = np.exp(log_c)
        log_x = np.log(x[:, 0])
        right = scale - power * log_x + (c - 1) * width
        u = np.where(right < 0, right, right / c)  # the two ends of the curve
        for _ in range(60):
            low, high = -np.logaddexp(0, -u), -np.logaddexp(0, u)  # log s(u), log s(-u)
            step = (low - c * high - right) / (np.exp(high) + c * np.exp(low))
            u = u - np.clip(step, -20, 20)
            if np.abs(step).max() < 1e-13 * (1 + np.abs(u).max()):
                break
        low, high = -np.logaddexp(0, -u), -np.logaddexp(0, u)
        span = np.exp(width + low)  # y - E
        y = np.exp(floor) + span
        slope = np.exp(high) + c * np.exp(low)
        du = np.stack(
            [
                np.zeros_like(u),
                (c - 1) / slope,
                1 / slope,
                -log_x / slope,
                c * (width + high) / slope,
            ],
            axis=-1,
        )
        dy = (span * np.exp(high))[..., None] * du
        dy[..., 0] += np.exp(floor)
        dy[..., 1] += span
        return np.log(y), dy / y[..., None]

    def starts(self, rng: np.random.Generator, x: Array, z: Array, n: int) -> Array:
        log_x, y = np.log(x[:, 0]), np.exp(z)
        starts = np.empty((n, 5))
        for i in range(n):
            floor = y.min() * rng.uniform(0.05, 0.98)
            width = (y.max() - floor) * np.exp(rng.uniform(0.01, 0.7))
            c, power = np.exp(rng.uniform(-0.7, 0.7)), rng.uniform(0.1, 1.2)
            part = np.clip((np.exp(z.mean()) - floor) / width, 0.02, 0.98)
            scale = np.log(part) - c * np.log(1 - part) + (1 - c) * np.log(width) + power * log_x.mean()
            starts[i] = np.log(floor), np.log(width), scale, power, np.log(c)
        return starts

    def bounds(self, x: Array, z: Array) -> tuple[Array, Array]:
        reach = (np.abs(np.log(x[:, 0])).max() + 5) * MOST_EXPONENT
        high = [z.min(), z.max() + 5, FAR + reach, MOST_EXPONENT, 3.0]
        low = [z.min() - FAR, z.max() - 8, -FAR - reach, 0.0, -3.0]
        return np.array(low), np.array(high)

    def values(self, theta: Array) -> dict[str, float]:
        floor, width, scale = (float(np.exp(value)) for value in theta[:3])
        return {"E": floor, "I": floor + width, "A": scale, "a": float(theta[3]), "c": float(np.exp(theta[4]))}

    def theta(self, name: str, value: float) -> float:
        if name == "I":
            raise ResultsError("I of the law M4 cannot be fixed, as it is fitted as a width above E; fix E, A, a or c.")
        return _log_of(self.name, name, value, ("E", "A", "c"))


@dataclass(frozen=True)
class Broken:
    """E + A x^-a (1 + (x/d)^(1/f))^(-c f): two straight pieces on log-log axes that meet at d over a width f."""

    name: str = "BNSL"
    formula: str = "y = E + A x^-a (1 + (x/d)^(1/f))^(-c f)"
    about: str = "a broken power law with one break (arXiv 2210.14891)"
    roles: tuple[str, ...] = ("x",)
    link: Link = "log"
    parameters: tuple[str, ...] = ("E", "A", "a", "c", "d", "f")
    is_line: bool = False

    def evaluate(self, theta: Array, x: Array) -> tuple[Array, Array]:
        floor, scale, power, bend, at, log_f = _columns(theta)
        f = np.exp(log_f)
        log_x = np.log(x[:, 0])
        past = (log_x - at) / f
        soft = np.logaddexp(0, past)
        after = np.exp(past - soft)
        height = scale - power * log_x - bend * f * soft
        z = np.logaddexp(floor, height)
        share = np.exp(height - z)
        by = [share, -share * log_x, -share * f * soft, share * bend * after, -share * bend * f * (soft - past * after)]
        return z, np.stack([1 - share, *by], axis=-1)

    def starts(self, rng: np.random.Generator, x: Array, z: Array, n: int) -> Array:
        log_x = np.log(x[:, 0])
        starts = np.empty((n, 6))
        for i in range(n):
            share, power, bend = rng.uniform(0.05, 0.99), rng.uniform(0, 0.5), rng.uniform(-0.3, 0.8)
            at, log_f = rng.uniform(log_x.min(), log_x.max()), rng.uniform(-2, 0.5)
            scale = z.mean() + np.log(share) + power * log_x.mean() + bend * max(log_x.mean() - at, 0)
            starts[i] = z.min() + np.log(1 - share), scale, power, bend, at, log_f
        return starts

    def bounds(self, x: Array, z: Array) -> tuple[Array, Array]:
        log_x = np.log(x[:, 0])
        reach = (np.abs(log_x).max() + 5) * STEEPEST
        low = [z.min() - FAR, z.min() - FAR - reach, -STEEPEST, -STEEPEST, log_x.min(), -5.0]
        high = [z.max(), z.max() + FAR + reach, STEEPEST, STEEPEST, log_x.max(), 2.0]
        return np.array(low), np.array(high)

    def values(self, theta: Array) -> dict[str, float]:
        floor, scale, power, bend, at, log_f = map(float, theta)
        e = np.exp
        return {
            "E": e(floor).item(),
            "A": e(scale).item(),
            "a": power,
            "c": bend,
            "d": e(at).item(),
            "f": e(log_f).item(),
        }

    def theta(self, name: str, value: float) -> float:
        return _log_of(self.name, name, value, ("E", "A", "d", "f"))


@dataclass(frozen=True)
class Exponential:
    """E - k exp(-g x): an error rate as it follows from a loss."""

    name: str = "exponential"
    formula: str = "y = E - k exp(-g x)"
    about: str = "an error rate from a loss: the second step from size to accuracy (arXiv 2403.08540)"
    roles: tuple[str, ...] = ("loss",)
    link: Link = "linear"
    parameters: tuple[str, ...] = ("E", "k", "g")
    is_line: bool = False

    def evaluate(self, theta: Array, x: Array) -> tuple[Array, Array]:
        top, log_k, rate = _columns(theta)
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
        return {"E": float(theta[0]), "k": float(np.exp(theta[1])), "g": float(theta[2])}

    def theta(self, name: str, value: float) -> float:
        return _log_of(self.name, name, value, ("k",))


def _columns(theta: Array) -> Sequence[Array]:
    """Each parameter of theta [..., parameters], to stand beside points [..., 1]."""
    return [theta[..., i, None] for i in range(theta.shape[-1])]


def _log_of(law: str, name: str, value: float, logarithmic: Sequence[str]) -> float:
    if name not in logarithmic:
        return value
    if value < 0 or (value == 0 and name != "E"):
        raise ResultsError(f"{name} of the law {law} cannot be fixed at {value:g}: it must be above 0.")
    return float(np.log(value)) if value else -1e3
