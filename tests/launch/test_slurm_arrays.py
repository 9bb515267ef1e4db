"""Which runs share a job, and which jobs an array: from requests and a site, with no SLURM."""

import random
from dataclasses import replace

import pytest

from flipscale.errors import LaunchError
from flipscale.launch.launcher import Request
from flipscale.launch.site import DEFAULTS
from flipscale.launch.slurm.arrays import JobArray, arrays_of, nodes_of
from flipscale.run import FailedAttempt, FailureKind, RunFolder, RunRequest
from flipscale.settings.declarations import Resources
from tests.launch.contract import NO_COST

GIB = 2**30


@pytest.fixture
def request_of(tmp_path):
    """A request: a run of one GPU and an hour unless told otherwise."""

    def request_of(run_id, *parents, hours=1.0, memory=None, bad=(), **resources):
        folder = RunFolder(tmp_path / "runs" / run_id)
        folder.path.mkdir(parents=True)
        for node in bad:
            folder.note_failure(FailedAttempt(FailureKind.NODE, "", "resumed on another node", node=node))
        cost = replace(NO_COST, gpu_hours=hours, memory_bytes=memory or 0)
        return Request(folder, RunRequest(run_id, {}, parents, Resources(**{"gpus": 1, **resources}), cost))

    return request_of


def site(*, pack=None, **keys):
    """Nothing is said of memory, as these runs are none that could be predicted."""
    return {**DEFAULTS, "memory_per_process": None, **keys, "pack": {**DEFAULTS["pack"], **(pack or {})}}


def arranged(requests, *, size=100, under_way=None, **keys):
    return arrays_of(requests, site(**keys), size, "S", command=["train"], under_way=under_way)


def tasks(arrays):
    return [dict(array.tasks) for array in arrays]


def after(arrays):
    return [(array.name, array.after) for array in arrays]


# One run a task


def test_by_itself_a_run_is_a_task(request_of, tmp_path):
    (array,) = arranged([request_of("a"), request_of("b"), request_of("c")], partition="main")
    assert array == JobArray(
        name="S-0",
        tasks={0: ("a",), 1: ("b",), 2: ("c",)},
        resources=Resources(gpus=1),
        cores=1,
        lanes=1,
        avoid=(),
        site=site(partition="main"),
        runs=str(tmp_path / "runs"),
        command=("train",),
        after=None,
        after_jobs=(),
        slurm_id=None,
    )


def test_an_array_has_so_many_tasks_at_most(request_of):
    arrays = arranged([request_of(f"run-{number}") for number in range(7)], size=3)
    assert tasks(arrays) == [
        {0: ("run-0",), 1: ("run-1",), 2: ("run-2",)},
        {0: ("run-3",), 1: ("run-4",), 2: ("run-5",)},
        {0: ("run-6",)},
    ]
    assert after(arrays) == [("S-0", None), ("S-1", None), ("S-2", None)]


def test_runs_of_different_needs_are_in_different_arrays(request_of):
    arrays = arranged([request_of("a"), request_of("b", gpus=8), request_of("c"), request_of("d", accumulate=2)])
    assert tasks(arrays) == [{0: ("a",), 1: ("c",)}, {0: ("b",)}, {0: ("d",)}]
    assert [array.resources for array in arrays] == [
        Resources(gpus=1),
        Resources(gpus=8),
        Resources(gpus=1, accumulate=2),
    ]


def test_runs_whose_nodes_failed_are_in_arrays_that_avoid_them(request_of):
    arrays = arranged(
        [
            request_of("a"),
            request_of("b", bad=["n2", "n1"]),
            request_of("c", bad=["n1"]),
            request_of("d", bad=["n1", "n2"]),
        ]
    )
    assert [(dict(array.tasks), array.avoid) for array in arrays] == [
        ({0: ("a",)}, ()),
        ({0: ("b",), 1: ("d",)}, ("n1", "n2")),
        ({0: ("c",)}, ("n1",)),
    ]


# Children


def test_children_have_the_indices_of_their_parents_in_a_later_array(request_of):
    arrays = arranged(
        [*(request_of(name) for name in "abcd"), request_of("b-eval", "b"), request_of("d-eval", "d")],
    )
    assert tasks(arrays) == [{0: ("a",), 1: ("b",), 2: ("c",), 3: ("d",)}, {1: ("b-eval",), 3: ("d-eval",)}]
    assert after(arrays) == [("S-0", None), ("S-1", "S-0")]


def test_several_children_of_a_parent_are_in_several_arrays(request_of):
    arrays = arranged(
        [
            request_of("a"),
            request_of("b"),
            request_of("b-0", "b"),
            request_of("b-1", "b"),
            request_of("a-0", "a"),
            request_of("b-2", "b"),
        ]
    )
    assert tasks(arrays) == [
        {0: ("a",), 1: ("b",)},
        {1: ("b-0",), 0: ("a-0",)},
        {1: ("b-1",)},
        {1: ("b-2",)},
    ]
    assert after(arrays) == [("S-0", None), ("S-1", "S-0"), ("S-2", "S-0"), ("S-3", "S-0")]


def test_children_follow_the_chunk_their_parent_is_in(request_of):
    arrays = arranged(
        [*(request_of(name) for name in "abcd"), *(request_of(f"{name}-eval", name) for name in "dcba")], size=2
    )
    assert tasks(arrays[:2]) == [{0: ("a",), 1: ("b",)}, {0: ("c",), 1: ("d",)}]
    assert {array.after: dict(array.tasks) for array in arrays[2:]} == {
        "S-0": {0: ("a-eval",), 1: ("b-eval",)},
        "S-1": {0: ("c-eval",), 1: ("d-eval",)},
    }


def test_children_of_other_needs_than_their_parents_follow_them_all_the_same(request_of):
    arrays = arranged([request_of("a", gpus=8), request_of("b", gpus=8), request_of("b-eval", "b", gpus=0)])
    assert tasks(arrays) == [{0: ("a",), 1: ("b",)}, {1: ("b-eval",)}]
    assert (arrays[1].after, arrays[1].resources) == ("S-0", Resources(gpus=0))


def test_children_of_a_run_that_somebody_else_does_wait_for_its_job(request_of):
    arrays = arranged(
        [
            request_of("a"),
            request_of("p-0", "p"),
            request_of("q-0", "q"),
            request_of("p-1", "p"),
            request_of("p-1-eval", "p-1"),
        ],
        under_way={"p": "7_3", "q": "8_0"},
    )
    assert [(dict(array.tasks), array.after, array.after_jobs) for array in arrays] == [
        ({0: ("a",)}, None, ()),
        ({0: ("p-0",), 1: ("p-1",)}, None, ("7_3",)),
        ({0: ("q-0",)}, None, ("8_0",)),
        ({1: ("p-1-eval",)}, "S-1", ()),
    ]


# open_clip's program


def open_clip(request):
    return replace(request, asked=replace(request.asked, settings={"trainer": "open_clip"}))


def test_one_process_has_all_gpus_and_cores_where_open_clips_program_starts_the_others(request_of):
    theirs, ours = request_of("theirs", gpus=8), request_of("ours", gpus=8)
    first, second = arranged([open_clip(theirs), ours], cpus_per_process=12)
    assert (first.resources.devices, first.cores, first.gpus_per_node) == (1, 96, 8)
    assert (second.resources.devices, second.cores, second.gpus_per_node) == (8, 12, 8)


def test_open_clips_program_is_not_sent_to_several_nodes(request_of):
    with pytest.raises(LaunchError, match=r"^theirs: open_clip's program trains on one node, of 4 GPUs here; lower "):
        arranged([open_clip(request_of("theirs", gpus=8))], gpus_per_node=4)


# Packed by time


def test_short_runs_share_a_job_up_to_its_time(request_of):
    hours = [0.4, 0.4, 0.4, 0.9, 0.05, 0.05, 1.0]
    arrays = arranged([request_of(f"r{at}", hours=each) for at, each in enumerate(hours)], pack={"time": 3600})
    assert tasks(arrays) == [{0: ("r0", "r1"), 1: ("r2",), 2: ("r3", "r4", "r5"), 3: ("r6",)}]
    assert arrays[0].lanes == 1


def test_a_run_too_long_to_be_packed_stays_alone(request_of):
    arrays = arranged(
        [
            request_of("long", hours=1.1),
            request_of("a", hours=0.1),
            request_of("b", hours=0.1),
            request_of("c", hours=5),
        ],
        pack={"time": 3600},
    )
    assert tasks(arrays) == [{0: ("a", "b"), 1: ("long",), 2: ("c",)}]


def test_the_hours_of_several_gpus_pass_at_once(request_of):
    arrays = arranged(
        [request_of("a", gpus=8, hours=4), request_of("b", gpus=8, hours=4)], pack={"time": 3600}, gpus_per_node=8
    )
    assert tasks(arrays) == [{0: ("a", "b")}]


def test_a_parent_and_its_children_are_packed_as_a_whole(request_of):
    arrays = arranged(
        [
            request_of("a", hours=0.3),
            request_of("b", hours=0.3),
            request_of("a-0", "a", hours=0.3),
            request_of("a-0-eval", "a-0", hours=0.1),
            request_of("b-0", "b", hours=0.3),
        ],
        pack={"time": 3600},
    )
    assert tasks(arrays) == [{0: ("a", "a-0", "a-0-eval"), 1: ("b", "b-0")}]


def test_a_line_that_is_too_long_is_packed_in_no_part(request_of):
    arrays = arranged(
        [request_of("a", hours=0.9), request_of("a-eval", "a", hours=0.2), request_of("b", hours=0.1)],
        pack={"time": 3600},
    )
    assert tasks(arrays) == [{0: ("b",), 1: ("a",)}, {1: ("a-eval",)}]
    assert after(arrays) == [("S-0", None), ("S-1", "S-0")]


def test_a_line_of_different_needs_is_not_packed(request_of):
    arrays = arranged([request_of("a", hours=0.1, gpus=2), request_of("a-eval", "a", hours=0.1)], pack={"time": 3600})
    assert tasks(arrays) == [{0: ("a",)}, {0: ("a-eval",)}]
    assert after(arrays) == [("S-0", None), ("S-1", "S-0")]


def test_a_line_that_waits_for_the_job_of_somebody_else_is_not_packed(request_of):
    arrays = arranged(
        [request_of("a", hours=0.1), request_of("b", "p", hours=0.1), request_of("c", hours=0.1)],
        pack={"time": 3600},
        under_way={"p": "7_3"},
    )
    assert [(dict(array.tasks), array.after_jobs) for array in arrays] == [
        ({0: ("a", "c")}, ()),
        ({0: ("b",)}, ("7_3",)),
    ]


def test_runs_of_different_needs_or_nodes_are_packed_apart(request_of):
    arrays = arranged(
        [
            request_of("a", hours=0.1),
            request_of("b", hours=0.1, gpus=2),
            request_of("c", hours=0.1, bad=["n1"]),
            request_of("d", hours=0.1),
        ],
        pack={"time": 3600},
    )
    assert [(dict(array.tasks), array.avoid) for array in arrays] == [
        ({0: ("a", "d")}, ()),
        ({0: ("b",)}, ()),
        ({0: ("c",)}, ("n1",)),
    ]


# Packed beside each other


def test_in_several_lanes_the_time_passes_at_once(request_of):
    arrays = arranged([request_of(f"r{at}", hours=0.5) for at in range(7)], pack={"share": 3, "time": 3600})
    assert [(dict(array.tasks), array.lanes) for array in arrays] == [
        ({0: ("r0", "r1", "r2", "r3", "r4", "r5"), 1: ("r6",)}, 3)
    ]


def test_runs_with_children_share_no_device_unless_they_are_short(request_of):
    runs = [request_of("a", hours=0.2), request_of("a-eval", "a", hours=0.2), request_of("b"), request_of("c")]
    arrays = arranged(runs, pack={"share": 2})
    assert [(dict(array.tasks), array.lanes) for array in arrays] == [
        ({0: ("b", "c")}, 2),
        ({0: ("a",)}, 1),
        ({0: ("a-eval",)}, 1),
    ]
    (array,) = arranged(runs[:2], pack={"share": 2, "time": 3600})
    assert (dict(array.tasks), array.lanes) == ({0: ("a", "a-eval")}, 2)


@pytest.mark.parametrize(
    ("share", "memory", "lanes"),
    [(4, 10 * GIB, 4), (8, 10 * GIB, 6), (8, 16 * GIB, 4), (8, 40 * GIB, 1), (8, 100 * GIB, 1), (8, None, 1)],
)
def test_so_many_runs_share_a_gpu_as_fit_with_a_fifth_left(request_of, share, memory, lanes):
    runs = [request_of(f"r{number}", memory=memory) for number in range(8)]
    arrays = arranged(runs, pack={"share": share, "device_memory": "80G"})
    assert {array.lanes for array in arrays} == {lanes}
    assert max(len(ids) for array in arrays for ids in array.tasks.values()) == lanes


def test_a_job_of_a_whole_node_has_as_many_runs_as_it_has_gpus_for(request_of):
    runs = [request_of(f"r{number}", gpus=2) for number in range(5)]
    arrays = arranged(runs, pack={"whole_nodes": True}, gpus_per_node=8)
    assert [(dict(array.tasks), array.lanes) for array in arrays] == [({0: ("r0", "r1", "r2", "r3"), 1: ("r4",)}, 4)]
    shared = arranged(runs, pack={"whole_nodes": True, "share": 2}, gpus_per_node=8)
    assert [(dict(array.tasks), array.lanes) for array in shared] == [({0: ("r0", "r1", "r2", "r3", "r4")}, 8)]


@pytest.mark.parametrize("gpus", [0, 8, 16])
def test_no_runs_stand_beside_one_without_gpus_or_of_a_node_or_more(request_of, gpus):
    runs = [request_of(f"r{number}", gpus=gpus) for number in range(2)]
    arrays = arranged(runs, pack={"whole_nodes": True}, gpus_per_node=8)
    assert [(dict(array.tasks), array.lanes) for array in arrays] == [({0: ("r0",), 1: ("r1",)}, 1)]


# The shape of a job


@pytest.mark.parametrize(
    ("resources", "keys", "nodes", "gpus"),
    [
        (Resources(), {}, 1, 0),
        (Resources(gpus=8), {}, 1, 8),
        # over several nodes
        (Resources(gpus=16), {}, 2, 8),
        (Resources(gpus=16), {"gpus_per_node": 4}, 4, 4),
        (Resources(gpus=12), {}, 2, 6),
        # one process for several GPUs
        (Resources(gpus=8, processes=2), {}, 1, 8),
        (Resources(gpus=16, processes=2), {}, 2, 8),
        # without GPUs
        (Resources(processes=6), {}, 1, 0),
        (Resources(processes=6), {"processes_per_node": 2}, 3, 0),
        (Resources(processes=2), {"processes_per_node": 4}, 1, 0),
        # of a whole node
        (Resources(gpus=2), {"pack": {"whole_nodes": True}}, 1, 8),
        (Resources(gpus=16), {"pack": {"whole_nodes": True}}, 2, 8),
        (Resources(processes=2), {"pack": {"whole_nodes": True}}, 1, 0),
    ],
)
def test_a_job_has_the_nodes_and_gpus_of_its_runs(request_of, resources, keys, nodes, gpus):
    (array,) = arranged([request_of("a", **vars(resources))], **keys)
    assert (array.nodes, array.gpus_per_node) == (nodes, gpus)


@pytest.mark.parametrize(
    ("resources", "keys", "says"),
    [
        (
            Resources(gpus=9),
            {},
            "A run of 9 GPUs cannot be divided evenly over nodes of 8; ask for a multiple of 8, or correct the site's "
            "gpus_per_node.",
        ),
        (
            Resources(processes=5),
            {"processes_per_node": 2},
            "A run of 5 processes cannot be divided evenly over nodes of 2; ask for a multiple of 2, or correct "
            "the site's processes_per_node.",
        ),
    ],
)
def test_a_run_that_does_not_come_out_even_on_nodes_is_refused(resources, keys, says):
    with pytest.raises(LaunchError) as refused:
        nodes_of(resources, site(**keys))
    assert str(refused.value) == says


# Whatever the runs and the site


def forest(rng, request_of, prefix):
    """Some trees of runs, and jobs of parents that are not among them."""
    requests, under_way = [], {}
    for number in range(rng.randrange(1, 25)):
        parents = []
        if requests and rng.random() < 0.6:
            parents = [rng.choice(requests).id]
        elif rng.random() < 0.1:
            parents = [f"{prefix}-elsewhere-{number % 2}"]
            under_way[parents[0]] = f"7_{number % 2}"
        requests.append(
            request_of(
                f"{prefix}-{number}",
                *parents,
                hours=rng.choice([0.01, 0.1, 0.5, 2]),
                memory=rng.choice([None, GIB, 30 * GIB]),
                bad=rng.choice([[], [], [], ["n1"]]),
                gpus=rng.choice([0, 1, 1, 1, 2]),
            )
        )
    return requests, under_way


def test_whatever_the_forest_and_the_site_each_run_has_one_place_and_comes_after_its_parent(request_of):
    rng = random.Random(20)
    for trial in range(300):
        requests, under_way = forest(rng, request_of, f"t{trial}")
        size = rng.choice([1, 2, 3, 7, 100])
        pack = {
            "time": rng.choice([None, None, 600, 3600]),
            "share": rng.choice([1, 1, 2, 3]),
            "device_memory": rng.choice([None, "80G"]),
            "whole_nodes": rng.choice([False, True]),
        }
        arrays = arranged(requests, size=size, under_way=under_way, pack=pack, gpus_per_node=rng.choice([2, 8]))

        said = f"trial {trial}: {[(a.name, dict(a.tasks), a.after) for a in arrays]}"
        assert [array.name for array in arrays] == [f"S-{number}" for number in range(len(arrays))]
        places = {
            run_id: (at, index, position)
            for at, array in enumerate(arrays)
            for index, run_ids in array.tasks.items()
            for position, run_id in enumerate(run_ids)
        }
        assert sum(len(ids) for array in arrays for ids in array.tasks.values()) == len(places) == len(requests), said
        assert places.keys() == {request.id for request in requests}
        for array in arrays:
            assert 0 < len(array.tasks) <= size, said
            assert all(0 <= index < size for index in array.tasks), said
        for request in requests:
            at, index, position = places[request.id]
            array = arrays[at]
            assert array.resources == request.resources, said
            assert array.avoid == (("n1",) if request.folder.failures() else ()), said
            for parent in request.parents:
                if parent in under_way:
                    assert array.after_jobs == (under_way[parent],), said
                    continue
                parent_at, parent_index, parent_position = places[parent]
                same_task = (parent_at, parent_index) == (at, index) and parent_position < position
                later_array = parent_at < at and array.after == arrays[parent_at].name and parent_index == index
                assert same_task or later_array, f"{request.id} is not after {parent}; {said}"
            if not request.parents:
                assert (array.after, array.after_jobs) == (None, ()), said


# Records, parents that are done, and runs of unknown length or other memory


def test_an_array_reads_back_as_it_was_written(request_of, tmp_path):
    (array,) = arranged([request_of("a", "p", bad=["n1"])], under_way={"p": "7_3"}, memory_per_process="4G")
    array.write(tmp_path / "slurm")
    assert JobArray.read(tmp_path / "slurm" / "S" / "0.json") == array


def test_a_parent_that_is_done_is_not_waited_for(request_of):
    (array,) = arranged([request_of("a"), request_of("b", "done")])
    assert (dict(array.tasks), array.after, array.after_jobs) == ({0: ("a",), 1: ("b",)}, None, ())


def test_a_run_of_unknown_length_stays_alone(request_of):
    unknown = request_of("unknown")
    unknown = replace(unknown, asked=replace(unknown.asked, cost=None))
    assert tasks(arranged([unknown, request_of("a", hours=0.1)], pack={"time": 3600})) == [
        {0: ("a",), 1: ("unknown",)},
    ]


def test_large_runs_and_small_ones_have_different_lanes_and_the_memory_of_a_gpu_is_nothing_to_runs_without(request_of):
    runs = [request_of(f"r{at}", memory=(10 if at % 2 else 30) * GIB) for at in range(6)]
    without = [request_of(f"c{at}", gpus=0, memory=90 * GIB) for at in range(2)]
    arrays = arranged([*runs, *without], pack={"share": 4, "device_memory": "80G"})
    assert [(dict(array.tasks), array.lanes) for array in arrays] == [
        ({0: ("r0", "r2"), 1: ("r4",)}, 2),
        ({0: ("r1", "r3", "r5")}, 4),
        ({0: ("c0", "c1")}, 4),
    ]


# How long jobs may take


@pytest.fixture
def timed(request_of):
    """A request of a run that a probe has timed."""

    def timed(run_id, seconds, *parents):
        request = request_of(run_id, *parents, hours=seconds / 3600)
        return replace(request, asked=replace(request.asked, seconds=seconds))

    return timed


def limits(arrays):
    return [array.time for array in arrays]


def test_a_job_may_take_twice_what_a_probe_predicts_for_the_longest_run_of_its_array_and_15_minutes(timed):
    assert limits(arranged([timed("a", 3600.0), timed("b", 1000.0)])) == [2 * 3600 + 900]


def test_the_limit_of_a_packed_job_is_for_all_of_its_runs_one_after_another(timed):
    arrays = arranged([timed("a", 600.0), timed("b", 600.0)], pack={"time": 3600})
    assert tasks(arrays) == [{0: ("a", "b")}]
    assert limits(arrays) == [2 * 1200 + 900]


def test_runs_that_share_a_device_may_be_as_slow_as_one_after_another(timed):
    runs = [timed("a", 100.0), timed("b", 100.0), timed("c", 500.0)]
    arrays = arranged(runs, pack={"time": 3600, "share": 2})
    assert tasks(arrays) == [{0: ("a", "b", "c")}]
    assert limits(arrays) == [2 * 700 + 900]


@pytest.mark.parametrize(
    ("keys", "longest", "limit"),
    [
        ({"time": 86400}, 172800, 8100),
        ({"time": 7200}, 172800, 7200),
        ({}, 172800, 8100),
        ({}, 5400, 5400),
        ({"time_limit": "site", "time": 86400}, 172800, 86400),
        ({"time_limit": "site"}, 172800, None),
        # A job must not be warned as soon as it begins.
        ({"warning": 7200}, 172800, 14400),
    ],
)
def test_a_limit_is_at_most_the_sites_time_and_without_one_the_partitions(timed, keys, longest, limit):
    arrays = arrays_of([timed("a", 3600.0)], site(**keys), 100, "S", command=["train"], longest=longest)
    assert limits(arrays) == [limit]


@pytest.mark.parametrize("time", [None, 86400])
def test_the_limit_is_the_sites_where_no_probe_has_timed_all_runs_or_a_job_only_scores(timed, request_of, time):
    assert limits(arranged([timed("a", 60.0), request_of("b")], time=time)) == [time]
    assert limits(arranged([replace(timed("c", 60.0), only_scores=True)], time=time)) == [time]
