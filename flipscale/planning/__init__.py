"""Every run of a study: its identity, parents, cost and time.

runs.py      Plan, Run: every run of a study
identity.py  what makes a run itself: its id, and the runs it starts from
timing.py    what a probe measured, and how long runs take by it
sweeps.py    what a sweep chooses for each arm
"""
