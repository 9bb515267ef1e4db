"""The door between the two halves: a results table, and what a reader of it has to know.

columns.py     the columns of results.csv
tables.py      tables as DataFrames: results.csv, and anybody's
record.py      a table with what a reader of it has to know of its study
run_states.py  a run of a plan: its state and hours
sweep.py       a sweep, and what it says of each arm
statements.py  what a study states of its results before anybody looks
"""
