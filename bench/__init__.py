"""Measures flipscale, and compares its predictions and intervals with known answers. `make bench` runs most of them.

Speed, as ratios within one run on one machine, because speeds of two days or two machines cannot be compared:

    python -m bench.speed         images a second, against open_clip's own training program
    python -m bench.masking       time with a mask over time without one, against the ratio of FLOPs
    python -m bench.gpu           predicted against measured memory and time of steps on a GPU, and MFU
    python -m bench.fed           images a second of a GPU that loaders feed, against open_clip's own training program
    python -m bench.submission    submitting and looking at thousands of runs, against sbatch and hydra
    python -m bench.ray_overhead  a run on Ray, against plain Ray Tune
    python -m bench.commands      CPU time of each command, against a short program for the same chore
    python -m bench.collect       collecting many run folders
    python -m bench.large_study   each verb on a study of 10,000 runs
    python -m bench.mirror        points a second into MLflow, against MLflow's own calls

Predictions and intervals:

    python -m bench.probe         times that a probe predicts, against the runs
    python -m bench.hours         predicted against published device-hours
    python -m bench.memory        predicted against published memory
    python -m bench.comparison    how often intervals of `flipscale compare` hold the truth
    python -m bench.coverage      how often intervals of laws hold the truth
    python -m bench.trunks        the same where lengths share a trunk

Results are kept in bench/results, measured ones with the machine.
"""
