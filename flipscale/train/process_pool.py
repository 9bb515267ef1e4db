"""The processes at hand for the runs of one call of `train`."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from flipscale.errors import Diverged
from flipscale.run import RunFolder, read_probe
from flipscale.train.failure import Failed, why
from flipscale.train.machine import loading_modules
from flipscale.train.processes import Group, is_lost_connection, joined, start
from flipscale.train.stop import Stop, stacks_in_log


class ProcessPool:
    """The processes at hand: those this one was started with, or as many as a run asks for, started when it comes."""

    def __init__(self, folders: Sequence[Path]):
        self.folders = folders
        self.joined = joined()
        self.broken = False
        """Whether the GPU no longer works for this process: the remaining runs need another process."""
        self.group = self.joined or Group()

    def group_of(self, processes: int) -> Group:
        if self.joined is None and not (self.group.size == processes and self.group.is_whole):
            self.close()
            if processes > 1:
                self.group = start(processes, self.folders)
        return self.group

    @property
    def is_lost(self) -> bool:
        """Whether nothing more can be done here: the GPU no longer works, or processes that were started elsewhere no
        longer stand at the same point. Whoever started them must start them again.
        """
        return self.broken or (self.joined is not None and self.group.apart)

    def close(self) -> None:
        self.group.close()
        self.group = Group() if self.joined is None else self.group


def follow(group: Group, stop: Stop) -> int:
    """Do the tasks that process 0 hands out, until none is left. Process 0's exit code says how they ended.

    A follower that was stopped ends before process 0 has written the checkpoint, and srun kills what is left of a step
    when one of its processes ends with anything but 0.
    """
    with loading_modules():
        from flipscale.train.scoring import score_weights
        from flipscale.train.trainers.builtin.pretrain import pretrain
        from flipscale.train.trainers.builtin.timing import time_shapes
    while task := group.next_task():
        try:
            run = RunFolder(task)
            with stacks_in_log(run):
                if run.is_trained:
                    score_weights(run, None, group, stop)
                elif read_probe(run.path) is not None:
                    time_shapes(run, None, group, stop)
                else:
                    pretrain(run, None, group, stop, checkpoint_seconds=0)
        except (Failed, Diverged):
            # All processes know of it and stand at the same point.
            continue
        except Exception as error:
            # The others wait for this one: they learn why, and that it is gone.
            if not is_lost_connection(error):
                group.report(why(error))
            sys.stderr.flush()
            os._exit(1)
    return 0
