"""The benchmark of overhead on Ray in a tiny form. Times are not tested."""

import json

import pytest

from bench import ray_overhead


@pytest.mark.slow
@pytest.mark.second_ray
def test_all_three_kinds_are_measured_on_one_ray_and_the_ratio_is_of_the_same_program(ray, tmp_path, capsys):
    out = tmp_path / "tiny.json"
    ray_overhead.main(["--runs", "1", "--repeats", "1", "--address", ray.url, "--out", str(out)])
    facts = json.loads(out.read_text())
    assert list(facts["seconds"]) == ["flipscale", "plain Tune, same program", "plain Tune, no program"]
    ours, plain, _ = (seconds for (seconds,) in facts["seconds"].values())
    assert facts["ratio"] == pytest.approx(ours / plain, abs=0.001)
    assert "| flipscale |" in capsys.readouterr().out
