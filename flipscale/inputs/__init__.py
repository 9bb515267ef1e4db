"""The inputs of runs, found and checked without torch: shards, files of classes, checkpoints, programs.

The trainer finds its files with these functions, and `check` calls the same ones before anything starts: both follow
the same rules and raise the same errors.

paths.py             the files that a study's paths lead to
shards.py            tar shards by their pattern, and their content
fashion.py, idx.py   Fashion-MNIST's files, and the files of MNIST's form
labelled.py          folders of classes, and the names of classes
classes.py           the number of classes and pairs to choose from, without opening images
captions.py          tables of captions
weights.py           checkpoints to start from
program.py           training commands
open_clip_flags.py   the flags of open_clip's own program, and its limits
digest.py            the content of the sets that runs are scored on, to tell when it changes
check.py             all of it for the runs of a plan
checked.py           what the check has found
"""
