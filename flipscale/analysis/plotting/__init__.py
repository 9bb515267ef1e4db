"""The figures of a study; the same results give byte-identical files.

FIGURES names them, and a study's `figures:` list refers to these names. A figure is one function from the results as
figures read them to its panels. `plot_all` draws figures into files, and `draw` one panel onto an Axes of yours:

    from flipscale import read_results
    from flipscale.analysis.plotting import draw, figure_data
    data = figure_data(read_results("results/fashion/results.csv"))
    draw("accuracy_vs_flops", data, ax)

No figure has today's date, and every figure of a study says in small print which runs it shows.

figures.py      every figure by its name; drawing it
claims.py       the claims, a row each
lines.py        score against what was spent
speedup.py      score against training time, with the speed-up at equal score
scaling.py      scores along each scaling axis
curves.py       inside runs, against samples seen
masks.py        the effect of the mask ratio
gains.py        the gain of every arm over the baseline, and gains with both their intervals
ablations.py    the effect of each part of the recipe
compute.py      error against FLOPs with laws, and the best size of each budget
tune.py         the sweep that chose a setting
any_table.py    groups and curves of anybody's table, and laws through its rows
figure_data.py  the results as figures read them
layout.py       panels on a page, with legends and small print
style.py        colours, markers and ticks
cell_words.py   arms, settings and cells in words
"""

from flipscale.analysis.plotting.any_table import plot_curves, plot_groups, plot_laws
from flipscale.analysis.plotting.figure_data import NO_CURVES, FigureData, Undrawable, figure_data, number_arms
from flipscale.analysis.plotting.figures import FIGURES, FORMATS, Plotted, draw, draw_figure, plot_all
from flipscale.analysis.plotting.layout import FigureKind, small_print
from flipscale.analysis.plotting.style import RC

__all__ = [
    "FIGURES",
    "FORMATS",
    "NO_CURVES",
    "RC",
    "FigureData",
    "FigureKind",
    "Plotted",
    "Undrawable",
    "draw",
    "draw_figure",
    "figure_data",
    "number_arms",
    "plot_all",
    "plot_curves",
    "plot_groups",
    "plot_laws",
    "small_print",
]
