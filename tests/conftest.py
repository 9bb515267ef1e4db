"""Fixtures of more than one folder of tests."""

import gc
import os
import re
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from docs.parts.pictures import start_chromium
from tests.clusters.ray import RayCluster
from tests.clusters.slurm import SlurmCluster
from tests.parts import need
from tests.patience import PATIENCE
from tests.small_study import run_once

PARTS = {"ray": "ray", "slurm": "slurm", "database": "postgresql", "browser": "browser"}
"""Fixtures that take long to make, and the lane of the tests that use them."""

LANES = ("ray", "second ray", "slurm", "second slurm", "browser", "postgresql")
"""Lanes of real parts, the longest first. Their tests have the mark `clusters`, which `make test` leaves out."""

RAY = pytest.StashKey[RayCluster | None]()
"""The Ray cluster that runs."""

LONGEST = ("ray", "second ray", "slurm", "second slurm")
"""Lanes that the end of `make test-clusters` waits for: the other lanes leave them the cores."""

LONG_FILES = (
    *("tests/test_golden.py", "tests/test_cli.py", "tests/test_fresh_clone.py", "tests/launch/test_local.py"),
    *("tests/train/test_scoring.py", "tests/train/test_processes.py", "tests/train/test_open_clip_command.py"),
    *("tests/train/test_stages.py", "tests/test_tutorials.py", "tests/train/test_trunk.py", "tests/report"),
    *("tests/test_track.py", "tests/launch/test_full_scale.py", "tests/train/test_loop.py", "tests/test_plot.py"),
    *("tests/test_plot_kinds.py", "tests/launch/test_attend.py", "tests/test_damaged_files.py", "tests/test_next.py"),
    *("tests/test_attacks.py", "tests/launch/test_slurm_fake.py", "tests/test_other_data.py"),
)
"""Files whose tests take long and use no lane. Begun last, one of them would leave the other cores idle."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write golden files anew; read the difference")


class Golden:
    """Compares texts with golden files, whole; with --update-golden it writes those that differ."""

    def __init__(self, update: bool) -> None:
        self.update = update

    def __call__(self, file: Path, text: str, *, rounded: bool = False) -> None:
        """rounded: numbers may differ by one in their last digit, as processors round differently."""
        kept = file.read_text(encoding="utf-8") if file.exists() else ""
        if rounded and same_but_for_rounding(kept, text):
            return
        if self.update and text != kept:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
            kept = text
        assert text == kept


NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")


def same_but_for_rounding(old: str, new: str) -> bool:
    """Whether two texts have the same words, and numbers that differ by one in the last printed digit at most."""
    if NUMBER.sub("", old) != NUMBER.sub("", new):
        return False
    numbers = [[Decimal(number.replace(",", "")) for number in NUMBER.findall(text)] for text in (old, new)]
    return all(abs(a - b) <= Decimal(1).scaleb(b.as_tuple().exponent) for a, b in zip(*numbers, strict=True))


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    return Golden(request.config.getoption("--update-golden"))


def lane_of(item: pytest.Item) -> str:
    """The real part that a test needs, or else its file; those of tests/report share a study that is run once."""
    used = getattr(item, "fixturenames", ())
    file = item.nodeid.partition("::")[0]
    apart = "tests/report" if item.path.parent.name == "report" else file
    lane = next((lane for name, lane in PARTS.items() if name in used), apart)
    # In one lane the tests of a cluster would take longer than all others together.
    return f"second {lane}" if item.get_closest_marker("second") and lane in PARTS else lane


def pytest_itemcollected(item: pytest.Item) -> None:
    """Keep the tests of a lane on one worker: each real part starts once (clusters twice), and so do fixtures of
    a file. Mark those that need a real part."""
    lane = lane_of(item)
    item.add_marker(pytest.mark.xdist_group(lane))
    if lane in LANES:
        item.add_marker(pytest.mark.clusters)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put lanes that mostly wait first, then long files, then those with slow tests: the end is quick."""
    lanes: dict[str, list[pytest.Item]] = {lane: [] for lane in LANES}
    for item in items:
        (group,) = item.iter_markers("xdist_group")
        lanes.setdefault(group.args[0], []).append(item)

    def rank(lane: str) -> int:
        if lane in LANES or lane in LONG_FILES:
            return (*LANES, *LONG_FILES).index(lane)
        is_slow = any(item.get_closest_marker("slow") for item in lanes[lane])
        return 100 if is_slow else 101

    items[:] = [item for lane in sorted(lanes, key=rank) for item in lanes[lane]]


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Where lanes run beside each other, the others yield to the longest ones, which come first: no worker goes back
    to one."""
    yields = item.get_closest_marker("clusters") and lane_of(item) not in LONGEST
    if "PYTEST_XDIST_WORKER" in os.environ and yields and os.nice(0) == 0:
        os.nice(5)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    reasons = [report.longrepr[2] for report in terminalreporter.stats.get("skipped", ())]
    if line := skipped_words(reasons, config.option.markexpr):
        terminalreporter.write_line(line)


def skipped_words(reasons: list[str], marks: str) -> str:
    """One line: which tests were skipped for want of something, or left out by `make test`, and how to get them."""
    needs = Counter(reason.partition("needs ")[2] for reason in reasons)
    parts = [f"{number} need {what}" for what, number in needs.items() if what]
    if marks == "not clusters":
        parts.append("those of real SLURM, Ray, MLflow's server, PostgreSQL, Chromium and torture: make test-clusters")
    return f"tests skipped: {'; '.join(parts)} (on Debian, .ci/run installs and runs all)" if parts else ""


# Collecting tests loads all that they import, which stays: Python need not search it for garbage, then or later.
gc.disable()


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


# Where bytecode is not kept, each of the many processes that tests start compiles flipscale anew.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# torch.compile would start a process for each core, which loads torch first. Tests fill the cores by themselves.
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
# An error that nobody foresaw fails its test, wherever it was raised.
os.environ["FLIPSCALE_TRACEBACK"] = "1"

# A shell that starts tests in the background has them ignore SIGINT, and what they start would as well.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of this session, which the workers of pytest-xdist share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def ran(shared: Path) -> Path:
    """A folder in which the whole of a small study was run; a test that changes something takes a copy."""
    return run_once(shared / "ran")


@pytest.fixture(scope="session")
def slurm_cluster() -> Iterator[SlurmCluster]:
    """A real SLURM for the whole session, from the first test that asks for it; SLURM_CONF points to it.

    Tests take `slurm`, which is the same and leaves it clean.
    """
    reason = SlurmCluster.missing()
    need(not reason, f"a SLURM cluster: {reason}")
    cluster = SlurmCluster.start()
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in cluster.env.items():
                patch.setenv(name, value)
            yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def slurm(slurm_cluster: SlurmCluster) -> Iterator[SlurmCluster]:
    """The SLURM cluster, queue empty and nodes idle: afterwards jobs are cancelled, and what was killed is back."""
    yield slurm_cluster
    slurm_cluster.settle()


@pytest.fixture
def ray(request: pytest.FixtureRequest) -> Iterator[RayCluster]:
    """A real Ray cluster, no job running; RAY_ADDRESS points to it.

    It runs from the first test that asks for it to the last one in a row: idle it takes 4 CPU-seconds a minute. After
    each test jobs are stopped, and what was killed is back.
    """
    reason = RayCluster.missing()
    need(not reason, f"a Ray cluster: {reason}")
    cluster = request.config.stash.get(RAY, None) or RayCluster.start()
    request.config.stash[RAY] = cluster
    with pytest.MonkeyPatch.context() as patch:
        for name, value in cluster.env.items():
            patch.setenv(name, value)
        yield cluster
    cluster.settle()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """Stop the Ray cluster where the next test does without it."""
    try:
        yield
    finally:
        if "ray" not in getattr(nextitem, "fixturenames", ()) and (cluster := item.config.stash.get(RAY, None)):
            item.config.stash[RAY] = None
            cluster.stop()


@pytest.fixture(scope="session")
def browser() -> Iterator[object]:
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError:
        need(False, "playwright: pip install -e '.[dev]'")
    with sync_playwright() as playwright:
        try:
            started = start_chromium(playwright, timeout=1000 * PATIENCE)
        except Error as error:
            need(False, f"Chromium: apt-get install chromium, or playwright install chromium ({error.message[:200]})")
        yield started
        started.close()
