"""The public functions of figures: from a table to one panel on an Axes."""

from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar

import pandas as pd
from matplotlib.axes import Axes

from flipscale.plot.figure_data import NO_MASK, FigureData, figure_data
from flipscale.plot.page import Panel, alone

Panels = Callable[[FigureData], list[Panel]]
"""Prepares the panels of a figure; they draw themselves later."""


Function = TypeVar("Function", bound=Callable[..., pd.DataFrame])


class OnAxes(Protocol):
    """Draws one panel of the results onto an Axes."""

    __name__: str

    def __call__(
        self,
        results: pd.DataFrame,
        ax: Axes,
        *,
        baseline: Mapping[str, object] = NO_MASK,
        score: str | None = None,
        references: pd.DataFrame | None = None,
        panel: str | None = None,
    ) -> pd.DataFrame: ...


class CurvesOnAxes(Protocol):
    """Draws one panel of the curves inside runs onto an Axes."""

    __name__: str

    def __call__(
        self,
        curves: pd.DataFrame,
        ax: Axes,
        *,
        results: pd.DataFrame,
        baseline: Mapping[str, object] = NO_MASK,
        score: str | None = None,
        panel: str | None = None,
    ) -> pd.DataFrame: ...


def on_axes(name: str, panels: Panels, about: str) -> OnAxes:
    """The public function `name` of a figure that needs results.csv alone; `about` begins its docstring."""

    def draw(
        results: pd.DataFrame,
        ax: Axes,
        *,
        baseline: Mapping[str, object] = NO_MASK,
        score: str | None = None,
        references: pd.DataFrame | None = None,
        panel: str | None = None,
    ) -> pd.DataFrame:
        return alone(ax, panels(figure_data(results, baseline=baseline, score=score, references=references)), panel)

    return _named(draw, name, panels, f"{about}\n\n{_RESULTS}{_RETURNS}")


def curves_on_axes(name: str, panels: Panels, about: str) -> CurvesOnAxes:
    """The public function `name` of a figure that looks inside runs."""

    def draw(
        curves: pd.DataFrame,
        ax: Axes,
        *,
        results: pd.DataFrame,
        baseline: Mapping[str, object] = NO_MASK,
        score: str | None = None,
        panel: str | None = None,
    ) -> pd.DataFrame:
        return alone(ax, panels(figure_data(results, curves, baseline=baseline, score=score)), panel)

    return _named(draw, name, panels, f"{about}\n\n{_CURVES}{_RETURNS}")


_RESULTS = "`results` is results.csv's table, or rows of it. `panel` names one by its title where there are several.\n"
_CURVES = (
    "`curves` is curves.parquet's table, and `results` that of results.csv for the same runs. `panel` names one\n"
    "cell where these are of several.\n"
)
_RETURNS = "Returns the runs drawn; raises Undrawable with the reason where there is nothing to draw.\n"


def _named(draw: Function, name: str, panels: Panels, about: str) -> Function:
    draw.__name__ = draw.__qualname__ = name
    draw.__module__ = panels.__module__
    draw.__doc__ = about
    return draw
