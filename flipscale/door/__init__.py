"""The door between the two halves: a results table, and what a reader of it has to know.

columns.py     the columns of results.csv
tables.py      tables as DataFrames: results.csv, and anybody's
statements.py  what a study states of its results before anybody looks
"""
