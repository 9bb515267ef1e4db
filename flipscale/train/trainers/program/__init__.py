"""Programs of others as trainers.

command.py  a training command of the user's own
process.py  a program at work on a run's folder
outcome.py  what a program says that it measured, checked and completed
timing.py   how long its runs take, by its first seconds
evaluation.py  scores that the user's own programs measure
"""
