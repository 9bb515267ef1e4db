"""Each kind of figure: on anybody's Axes, on the committed studies, and what it says."""

import itertools
from pathlib import Path

import matplotlib as mpl
import pytest
from matplotlib.axis import Tick, XTick
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from flipscale.collect import read_curves, read_results
from flipscale.plot import FIGURES, RC, Undrawable, draw_figure, shown

ROOT = Path(__file__).parents[1]

BASELINES = {
    "quickstart": {"mask_ratio": 0.0},
    "fashion": {"mask_ratio": 0.0},
    "icons": {"mask_ratio": 0.0},
    "recipe": {
        "mask_ratio": 0.0,
        "batch_size": 64,
        "text_mask_ratio": 0.0,
        "text_mask": "prioritised",
        "inference": "full",
        "tuning": None,
        "reconstruction": None,
        "mask_shape": "random",
    },
}
SCORES = {"icons": "image_retrieval_r10"}


def committed(name):
    folder = ROOT / "results" / name
    tables = read_results(folder / "results.csv"), read_curves(folder / "curves.parquet")
    return shown(*tables, study=name, baseline=BASELINES[name], score=SCORES.get(name, "zero_shot_top1"))


def words(figure):
    """Every text of a figure that is seen, with its box."""
    figure.draw_without_rendering()
    hidden = set()
    for tick in figure.findobj(Tick):
        axis = tick.axes.xaxis if isinstance(tick, XTick) else tick.axes.yaxis
        low, high = sorted(axis.get_view_interval())
        if not low * (1 - 1e-9) <= tick.get_loc() <= high * (1 + 1e-9):
            hidden |= {id(text) for text in tick.findobj(Text)}
    return [
        (text.get_text(), text.get_window_extent())
        for text in figure.findobj(Text)
        if text.get_text().strip() and text.get_visible() and id(text) not in hidden
    ]


def collisions(figure):
    return [
        (one, other)
        for (one, a), (other, b) in itertools.combinations(words(figure), 2)
        if min(a.x1, b.x1) - max(a.x0, b.x0) > 1 and min(a.y1, b.y1) - max(a.y0, b.y0) > 1.5
    ]


def outside(figure):
    width, height = figure.bbox.width, figure.bbox.height
    return [
        text for text, box in words(figure) if box.x0 < -1 or box.y0 < -1 or box.x1 > width + 1 or box.y1 > height + 1
    ]


@pytest.mark.parametrize("study", BASELINES)
def test_no_words_of_a_committed_study_s_figures_collide_or_are_cut_off(study):
    s = committed(study)
    drawn = 0
    for name in FIGURES:
        with mpl.rc_context(RC):
            figure = Figure()
            FigureCanvasAgg(figure)
            try:
                draw_figure(name, figure, s)
            except Undrawable:
                continue
            drawn += 1
            assert (name, collisions(figure), outside(figure)) == (name, [], [])
    assert drawn > 3
