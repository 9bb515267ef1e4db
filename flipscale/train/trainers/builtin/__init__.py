"""flipscale's own trainer: FLIP's recipe on open_clip's models.

pretrain.py  one run, from what was asked to its result: its data, model, training and scores
loop.py      the steps of a schedule, with records, checkpoints and evaluations on the way
training.py  weights, optimizer state and one step
checkpoints.py  states written by a thread while training goes on, and how often
loaders.py   processes that read and decode batches
fine_tuning.py  the same of an image tower with a head, on labelled images
timing.py    a few steps of several shapes, timed in turns, in place of a run
"""
