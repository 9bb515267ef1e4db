"""The next rung of a study: the model and samples that its law gives for a budget, with a neighbour each side."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from flipscale.analysis.fitting import Forecast
from flipscale.tables import Part, PrintedTable
from flipscale.words import percent, short

WIDEST = 10.0
"""A best size whose CI spans more than this factor is not determined: models differ by less."""

NEAR = 2.0
"""The best size is beyond the models at hand where none is within this factor of it."""


@dataclass(frozen=True)
class Rung:
    """What a law says of a budget."""

    group: str
    """The settings of the runs that the law was fitted to, in words."""
    settings: Mapping[str, object]
    flops: float
    size: float
    """FLOPs a sample of the best model."""
    size_interval: tuple[float, float] | None
    """Its 95 % CI; None where the law does not determine it."""
    source: str
    """What it was read from, in words."""
    forecast: Forecast
    """The score at that size."""
    sizes: Mapping[str, float]
    """FLOPs a sample of each model at hand under these settings."""

    @property
    def models(self) -> tuple[str, ...]:
        """The model nearest to the best size, and its neighbours; none where the best size is beyond all."""
        names = sorted(self.sizes, key=self.sizes.__getitem__)
        away = np.abs(np.log([self.sizes[name] / self.size for name in names]))
        best = int(np.argmin(away))
        return tuple(names[max(best - 1, 0) : best + 2]) if away[best] < np.log(NEAR) else ()

    @property
    def refusal(self) -> str:
        """Why no study is written; '' where it can be."""
        if self.size_interval is None or self.size_interval[1] > WIDEST * self.size_interval[0]:
            return (
                f"The best size is not determined: its 95 % CI spans more than a factor of {WIDEST:g}, or has no end."
            )
        if self.forecast.refused:
            return f"The forecast of the score is too poor: {'; '.join(map(str, self.forecast.doubts))}."
        if not self.models:
            ends = " to ".join(short(end) for end in (min(self.sizes.values()), max(self.sizes.values())))
            size = short(self.size)
            return (
                f"The best model takes {size} FLOPs a sample, and those at hand {ends}: add some by --add model=NAME."
            )
        return ""

    def grid(self) -> dict[str, list[object]]:
        """The grid of these models at the budget."""
        fixed = {name: [value] for name, value in self.settings.items()}
        return fixed | {"model": list(self.models), "samples": [f"{self.flops:g} FLOPs"]}


def rung_parts(rung: Rung) -> list[Part]:
    """The best use of the budget, the models near it, and why it is refused if it is."""
    ends = rung.size_interval
    interval = f"95 % CI {short(ends[0])} to {short(ends[1])}" if ends else "no CI"
    said = (
        f"{rung.flops:.3g} FLOPs are best spent on a model of {short(rung.size)} FLOPs a sample ({interval}) and "
        f"{short(rung.flops / rung.size)} samples, with {rung.group}, by {rung.source}; that is "
        f"{rung.forecast.extrapolation:.2g} times the largest run."
    )
    accuracy = rung.forecast.fit.rows.response.accuracy
    values = (rung.forecast.value, *(rung.forecast.interval or (None, None)))
    shown = [("-" if value is None else percent(value) if accuracy else f"{value:.4g}") for value in values]
    score = f"{rung.forecast.fit.y} there: {shown[0]} (95 % CI of one run {shown[1]} to {shown[2]})."
    rows = tuple((name, short(rung.sizes[name]), short(rung.flops / rung.sizes[name])) for name in rung.models)
    table = [PrintedTable("", ("model", "FLOPs a sample", "samples"), rows)] if rows else []
    return [said, score, *table, *([rung.refusal] if rung.refusal else [])]
