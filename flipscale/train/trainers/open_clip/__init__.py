"""open_clip's own training program as a run's trainer.

run.py     one run, from flags to its result
output.py  what the program says, read into records
shards.py  the shards that it trains on
"""
