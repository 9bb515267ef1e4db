"""Figures of a score show where guessing lies, and do not waste their axis on it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from flipscale.analysis.plotting import FigureData, Plotted, draw_figure, figure_data
from flipscale.analysis.plotting.layout import draw_chance
from flipscale.workflow import drawn
from flipscale.workflow.opened import open_study
from flipscale.workspace import Workspace
from tests.made_up import isoflop_runs
from tests.test_plot import named, study
from tests.test_plot_kinds import committed

ROOT = Path(__file__).parents[1]


def draw(name: str, data: FigureData) -> Figure:
    figure = Figure()
    FigureCanvasAgg(figure)
    draw_figure(name, figure, data)
    return figure


def levels(ax: Axes) -> list[float]:
    """Heights of the dashed lines that go from one side of the axes to the other."""
    lines = [line for line in ax.lines if line.get_linestyle() == "--" and list(np.asarray(line.get_xdata())) == [0, 1]]
    return [float(np.asarray(line.get_ydata())[0]) for line in lines]


def words(figure: Figure) -> list[str]:
    found = [*figure.texts, *(text for ax in figure.axes for text in ax.texts if text.get_visible())]
    return [*named(figure), *(text.get_text() for text in found)]


def grid(chance: float | None, **options: str) -> FigureData:
    """Accuracies from 20 to 40 % over models, schedules and mask ratios."""
    tables = study(models=("ViT-w48d3-4", "ViT-w96d4-4"), masks=(0, 0.5))
    return replace(figure_data(*tables, study="mask", **options), chance=chance)  # type: ignore[arg-type]


OF_SCORES = ["accuracy_vs_samples", "accuracy_vs_flops", "accuracy_vs_hours", "speedup", "scaling_axes", "mask_ratios"]


@pytest.mark.parametrize("name", [*OF_SCORES, "learning_curves", "scaling_curves"])
def test_every_panel_of_a_score_has_a_dashed_line_at_chance_with_its_value(name: str) -> None:
    figure = draw(name, grid(0.22))
    assert [levels(ax) for ax in figure.axes] == [[0.22]] * len(figure.axes)
    assert all(ax.get_ylim()[0] < 0.22 for ax in figure.axes)
    assert named(figure).count("chance 22 %") in (1, len(figure.axes))


def test_repeats_have_it_beside_a_gain_that_has_none() -> None:
    score, gain = draw("repeats", replace(committed("icons"), chance=0.005)).axes
    assert (levels(score), levels(gain)) == ([0.005], [])


@pytest.mark.parametrize("name", ["gains"])
def test_a_figure_of_something_else_has_no_chance(name: str) -> None:
    figure = draw(name, grid(0.22))
    assert [levels(ax) for ax in figure.axes] == [[]] * len(figure.axes)
    assert not any("chance" in text for text in words(figure))


@pytest.mark.parametrize("name", ["error_vs_compute", "isoflop"])
def test_a_figure_of_the_error_has_the_error_of_guessing(name: str) -> None:
    figure = draw(name, replace(figure_data(isoflop_runs(), baseline={"mask_ratio": 0}), chance=0.25))
    shown = [
        ax for ax in figure.axes if "accuracy" in figure.axes[0].get_ylabel() and ax.get_title() != "the best size"
    ]
    assert [levels(ax) for ax in shown] == [[0.75]] * len(shown)
    assert "chance 75 %" in named(figure)


def test_where_the_scores_are_far_from_chance_the_small_print_says_it_and_the_axis_stays() -> None:
    known, unknown = (draw("accuracy_vs_samples", grid(chance)) for chance in (0.01, None))
    assert [ax.get_ylim() for ax in known.axes] == [ax.get_ylim() for ax in unknown.axes]
    assert [levels(ax) for ax in known.axes] == [[], []]
    assert known.texts[-1].get_text().endswith("\nchance: 1 %, below the axis")
    assert not any("chance" in text for text in words(unknown))


def test_chance_of_a_loss_is_in_nats_and_above() -> None:
    figure = draw("accuracy_vs_samples", grid(4.158883, score="held_out_loss"))
    assert figure.texts[-1].get_text().endswith("\nchance: 4.16, above the axis")


@pytest.mark.parametrize(
    ("chance", "is_drawn"), [(0.21, True), (0.19, False), (0.5, True), (1.19, True), (1.21, False)]
)
def test_an_axis_is_extended_to_chance_where_at_most_a_quarter_stays_empty(chance: float, is_drawn: bool) -> None:
    ax = Figure().subplots()
    ax.set_ylim(0.4, 1.0)
    assert draw_chance([ax], chance) is is_drawn
    low, high = ax.get_ylim()
    assert (low < chance < high) == is_drawn
    assert (low, high) == (0.4, 1.0) or is_drawn


def test_a_studys_figures_know_the_chance_of_its_score(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[FigureData] = []
    monkeypatch.setattr(drawn, "plot_all", lambda data, *_, **__: seen.append(data) or Plotted(()))
    drawn.draw_study(open_study(ROOT / "studies" / "fashion.yaml", Workspace(ROOT / "results", ROOT / "plots")))
    assert isinstance(seen[0].rows, pd.DataFrame)
    assert seen[0].chance == 0.1
