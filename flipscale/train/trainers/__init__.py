"""The trainers of runs, by the `trainer` of their settings.

builtin/     flipscale: flipscale's own trainer, by one process or several
open_clip/   open_clip: open_clip's own program
program/     command: any program that works on a run's folder; and the code that both programs share

All leave a result, or a checkpoint if a signal came, and raise otherwise.
"""
