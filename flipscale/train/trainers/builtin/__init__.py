"""flipscale's own trainer: FLIP's recipe on open_clip's models.

pretrain.py  one run, from what was asked to its result
loop.py      the steps of a schedule, with records, checkpoints and evaluations on the way
training.py  weights, optimizer state and one step
timing.py    a few steps of several shapes, timed in turns, in place of a run
"""
