"""The work of a job: `train` takes run folders and does each run that is unfinished and that no other process holds.

A run whose settings name another trainer is handed to it, one that is trained is scored, and all others
are trained here, by one process or several. The failure of a run is written into its folder, by kind, and the next run
is taken.

worklist.py     the runs of one call, one after the other
parents.py      whether the parent of a run can give it weights yet
meeting.py      how they meet, each with its device
distributed.py  how they agree
trainers/       flipscale's own, open_clip's program, a command
requests.py     the request for a run, and the time and samples spent before it
sources.py      its data and evaluation sets, opened
data/           training pairs and held-out sets
model.py        the model; attention.py, mask.py, text.py, objective.py, reconstruction.py are parts of it
classify.py     the image tower with a head, for a fine-tuning; augmentation.py is a part of it
resize.py       a parent's weights in the shapes of a tuning with other patches, image sizes or text lengths
schedule.py     the learning rate of a step
scoring.py      scores of finished weights, measured later
encoding.py     features of the items to score, computed by all processes
evaluate.py     scores; feature_probe.py is the linear probe, set_metrics.py the metrics that a labelled set may name
metrics.py      lines of metrics.jsonl
failure.py      a failure by its kind
stop.py         signals
machine.py      memory and names of devices
profile.py      where the time of a run goes
"""

from flipscale.train.stop import STOP_SIGNALS
from flipscale.train.worklist import train

__all__ = ["STOP_SIGNALS", "train"]
