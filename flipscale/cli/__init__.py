"""The command line: parse, one call, print. Data on stdout, talk on stderr.

Exit codes: 0 done, 1 something a user can fix, 2 usage. Nothing heavy is imported before a command needs it. Each verb
is a function, and beside it stands the function that adds its arguments.

entry.py       from the words of a command to its exit code
parser.py      the list of verbs, in groups
studies.py     init, plan
jobs.py        submit, status, watch, logs, cancel
tables.py      collect, plot, export, report
times.py       status --spent
probe.py       probe
why.py         status --why
compare.py     compare
fit.py         fit
next_runs.py   next
run.py         run
storage.py     archive, merge, gc
train.py       train
arguments.py   arguments that several verbs have
names.py       runs found by a part of their id
completion.py  --completion
output.py      how all of them print
"""

from flipscale.cli.entry import main

__all__ = ["main"]
