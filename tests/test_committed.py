"""The committed tables are those of the committed archives, and the committed comparisons those of the tables."""

import json
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from flipscale.cli import main
from flipscale.collect import hits_of, read_results
from flipscale.compare import compare_study as compare_results
from flipscale.compare import comparison_json, with_images
from flipscale.plan import plan
from flipscale.run import RunFolder, State
from flipscale.study import read_study
from tests.studies import committed

ROOT = Path(__file__).parents[1]
STUDIES = [path.parent.name for path in committed()]
ARCHIVED = [path.parent.name for path in committed("results/*/runs.tar.bz2")]


def leaves(data: object, place: str = "") -> Iterator[tuple[str, object]]:
    """Every number, word and null of JSON with its place."""
    if isinstance(data, dict):
        for key, value in data.items():
            yield from leaves(value, f"{place}.{key}")
    elif isinstance(data, list):
        for i, value in enumerate(data):
            yield from leaves(value, f"{place}[{i}]")
    else:
        yield place, data


@pytest.fixture(scope="module")
def merge(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The results folder into which a study's archive alone was merged, by the study's name; each is merged once."""

    @cache
    def merged_into(name: str) -> Path:
        results = tmp_path_factory.mktemp(name) / "results"
        assert main(["merge", str(ROOT / f"results/{name}/runs.tar.bz2"), "--results", str(results)]) == 0
        return results

    return merged_into


@pytest.fixture(params=ARCHIVED)
def merged(request: pytest.FixtureRequest, merge: Callable[[str], Path]) -> tuple[str, Path]:
    """A study, and a results folder into which its archive alone was merged."""
    return request.param, merge(request.param)


def test_no_run_is_left_to_do_after_its_archive_is_merged(merged: tuple[str, Path]) -> None:
    name, results = merged
    planned = plan(read_study(ROOT / f"studies/{name}.yaml"))
    assert {RunFolder(results / "runs" / run.id).state() for run in planned.runs} == {State.FINISHED}


def test_an_archive_gives_the_committed_table_byte_for_byte(merged: tuple[str, Path]) -> None:
    name, results = merged
    assert main(["collect", str(ROOT / f"studies/{name}.yaml"), "--results", str(results), "--no-mlflow"]) == 0
    assert (results / name / "results.csv").read_bytes() == (ROOT / f"results/{name}/results.csv").read_bytes()


@pytest.mark.parametrize("name", STUDIES)
def test_a_committed_comparison_is_what_its_table_and_its_archive_give(name: str, merge: Callable[[str], Path]) -> None:
    study = read_study(ROOT / f"studies/{name}.yaml")
    comparison = compare_results(read_results(ROOT / f"results/{name}/results.csv"), study, plan(study), None)
    if name in ARCHIVED:
        ids = [run for pair in comparison.pairs for twins in pair.ids for run in twins]
        comparison = with_images(comparison, hits_of(merge(name), ids, comparison.score).runs)
    found = dict(leaves(json.loads(json.dumps(comparison_json(comparison)))))
    kept = dict(leaves(json.loads((ROOT / f"results/{name}/comparison.json").read_text())))
    assert found.keys() == kept.keys()
    for place, value in kept.items():
        assert found[place] == (pytest.approx(value, rel=1e-6) if isinstance(value, float) else value), place
