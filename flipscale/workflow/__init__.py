"""The steps of a study's life as functions, and `run_study`, which takes all of them. The command line calls these too.

A step returns its result and reports progress on stderr. Nothing is exported here, as planning loads little and drawing
loads much: import from the module.

opened.py    a study together with its file, its plan and the place of its results
tuned.py     what its sweep has chosen
owner.py     the study that a results folder belongs to
submitted_plans.py  the studies that a results folder knows
probed.py    a probe of a study
submitted.py from the plan to finished runs
live_curves.py curves in MLflow while runs train
collected.py finished runs into tables, and the same rows into MLflow
to_score.py  finished runs that lack scores, or have those of other data than their sets hold now
results.py   the finished runs of a study as it stands, and files made of them
drawn.py     figures
reported.py  the page: what the files say, gathered
compared.py  the comparison of arms
fitted.py    scaling laws
proposed.py  what to run next
accounts.py  the hours spent
machine_health.py   what this machine has and lacks
verbs.py     each of them as a function of a study: `from flipscale import plan, fit`
run.py       all of it: run_study
messages.py  messages of the steps
"""
