"""What runs read, found and looked at without torch: shards, files of classes, checkpoints, programs.

The trainer finds its files by these functions, and `check` asks the same ones before anything starts: one rule, and one
complaint, for both.

paths.py             where a path of a study leads
shards.py            tar shards by their pattern, and what is in one
fashion.py, idx.py   Fashion-MNIST's files, and the files of MNIST's form
labelled.py          folders of classes, and the names of classes
classes.py           how many classes and pairs a data set has to choose from, as far as no image need be opened
captions.py          tables of captions
weights.py           checkpoints to start from
program.py           training commands
open_clip_flags.py   what open_clip's own program is asked for, and what it cannot do
check.py             all of it for the runs of a plan
"""
