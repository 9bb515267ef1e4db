"""Torture: faults at random moments, counted. `make torture`, or `python -m tests.torture --help`.

counts.py      what went wrong in a part, by kind; the table and bench/results/torture.json
checks.py      whether runs came out as in an undisturbed study
trainer.py     a short trainer whose every write names its process
submitter.py   submits runs in a process that may be killed
processes.py   the processes of a torture, found by a folder that they name
kills.py       SIGKILL at random moments: local, SLURM, Ray
full_disk.py   a disk that is full after some write
twos.py        two of everything at once
"""
