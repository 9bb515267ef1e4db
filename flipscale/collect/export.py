"""The results for others: a table for a paper, or the whole of it for another program."""
