"""open_clip's own training program as a run's trainer.

program.py one run, from flags to its result
printed.py what the program says, read into records
training_shards.py the shards that it trains on
"""
