"""Torture: faults at random moments and hostile files, counted. `make torture`, or `python -m tests.torture --help`.

counts.py      what went wrong in a part, by kind; the table and bench/results/torture.json
verbs.py       a verb of the command line in this process, with a time limit and a memory limit
checks.py      whether runs came out as in an undisturbed study
trainer.py     a trainer of some lines, whose every write names its process
processes.py   the processes of a torture, by what they were started with
kills.py       SIGKILL at random moments: local, SLURM, Ray, MLflow
scheduler.py   a scheduler on a virtual clock, by virtual.py
files.py       full disks, truncated files, clocks that jump, 100,000 run folders
twos.py        two of everything at once
hostile.py     hostile studies, sites, run folders, shards and tables, by mutate.py
soak.py        2,000 tiny runs
"""
