"""What a results table says: it is compared, fitted, drawn and reported, however it came about.

stats/      significance: noise, many comparisons, slopes, detectable differences
fitting/    scaling laws with intervals; forecasts and their test
comparing/  masked runs against their twins
plotting/   one function per figure, from one table to panels; matplotlib lays them out
reporting/  the study as one page that opens offline, by a jinja2 template
export.py   the table for a paper or another program
rows.py     what the rows of a table say of each other and of guessing
sensitivity.py  how small a difference a plan's seeds can detect
"""
