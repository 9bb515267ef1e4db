"""A run's folder: the request, the outcome, and the state. The state follows from which files exist.

    run.json        the request: id, settings, parents, predicted cost             written by launch
    job.json        the launcher and job that it was handed to                     written by launch
    lease.json      its holder: one process at a time                              written by train
    last_holder.json  its last holder, if a job's, that stopped before the end     written by train
    life.json       its current activity; touched whenever it makes progress       written by train
    metrics.jsonl   measurements during training: a record a line, append-only     written by train
    checkpoint.pt   the state to resume from                                       written by train
    trunk.pt        the state at the end of a constant rate, for longer runs       written by train
    model.pt        the finished weights, as open_clip loads them                  written by train
    averaged.pt     the mean of the last weights, likewise                         written by train
    code.json       the code that trained it; several if it changed on a resume    written by train
    scores.json     scores measured after training, a record a set and measure     written by train
    scoring.json    a request for more of them; until it is done, the run is not   written by launch
    hits.json       which test items the scores got right, a bit each              written by train
    result.json     scores and measured facts; its presence is what "finished" means, so it is written last
    error.json      why it failed, by kind                                         written by train or launch
    failures.jsonl  earlier failures and the answers to them                       written by launch
    log.txt         the output of the process
    earlier/        the whole folder as it was before the run was restarted        moved by launch
    probe.json      the shapes to time, if the folder is a probe's                 written by launch

Every file but the .jsonl and log.txt is written to a temporary name, flushed, then renamed, so a reader sees
the old file or the new one. This room knows files and nothing about models: a user's own training command works
under the same contract.

folder.py    a run's folder and its state
records.py   the content of its files, as types
code.py      which code trained a run, and how two codes differ
codec.py     the records as JSON
faults.py    a GPU, a node or the network at fault, by the words of CUDA and NCCL
lease.py     which process works on a run, and signs of life
processes.py  processes that files name, and whether they are ours
files.py     the names of files, and how they are written
timings.py   probes, and their measurements
finished_scores.py which scores stand, and which are missing
"""

from flipscale.door.run_states import State
from flipscale.run.code import CodeIdentity, FileContent
from flipscale.run.codec import failed_attempt_as_json, read_scores, result_from_json
from flipscale.run.faults import Fault, NodeFault, fault_in, node_name
from flipscale.run.files import (
    ARCHIVED_FILES,
    AVERAGED_FILE,
    EARLIER,
    RUN_FILES,
    SCORES_FILE,
    SCORING_FILE,
    TRUNK_FILE,
    WEIGHTS_FILE,
    FileUse,
    as_json,
    clock_ahead,
    copy,
    is_finished,
    storable,
    write_json,
)
from flipscale.run.finished_scores import ask_for_scores, asked_scores, set_of, standing_scores, unmeasured
from flipscale.run.folder import Glance, RunFolder, lacking_for, lacks_weights
from flipscale.run.lease import (
    ATTEMPT,
    CONNECT,
    HEARTBEAT_SECONDS,
    JOB,
    LEASE_GRACE_SECONDS,
    NODE,
    STACKS_SIGNAL,
    Doing,
    Holder,
    Lease,
    show_life,
)
from flipscale.run.processes import birth, is_alive, is_ours, machine
from flipscale.run.records import (
    FailedAttempt,
    Failure,
    FailureKind,
    Hits,
    Job,
    Measured,
    PlanFile,
    Reached,
    Result,
    RunRequest,
    Spent,
)
from flipscale.run.timings import (
    Probe,
    add_timings,
    all_timings,
    cpu_name,
    is_probe,
    probes_in,
    read_probe,
    read_timings,
    timings_as_json,
    timings_from_json,
    write_probe,
)

__all__ = [
    "ARCHIVED_FILES",
    "ATTEMPT",
    "AVERAGED_FILE",
    "CONNECT",
    "EARLIER",
    "HEARTBEAT_SECONDS",
    "JOB",
    "LEASE_GRACE_SECONDS",
    "NODE",
    "RUN_FILES",
    "SCORES_FILE",
    "SCORING_FILE",
    "STACKS_SIGNAL",
    "TRUNK_FILE",
    "WEIGHTS_FILE",
    "CodeIdentity",
    "Doing",
    "FailedAttempt",
    "Failure",
    "FailureKind",
    "Fault",
    "FileContent",
    "FileUse",
    "Glance",
    "Hits",
    "Holder",
    "Job",
    "Lease",
    "Measured",
    "NodeFault",
    "PlanFile",
    "Probe",
    "Reached",
    "Result",
    "RunFolder",
    "RunRequest",
    "Spent",
    "State",
    "add_timings",
    "all_timings",
    "as_json",
    "ask_for_scores",
    "asked_scores",
    "birth",
    "clock_ahead",
    "copy",
    "cpu_name",
    "failed_attempt_as_json",
    "fault_in",
    "is_alive",
    "is_finished",
    "is_ours",
    "is_probe",
    "lacking_for",
    "lacks_weights",
    "machine",
    "node_name",
    "probes_in",
    "read_probe",
    "read_scores",
    "read_timings",
    "result_from_json",
    "set_of",
    "show_life",
    "standing_scores",
    "storable",
    "timings_as_json",
    "timings_from_json",
    "unmeasured",
    "write_json",
    "write_probe",
]
