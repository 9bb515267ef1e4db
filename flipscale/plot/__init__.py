"""One function per figure; the same results give byte-identical SVG, PNG and PDF.

FIGURES names the figures of a study; a study's `figures:` list refers to these names, and `plot_all` draws them. Each
is also a function of a table and an Axes, for your own figures:

    from flipscale import read_results
    from flipscale.plot import accuracy
    accuracy(read_results("results/fashion/results.csv"), ax, x="train_flops", panel="ViT-w48d3-4, 60k pairs")

No figure has today's date, and every figure of a study says in small print which runs it shows.

figures.py      every figure by its name
claims.py       the claims, a row each
lines.py        score against what was spent
speedup.py      score against training time, with the speed-up at equal score
scaling.py      scores and gains along each scaling axis
curves.py       inside runs, against samples seen
masks.py        the effect of the mask ratio
gains.py        the gain of every arm over the baseline
strips.py       the effect of each part of the recipe
compute.py      error against FLOPs with laws, and the best size of each budget
predicted.py    measured against predicted costs
saving.py       drawing them into files
figure_data.py  the results as figures read them
on_axes.py      one panel on any Axes
page.py         all panels on a page, with legend and small print
labels.py       labels next to what they name
chance.py       where guessing lies
style.py        colours, markers and ticks
words.py        arms, settings and cells in words
references.py   others' results
intervals.py    gains with both their intervals
unchanged.py    figures that are drawn already
thinning.py     fewer points where thousands would cover each other
"""

from flipscale.plot.claims import claims
from flipscale.plot.compute import error_vs_compute, isoflop_curves
from flipscale.plot.curves import learning_curves, scaling_curve, training_loss
from flipscale.plot.figure_data import NO_CURVES, FigureData, Undrawable, figure_data
from flipscale.plot.figures import FIGURES, FigureKind, draw_figure
from flipscale.plot.gains import gains
from flipscale.plot.lines import accuracy
from flipscale.plot.masks import mask_ratios, repeats
from flipscale.plot.page import small_print
from flipscale.plot.predicted import predicted_cost
from flipscale.plot.references import REFERENCE_COLUMNS, read_references
from flipscale.plot.saving import FORMATS, Plotted, plot_all
from flipscale.plot.scaling import gain_along_axis, scaling_axis
from flipscale.plot.speedup import speedup
from flipscale.plot.strips import ablation
from flipscale.plot.style import RC

__all__ = [
    "FIGURES",
    "FORMATS",
    "NO_CURVES",
    "RC",
    "REFERENCE_COLUMNS",
    "FigureData",
    "FigureKind",
    "Plotted",
    "Undrawable",
    "ablation",
    "accuracy",
    "claims",
    "draw_figure",
    "error_vs_compute",
    "figure_data",
    "gain_along_axis",
    "gains",
    "isoflop_curves",
    "learning_curves",
    "mask_ratios",
    "plot_all",
    "predicted_cost",
    "read_references",
    "repeats",
    "scaling_axis",
    "scaling_curve",
    "small_print",
    "speedup",
    "training_loss",
]
