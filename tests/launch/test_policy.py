"""What is done about each kind of failure: decided from plain records, with no run and no scheduler."""

from dataclasses import replace

import pytest

from flipscale.launch.policy import POLICIES, Decision, decide, nodes_to_avoid, resources_after, since_given_up
from flipscale.planning.runs import plan
from flipscale.run import FailedAttempt, FailureKind, RunRequest
from flipscale.settings.declarations import Resources
from flipscale.study import read_study

STUDY = """
schema: 1
base: {model: ViT-w16d1-4, data: shapes, samples: 640, mask_ratio: 0.5, batch_size: 32, lr: 1e-3, text_length: 16, \
image_size: 28, tuning: {samples: 60, batch_size: 10}}
"""


SETTINGS = {
    "model": "ViT-w16d1-4",
    "image_size": 28,
    "text_length": 16,
    "data": {"shapes": {"pairs": 0.3, "seed": 0}},
    "samples": 640,
    "mask_ratio": 0.5,
    "lr": 1e-3,
    "warmup": 64,
}


def asked(batch_size=32, resources=Resources()):  # noqa: B008  it cannot be changed
    return RunRequest("run", {**SETTINGS, "batch_size": batch_size}, resources=resources)


def failed(kind, then="resumed", **more):
    return FailedAttempt(FailureKind(kind), "", then, given_up=then.startswith("given up"), **more)


def test_every_kind_of_failure_has_a_policy():
    assert set(POLICIES) == set(FailureKind)


# Given up at once


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("disk", "given up: somebody has to free space"),
        ("data", "given up: it would fail again"),
        ("code", "given up: it would fail again"),
        ("diverged", "given up: it would diverge again"),
        ("parent", "given up: its parent comes first"),
    ],
)
def test_what_would_be_the_same_again_is_given_up_at_once(kind, says):
    assert decide(FailureKind(kind), [], asked(resources=Resources(gpus=2))) == Decision(
        False, says, Resources(gpus=2), away=False
    )


# Resumed


def test_a_preempted_run_is_resumed_as_often_as_it_comes():
    resumed = Decision(True, "resumed", Resources(gpus=2), away=False)
    assert decide(FailureKind.PREEMPTED, [], asked(resources=Resources(gpus=2))) == resumed
    assert (
        decide(FailureKind.PREEMPTED, [failed("preempted", samples_seen=0)] * 1000, asked(resources=Resources(gpus=2)))
        == resumed
    )


def test_a_run_at_its_time_limit_is_resumed_as_long_as_it_comes_further():
    earlier = [failed("timeout", samples_seen=100 * number) for number in range(50)]
    assert decide(FailureKind.TIMEOUT, earlier, asked(), samples_seen=5000) == Decision(
        True, "resumed", Resources(), away=False
    )


@pytest.mark.parametrize(
    ("earlier", "again"),
    [
        ([], True),
        ([("timeout", 64)], True),
        ([("timeout", 64), ("timeout", 64)], False),
        ([("timeout", 32), ("timeout", 64), ("timeout", 64)], False),
        ([("timeout", 32), ("timeout", 64)], True),
        ([("timeout", 64), ("timeout", 64), ("timeout", 32)], False),
        ([("timeout", 70), ("timeout", 67)], False),
        # As a program without a checkpoint is cut off: it starts from nothing each time.
        ([("timeout", 30), ("timeout", 50)], True),
        ([("timeout", 30), ("timeout", 70), ("timeout", 50)], False),
        ([("timeout", 64), ("timeout", 64), ("preempted", 64)], True),
        ([("timeout", 64), ("preempted", 64), ("timeout", 64)], True),
        ([("preempted", 64), ("preempted", 64)], True),
    ],
)
def test_a_run_that_came_no_further_in_three_jobs_in_a_row_is_given_up(earlier, again):
    decision = decide(
        FailureKind.TIMEOUT, [failed(kind, samples_seen=samples) for kind, samples in earlier], asked(), 64
    )
    assert decision.again is again
    if not again:
        assert decision.says == (
            "given up: it made no progress in 3 jobs, so the limit is too short; write time and time_limit: site into "
            "the site file"
        )


@pytest.mark.parametrize(
    ("earlier", "samples_seen", "advises"),
    [([], 64, False), ([], 0, True), ([64], 64, True), ([64], 65, False), ([32, 64], 40, True)],
)
def test_an_attempt_that_its_time_limit_ended_without_progress_says_write_time(earlier, samples_seen, advises):
    row = [failed("timeout", samples_seen=samples) for samples in earlier]
    decision = decide(FailureKind.TIMEOUT, row, asked(), samples_seen)
    advice = "; it made no progress: write time and time_limit: site into the site file"
    assert decision.again
    assert decision.says == ("resumed" + advice if advises else "resumed")


def test_a_run_without_a_record_came_no_further_either():
    stuck = [failed("timeout", samples_seen=0), failed("timeout", samples_seen=0)]
    assert not decide(FailureKind.TIMEOUT, stuck, asked()).again


# Moved


@pytest.mark.parametrize(
    ("before", "again", "says"),
    [
        (0, True, "resumed, on another node if one takes it (1 of 3)"),
        (1, True, "resumed, on another node if one takes it (2 of 3)"),
        (2, True, "resumed, on another node if one takes it (3 of 3)"),
        (3, False, "given up after 3 times"),
    ],
)
def test_a_run_whose_node_failed_goes_elsewhere_three_times(before, again, says):
    earlier = [
        failed("node", f"resumed, on another node if one takes it ({number + 1} of 3)", node="n1")
        for number in range(before)
    ]
    assert decide(FailureKind.NODE, earlier, asked(resources=Resources(gpus=1))) == Decision(
        again, says, Resources(gpus=1), away=again
    )


@pytest.mark.parametrize("kind", ["node", "stalled"])
@pytest.mark.parametrize(
    ("samples", "again"),
    [
        ([0] * 3, True),
        ([0] * 4, False),
        (range(0, 4000, 64), True),
        ([0, 64, 64, 64], True),
        ([0, 64, 64, 64, 64], False),
        ([0, 64, 32, 64, 50], False),
        ([0, 64, 64, 64, 128], True),
    ],
)
def test_lost_nodes_and_stalls_count_only_without_progress_in_between(kind, samples, again):
    *before, now = samples
    earlier = [failed(kind, samples_seen=seen) for seen in before]
    assert decide(FailureKind(kind), earlier, asked(), now).again is again


def test_progress_does_not_excuse_a_lack_of_memory():
    earlier = [failed("oom", samples_seen=100 * number) for number in range(3)]
    assert not decide(FailureKind.OOM, earlier, asked(), 5000).again


# Halved


MORE_MEMORY = "; give it more memory (memory_per_process in a site file), or a smaller batch"


def test_a_run_out_of_memory_halves_its_micro_batch_three_times():
    resources, earlier, said = Resources(gpus=1), [], []
    for _ in range(4):
        decision = decide(FailureKind.OOM, earlier, asked(32, resources))
        said.append((decision.again, decision.says, decision.resources, decision.away))
        resources = decision.resources
        earlier.append(failed("oom", decision.says))
    assert said == [
        (True, "again with accumulate 2 (1 of 3)", Resources(gpus=1, accumulate=2), False),
        (True, "again with accumulate 4 (2 of 3)", Resources(gpus=1, accumulate=4), False),
        (True, "again with accumulate 8 (3 of 3)", Resources(gpus=1, accumulate=8), False),
        (False, f"given up after 3 times{MORE_MEMORY}", Resources(gpus=1, accumulate=8), False),
    ]


@pytest.mark.parametrize(
    ("batch_size", "resources", "accumulate"),
    [
        (32, Resources(), 2),
        (32, Resources.of({"accumulate": None}), 2),
        (32, Resources(accumulate=1), 2),
        (32, Resources(accumulate=16), 32),
        (32, Resources(gpus=0), 2),
        # 4 rows on each of 8 GPUs
        (32, Resources(gpus=8), 2),
        (32, Resources(gpus=8, accumulate=2), 4),
        # 8 rows in each of 4 processes, however many GPUs they have
        (32, Resources(processes=4), 2),
        (32, Resources(processes=4, gpus=8, accumulate=4), 8),
        # no half of these is whole
        (3, Resources(), 3),
        (15, Resources(), 3),
        (15, Resources(accumulate=3), 15),
        (15, Resources(accumulate=5), 15),
        (30, Resources(accumulate=2), 5),
        (30, Resources(accumulate=5), 10),
        (7, Resources(), 7),
    ],
)
def test_the_micro_batch_becomes_the_largest_that_is_half_as_large_or_smaller(batch_size, resources, accumulate):
    decision = decide(FailureKind.OOM, [], asked(batch_size, resources))
    assert decision.says == f"again with accumulate {accumulate} (1 of 3)"
    assert decision.resources == replace(resources, accumulate=accumulate)


@pytest.mark.parametrize(
    ("batch_size", "resources"),
    [
        (2, Resources(accumulate=2)),
        (32, Resources(accumulate=32)),
        (32, Resources(gpus=8, accumulate=4)),
        (8, Resources(processes=8)),
        (7, Resources(accumulate=7)),
    ],
)
def test_a_micro_batch_of_one_row_cannot_be_made_smaller(batch_size, resources):
    assert decide(FailureKind.OOM, [], asked(batch_size, resources)) == Decision(
        False, "given up: its micro-batch cannot be made smaller", resources, away=False
    )


def test_a_batch_that_nothing_is_known_of_can_be_split_into_any_number():
    unknown = RunRequest("run", {}, resources=Resources(accumulate=3))
    assert decide(FailureKind.OOM, [], unknown).resources == Resources(accumulate=6)
    assert decide(FailureKind.OOM, [], RunRequest("run", {})).resources == Resources(accumulate=2)


def test_the_batch_of_a_tuning_is_its_own(tmp_path):
    (tmp_path / "study.yaml").write_text(STUDY)
    pretraining, tuning = (RunRequest.of(run) for run in plan(read_study(tmp_path / "study.yaml")).runs)
    by_two = [failed("oom", "again with accumulate 2 (1 of 3)")]
    parts = []
    for run in (pretraining, tuning):
        first = decide(FailureKind.OOM, [], run)
        second = decide(FailureKind.OOM, by_two, replace(run, resources=first.resources))
        parts.append((first.resources.accumulate, second.resources.accumulate))
    assert parts == [(2, 4), (2, 5)], "32 rows, and 10"


# What counts


def test_failures_of_another_kind_do_not_count():
    earlier = [failed("node", node="n1")] * 3 + [failed("timeout", samples_seen=0)] * 2
    assert decide(FailureKind.OOM, earlier, asked()).says == "again with accumulate 2 (1 of 3)"
    assert (
        decide(FailureKind.NODE, [failed("oom")] * 3, asked()).says
        == "resumed, on another node if one takes it (1 of 3)"
    )


def test_counting_begins_anew_where_a_run_was_given_up():
    of_nodes = [failed("node")] * 3 + [failed("node", "given up after 3 times")]
    assert decide(FailureKind.NODE, of_nodes, asked()).says == "resumed, on another node if one takes it (1 of 3)"
    assert (
        decide(FailureKind.NODE, [*of_nodes, failed("node")], asked()).says
        == "resumed, on another node if one takes it (2 of 3)"
    )
    other = [failed("node"), failed("node"), failed("code", "given up: it would fail again")]
    assert decide(FailureKind.NODE, other, asked()).says == "resumed, on another node if one takes it (1 of 3)"


def test_the_row_of_time_outs_begins_anew_where_a_run_was_given_up():
    stuck = [failed("timeout", samples_seen=64)] * 2 + [
        failed("timeout", "given up: it made no progress in 3 jobs, so the limit is too short", samples_seen=64)
    ]
    assert decide(FailureKind.TIMEOUT, stuck, asked(), samples_seen=64).again
    assert decide(FailureKind.TIMEOUT, [*stuck, failed("timeout", samples_seen=64)], asked(), samples_seen=64).again
    assert not decide(
        FailureKind.TIMEOUT, stuck + [failed("timeout", samples_seen=64)] * 2, asked(), samples_seen=64
    ).again


def test_the_failures_since_a_run_was_given_up_are_those_after_the_last_time():
    first, second, third = failed("node"), failed("oom", "given up after 3 times"), failed("timeout")
    assert since_given_up([]) == []
    assert since_given_up([first, third]) == [first, third]
    assert since_given_up([first, second]) == []
    assert since_given_up([first, second, third, second, first, third]) == [first, third]


def test_nodes_that_failed_of_late_are_avoided():
    assert nodes_to_avoid([]) == []
    assert nodes_to_avoid(
        [
            failed("node", node="n3"),
            failed("node", node="n1"),
            failed("node", node="n3"),
            failed("node", node=""),
            failed("node"),
            failed("preempted", node="n2"),
        ]
    ) == ["n1", "n3"]
    given_up = failed("node", "given up after 3 times", node="n1")
    assert nodes_to_avoid([failed("node", node="n3"), given_up]) == []
    assert nodes_to_avoid([failed("node", node="n3"), given_up, failed("node", node="n2")]) == ["n2"]


# Asked for anew


@pytest.mark.parametrize(
    ("resources", "accumulated", "expected"),
    [
        (Resources(gpus=1), [], Resources(gpus=1)),
        (Resources(gpus=1), [None], Resources(gpus=1)),
        (Resources(gpus=1), [2, 4, None], Resources(gpus=1, accumulate=4)),
        (Resources.of({"gpus": 1, "accumulate": None}), [2], Resources(gpus=1, accumulate=2)),
        (Resources(gpus=1, accumulate=2), [4], Resources(gpus=1, accumulate=4)),
        # The study's own wins where it is larger.
        (Resources(gpus=1, accumulate=8), [2, 4], Resources(gpus=1, accumulate=8)),
        # It has come to more GPUs, of 4 rows each: 4 parts are all that can be made of them.
        (Resources(gpus=8), [3], Resources(gpus=8, accumulate=4)),
    ],
)
def test_what_made_a_run_fit_into_memory_stays(resources, accumulated, expected):
    failures = [failed("oom", accumulate=parts) if parts else failed("node") for parts in accumulated]
    assert resources_after(asked(32, resources), failures) == expected


def test_what_made_a_run_fit_into_memory_stays_after_it_was_given_up():
    failures = [failed("oom", accumulate=2), failed("oom", "given up after 3 times")]
    assert resources_after(asked(32, Resources(gpus=1)), failures) == Resources(gpus=1, accumulate=2)


def test_asking_anew_changes_nothing_of_what_was_asked():
    run = asked(32, Resources(gpus=1))
    resources_after(run, [failed("oom", accumulate=2)])
    decide(FailureKind.OOM, [], run)
    assert run == asked(32, Resources(gpus=1))
    assert resources_after(RunRequest("run", {}), []) == Resources()
