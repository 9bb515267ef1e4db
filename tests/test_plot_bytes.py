"""Figures are the same bytes in every process, wherever their parts lie in memory; bars end where values end."""

import hashlib
import os
import random
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import kiwisolver
import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import _layoutgrid as layout_grid
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from flipscale.analysis.plotting import draw_figure, figure_data
from flipscale.analysis.plotting.style import RC
from flipscale.collecting import baseline_of, read_results
from flipscale.study import read_study

ROOT = Path(__file__).parents[1]
MOSAIC = ROOT / "results/mosaic/results.csv"

DRAW = """
import sys
from pathlib import Path
from flipscale.collecting import read_curves, read_results
from flipscale.analysis.plotting import figure_data, plot_all
study, out = Path(sys.argv[1]), Path(sys.argv[2])
results = read_results(study / "results.csv")
score = "glyphs.zero_shot_top1"
curves = read_curves(study / "curves.parquet", metrics=("loss", score))
data = figure_data(results, curves, study="mosaic", score=score)
plot_all(data, out)
# A PDF's ids and fonts are written in the same way for each figure, and take long.
plot_all(data, out, ["accuracy_vs_flops", "gains"], ["pdf"])
"""


def drawn(name, results=None):
    figure = Figure()
    FigureCanvasAgg(figure)
    results = read_results(MOSAIC) if results is None else results
    draw_figure(name, figure, figure_data(results, score="glyphs.zero_shot_top1"))
    return figure


@pytest.mark.slow
def test_every_figure_has_the_same_bytes_in_another_process(tmp_path):
    found = []
    for seed in "12":
        out = tmp_path / seed
        command = [sys.executable, "-c", DRAW, MOSAIC.parent, out]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONHASHSEED": seed}, cwd=ROOT)
        found.append({path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in out.iterdir()})
    assert found[0] == found[1]
    assert len(found[0]) >= 7 + 1


@pytest.mark.slow
def test_a_layout_is_the_same_wherever_its_variables_lie_in_memory(monkeypatch):
    """The solver goes through them by their addresses, which differ from process to process."""

    def lie_anywhere():
        made = [kiwisolver.Variable() for _ in range(1000)]
        random.shuffle(made)

        def variable(name=""):
            found = made.pop()
            found.setName(name)
            return found

        names = {name: getattr(kiwisolver, name) for name in dir(kiwisolver)}
        monkeypatch.setattr(layout_grid, "kiwi", SimpleNamespace(**{**names, "Variable": variable}))

    study = ROOT / "results/mosaic_lr"  # A figure of it was drawn in two ways.
    baseline = baseline_of(read_study(ROOT / "studies/mosaic_lr.yaml"))
    data = figure_data(read_results(study / "results.csv"), study="mosaic_lr", baseline=baseline)
    places = set()
    for _ in range(12):
        lie_anywhere()
        with mpl.rc_context(RC):
            figure = Figure()
            FigureCanvasAgg(figure)
            draw_figure("accuracy_vs_samples", figure, data)
        places.add(tuple(tuple(ax.get_position().bounds) for ax in figure.axes))
    assert len(places) == 1


def test_bars_end_at_0_and_100_percent_and_the_small_print_says_so():
    results = read_results(MOSAIC)
    learned = (results["glyphs.zero_shot_top1"] > 0.5).astype(float)
    figure = drawn("accuracy_vs_hours", results.assign(**{"glyphs.zero_shot_top1": learned}))
    (ax,) = figure.axes
    ends = np.concatenate([path.vertices[:, 1] for bars in ax.collections for path in bars.get_paths()])
    assert (ends.min(), ends.max()) == (0, 1)
    assert "bars: ± 1 sd within what the score can be" in figure.texts[0].get_text()
    assert ax.get_ylim()[1] < 1.1
