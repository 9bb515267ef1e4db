"""The tables of docs/benchmarks.md, from the files of bench/results."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from flipscale.words import fixed

RESULTS = Path(__file__).parents[2] / "bench" / "results"

NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Benchmark:
    """One line of the summary: what is measured against whom, and how the number is read from a result."""

    what: str
    module: str
    """A module of bench/; its results file has the same name."""
    peer: str
    read: Callable[[Mapping[str, Any]], str]


def _times(ratio: float) -> str:
    return f"{fixed(ratio)}x"


def _steps(facts: Mapping[str, Any]) -> str:
    ratios = [cell["steps_ratio"] for cell in facts["cells"]]
    return f"{_times(min(ratios))} to {_times(max(ratios))} the images a second"


def _masks(facts: Mapping[str, Any]) -> str:
    wide = [abs(cell["difference"]) for cell in facts["cells"] if cell["model"] in ("ViT-w128d4-4", "ViT-w192d4-4")]
    return f"time within {100 * max(wide):.0f} % of the FLOPs ratio at widths 128 and 192"


def _wall(runs: Sequence[Mapping[str, float]]) -> float:
    return min(run["wall_seconds"] for run in runs)


def _submission(facts: Mapping[str, Any]) -> str:
    if not facts["cluster"] or not facts["hydra"]:
        return NOT_MEASURED
    runs = facts["cluster"]["runs"]
    hydra = next(one["wall_seconds_queued"] for one in facts["hydra"] if one["runs"] == runs)
    return f"{_times(hydra / _wall(facts['cluster']['flipscale']))} as fast until {runs:,} runs are queued"


def _collect(facts: Mapping[str, Any]) -> str:
    return f"{fixed(_wall(facts['anew']))} s for 10,000 runs"


def _verb(name: str) -> Callable[[Mapping[str, Any]], str]:
    return lambda facts: f"{fixed(_wall(facts['verbs'][name]))} s for 10,000 runs"


def _command(name: str) -> Callable[[Mapping[str, Any]], str]:
    def read(facts: Mapping[str, Any]) -> str:
        one = next(one for one in facts["commands"] if one["name"] == name)
        least = one["least"]
        return f"{_times(one['ratio'])} ({fixed(least['flipscale'])} s against {fixed(least['peer'])} s of CPU)"

    return read


def _mirror(place: str) -> Callable[[Mapping[str, Any]], str]:
    def read(facts: Mapping[str, Any]) -> str:
        (found,) = (one for one in facts["limits"] if one["what"] == f"{place}: flipscale against log_batch")
        return f"{_times(float(found['measured'].removesuffix('x')))} the points a second"

    return read


def _checkpoints(facts: Mapping[str, Any]) -> str:
    before, now = (100 * facts["ways"][way]["share"] for way in ("while training waits", "by a thread"))
    return f"{fixed(now)} % of training, {fixed(before)} % before ({facts['parameters'] / 1e6:.0f}M parameters)"


def _loading(facts: Mapping[str, Any]) -> str:
    ways = {one["way"]: one for one in facts["ways"]}
    ours, theirs = ways["flipscale, 2 loaders"], ways["open_clip, 2 workers"]
    ratio = ours["images_per_cpu_second"] / theirs["images_per_cpu_second"]
    return f"{_times(ratio)} the images a CPU second, {ours['own_ms']:.2f} ms an image in the training process"


def _ray(facts: Mapping[str, Any]) -> str:
    return f"{_times(1 / facts['ratio'])} as fast for {facts['runs']} runs"


def _probe(facts: Mapping[str, Any]) -> str:
    hours = facts["gpu_hours"]
    return (
        f"device-hours off by {100 * hours['median_error']:.0f} % (median), {100 * hours['worst_error']:.0f} % (worst)"
    )


def _within(times: str) -> Callable[[Mapping[str, Any]], str]:
    def read(facts: Mapping[str, Any]) -> str:
        summary = facts["summary"]
        return f"{100 * summary[f'within_{times}_times']:.0f} % of {summary['rows']} within {times}x"

    return read


def _gpu(facts: Mapping[str, Any]) -> str:
    plain = [cell for cell in facts["cells"] if "failed" not in cell]
    off = max(max(ratio, 1 / ratio) for ratio in (cell["memory_ratio"] for cell in plain))
    return f"{facts['card']}: memory within {off:.2f}x of what is predicted, {len(plain)} configurations"


def _fed(facts: Mapping[str, Any]) -> str:
    rates = [cell.get("images_per_second") for cell in facts["cells"]]
    ratios = [ours / theirs for ours, theirs in zip(rates[::2], rates[1::2], strict=True) if ours and theirs]
    return f"{facts['card']}: {_times(min(ratios))} to {_times(max(ratios))} the images a second"


def _limits(facts: Mapping[str, Any]) -> str:
    verdicts = [one["verdict"] == "holds" for one in facts["limits"]]
    return f"{sum(verdicts)} of {len(verdicts)} designs within their limits"


def _beyond(facts: Mapping[str, Any]) -> str:
    asked = sum(len(facts[name]) for name in ("gains", "curves"))
    return f"{len(facts['beyond_limits'])} of {asked} designs outside their limits in some reading"


def _below(facts: Mapping[str, Any]) -> str:
    return f"{len(facts['read']) - len(facts['below_limit'])} of {len(facts['read'])} CIs within their limits"


OTHERS = "published trainings of other code"
TRUTH = "simulated studies of known truth"

BENCHMARKS = (
    Benchmark("training, steps", "speed", "open_clip's own program, the same shards", _steps),
    Benchmark("training, masks", "masking", "the ratio of FLOPs", _masks),
    Benchmark("training on a GPU", "gpu", "FLIP's memory, predictions, FLOPs ratios", _gpu),
    Benchmark("training on a GPU, fed by loaders", "fed", "open_clip's own program, the same shards", _fed),
    Benchmark("reading and decoding", "loading", "open_clip's own pipeline, the same shards", _loading),
    Benchmark("checkpoints", "checkpoints", "written while training waits", _checkpoints),
    Benchmark("submit to SLURM", "submission", "hydra's submitit launcher", _submission),
    Benchmark("submit to Ray", "ray_overhead", "plain Ray Tune, the same program", _ray),
    Benchmark("mirror to MLflow, SQLite", "mirror", "MLflow's log_batch", _mirror("SQLite")),
    Benchmark("mirror to MLflow, PostgreSQL", "mirror", "MLflow's log_batch", _mirror("PostgreSQL")),
    Benchmark("mirror to MLflow, server", "mirror", "MLflow's log_batch", _mirror("server on PostgreSQL")),
    Benchmark("`--help`", "commands", "`python -c 'import pandas'`", _command("--help")),
    Benchmark("plan", "commands", "open_clip builds the models, torch counts FLOPs", _command("plan")),
    Benchmark("status", "commands", "pandas reads each result.json", _command("status")),
    Benchmark("collect", "commands", "pandas writes CSV and Parquet", _command("collect")),
    Benchmark("compare", "commands", "scipy's paired t test per cell", _command("compare")),
    Benchmark("fit", "commands", "scipy's curve_fit, 1,000 resamples", _command("fit")),
    Benchmark("plot", "commands", "matplotlib, as many plain figures", _command("plot")),
    Benchmark("report", "commands", "pandas.to_html with the figures", _command("report")),
    Benchmark("plan, large", "large_study", "none", _verb("plan")),
    Benchmark("status, large", "large_study", "none", _verb("status")),
    Benchmark("collect, large", "collect", "none", _collect),
    Benchmark("compare, large", "large_study", "none", _verb("compare")),
    Benchmark("plot, large", "large_study", "none", _verb("plot")),
    Benchmark("report, large", "large_study", "none", _verb("report")),
    Benchmark("predicted hours", "hours", OTHERS, _within("1.5")),
    Benchmark("predicted memory", "memory", OTHERS, _within("1.3")),
    Benchmark("times of a probe", "probe", "the runs themselves", _probe),
    Benchmark("CIs of comparisons", "comparison", TRUTH, _beyond),
    Benchmark("CIs of laws", "coverage", TRUTH, _limits),
    Benchmark("CIs where lengths share trunks", "trunks", TRUTH, _below),
    Benchmark("choice of `next`", "next", "a ladder, the prior's mean, even grid, random cells, largest runs", _limits),
)


def _facts(name: str) -> dict[str, Any] | None:
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def summary() -> str:
    """A line for each benchmark."""
    rows = ["| what | peer | result | command | date | load |", "|---|---|---|---|---|---|"]
    for one in BENCHMARKS:
        facts = _facts(one.module)
        machine = (facts or {}).get("machine") or {}
        found = NOT_MEASURED if facts is None else one.read(facts)
        when = f"{machine.get('date', '')} | {machine.get('load', '')}"
        rows.append(f"| {one.what} | {one.peer} | {found} | `bench.{one.module}` | {when} |")
    return "\n".join(rows) + "\n"


SHOWN = ("speed", "masking", "gpu", "submission", "ray_overhead", "commands", "large_study", "collect", "mirror")
"""The results whose first table is shown in full; fits.md and compare.md show those of coverage."""


def tables() -> str:
    """The first table of each result, with where it comes from."""
    parts = []
    for name in SHOWN:
        facts = _facts(name)
        lines = facts["table"] if facts else []
        first = [line for line in lines[: lines.index("") if "" in lines else None] if line.startswith("|")]
        shown = "\n".join(first) if facts else f"{NOT_MEASURED.capitalize()} yet."
        source = f" ([numbers](../bench/results/{name}.json))" if facts else ""
        parts.append(f"### {name}\n\n`python -m bench.{name} --out {name}`{source}\n\n{shown}\n")
    return "\n".join(parts)


def peers() -> str:
    """flipscale beside three others, for README: what was measured is from bench/results."""
    queued, ray, hours, cis = (_facts(name) or {} for name in ("submission", "ray_overhead", "hours", "comparison"))
    runs = queued["cluster"]["runs"]
    (hydra,) = (one["wall_seconds_queued"] for one in queued["hydra"] if one["runs"] == runs)
    ours = _wall(queued["cluster"]["flipscale"])
    seconds = {name: fixed(median(taken), 0) for name, taken in ray["seconds"].items()}
    summary = hours["summary"]
    priced = f"within 1.5x for {100 * summary['within_1.5_times']:.0f} % of {summary['rows']}"
    designs = sum(len(cis[name]) for name in ("gains", "curves"))
    covered = designs - len(cis["beyond_limits"])
    rows = (
        ("", "flipscale", "[Hydra](docs/hydra.md) with submitit", "W&B sweeps", "Ray Tune"),
        ("---", "---", "---", "---", "---"),
        (
            "search",
            "grids",
            "grids; plugins",
            "grid, random, Bayesian; early stopping",
            "the same; plugins",
        ),
        (
            "price beforehand",
            f"FLOPs, memory, hours ({priced} published trainings)",
            "no",
            "no",
            "no",
        ),
        (
            f"{runs:,} runs queued on SLURM",
            f"{fixed(ours)} s",
            f"{fixed(hydra, 0)} s",
            "you start agents",
            "inside one job",
        ),
        (
            f"{ray['runs']} short runs on Ray",
            f"{seconds['flipscale']} s",
            "not measured",
            "no",
            f"{seconds['plain Tune, same program']} s",
        ),
        (
            "after a crash",
            "`submit` resumes what is unfinished",
            "you start what is missing",
            "agents go on; your script resumes",
            "restores the experiment",
        ),
        (
            "is a difference real?",
            f"paired 95 % CIs; coverage at least 93 %, within noise, in {covered} of {designs} simulations",
            "no",
            "no",
            "no",
        ),
    )
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"
