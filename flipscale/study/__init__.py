"""A study file, read and checked: a question as data. Every complaint says file:line and what would be right.

study.py        Study, Axis: what a study is
reader.py       a file read into a Study, with every complaint about it
values.py       values with a complaint for each that is wrong
claims.py       contrasts with an expected direction
design.py       which cells of the grid are run
grid.py         the cells of a study: base, axes and couplings worked out
sweep.py        the cells of the sweep that chooses a setting, and the study with its choice
keys.py         the keys of a study file
command.py      the words of a training command, with settings in place of their names
settings.py     the settings of a run as studies and run folders give them
named_sets.py   the scores of evaluation sets, and means over them
recipes.py      named settings that a study builds on: FLIP's, open_clip's
expression.py   couplings and constraints, read safely
document.py     YAML in which every value knows its line
changes.py      a study file with other values of some keys
schema.py       the JSON Schema of a study file, for editors
"""

from flipscale.door.sweep import Arm, Sweep
from flipscale.study.changes import write_changed
from flipscale.study.grid import cells
from flipscale.study.reader import read_study
from flipscale.study.settings import SETTINGS
from flipscale.study.study import Axis, Study
from flipscale.study.sweep import SweptCell, swept_cells, with_choice

__all__ = [
    "SETTINGS",
    "Arm",
    "Axis",
    "Study",
    "Sweep",
    "SweptCell",
    "cells",
    "read_study",
    "swept_cells",
    "with_choice",
    "write_changed",
]
