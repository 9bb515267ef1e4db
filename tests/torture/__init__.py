"""Torture: faults at random moments and hostile files, counted. `make torture`, or `python -m tests.torture --help`.

counts.py      what went wrong in a part, by kind; the table and bench/results/torture.json
verbs.py       a verb of the command line in this process, with a time limit and a memory limit
checks.py      whether runs came out as in an undisturbed study
trainer.py     a short trainer whose every write names its process
submitter.py   submits runs in a process that may be killed
processes.py   the processes of a torture, found by a folder that they name
kills.py       SIGKILL at random moments: local, SLURM, Ray; MLflow in mirror.py
files.py       full disks (full_disk.py), truncated files, clocks that jump, 100,000 run folders
twos.py        two of everything at once
hostile.py     hostile studies, sites, run folders, shards and tables, by mutate.py
soak.py        2,000 tiny runs
"""
