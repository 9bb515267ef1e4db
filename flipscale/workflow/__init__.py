"""The steps of a study's life as functions, and `run_study`, which takes all of them. The command line calls these too.

A step returns its result and reports progress on stderr. Nothing is exported here, as planning loads little and drawing
loads much: import from the module.

opened.py    a study together with its file and the place of its results
plans.py     its plan on disk, and the runs of plans before it
earlier.py   finished runs of the study as its file was
owner.py     the study that a results folder belongs to
submitted.py from the plan to finished runs
collected.py finished runs into tables, and the same rows into MLflow
drawn.py     figures
baseline.py  the baseline in the form of the results
compared.py  the comparison of arms
fitted.py    scaling laws
diagnosis.py, machine_health.py, study_health.py   what `doctor` finds
verbs.py     each of them as a function of a study: `from flipscale import plan, fit`
whole.py     all of it: run_study
talk.py      messages of the steps
"""
