"""The settings of a run, and the models and devices that they name.

declarations.py  settings, data sets, evaluation and resources of a run: one declaration each
parameters.py    the settings of a user's own program, which a study adds
architecture.py  the shape of a model by its open_clip name, without torch
devices.py       device peaks, memory, sustained rates; hours with their range
"""
