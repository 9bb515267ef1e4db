"""Measures flipscale's speed as ratios within one run on one machine.

    python -m bench.speed         images a second against open_clip's own training program
    python -m bench.masking       time with a mask over time without one, against the ratio of FLOPs
    python -m bench.gpu           predicted against measured memory and time of steps on a GPU, and MFU
    python -m bench.submission    what sending and looking at thousands of runs takes, against sbatch and hydra
    python -m bench.ray_overhead  what a run on Ray takes beside plain Ray Tune

Speeds of two days or two machines say nothing about each other, so nothing here compares with a stored number. Results
that are kept are in bench/results, with the machine they were measured on.
"""
