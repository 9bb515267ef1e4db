"""The table of docs/studies.md: every study whose results are committed."""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from flipscale.collecting import read_results
from flipscale.study import read_study
from flipscale.words import fixed, times

ROOT = Path(__file__).parents[2]


def committed(what: str = "results/*/comparison.json", root: Path = ROOT) -> list[Path]:
    """The files of a repository that git tracks and whose paths fit; a study that was only run there has none."""
    listed = subprocess.run(["git", "ls-files", what], cwd=root, capture_output=True, text=True, check=True).stdout
    return [root / path for path in sorted(listed.splitlines())]


def table() -> str:
    """A line for each study with results: its question, runs, seeds and stated claims. Then the hours of all."""
    tables: list[pd.DataFrame] = []
    rows = ["| study | question | runs | seeds | claims | results |", "|---|---|---|---|---|---|"]
    for file in committed():
        name = file.parent.name
        results = read_results(file.with_name("results.csv"))
        tables.append(results)
        question = read_study(ROOT / f"studies/{name}.yaml").question or ""
        links = f"[comparison](../results/{name}/comparison.md), [table](../results/{name}/results.csv)"
        counts = (len(results), results["seed"].nunique(), _claims(json.loads(file.read_text(encoding="utf-8"))))
        cells = (f"[{name}](../studies/{name}.yaml)", question, *map(str, counts), links)
        rows.append(f"| {' | '.join(cells)} |")
    runs = pd.concat(tables).drop_duplicates("id").set_index("id")
    hours = runs["gpu_hours_probed"].fillna(runs["gpu_hours"])
    own = (runs["own_samples_seen"] / runs["samples_seen"]).astype(float).fillna(1.0)
    hours = (own * hours).sum() - hours.reindex(runs["parent"].dropna()).sum()  # A child's row has its parent's too.
    said = (
        f"{len(runs):,} runs and {fixed(hours, 0)} core-hours of training in all, without trunks and the sweeps that "
        "`tune:` makes. A run that two studies share counts once."
    )
    return "\n".join([*rows, "", said]) + "\n"


def _claims(comparison: dict[str, Any]) -> str:
    """'7: 3 hold, 1 contradicted, 3 undecided'; none stated is 'none'."""
    counts = (comparison.get("claims") or {}).get("counts") or {}
    words = {"holds": "hold"}
    said = ", ".join(f"{n} {verdict if n == 1 else words.get(verdict, verdict)}" for verdict, n in counts.items() if n)
    return f"{sum(counts.values())}: {said}" if said else "none"


def mosaic() -> str:
    """What mosaic's runs say of its claims."""
    rows = ["| claim | points (corrected 95 % CI) | verdict |", "|---|---|---|"]
    for claim in _comparison("mosaic")["claims"]["claims"]:
        found = claim["difference"]
        ends = found["interval_corrected"]
        said = f"{fixed(ends[0], sign=True)} to {fixed(ends[1], sign=True)}" if ends else "exact test, no CI"
        rows.append(f"| {claim['claim']} | {fixed(found['value'], sign=True)} ({said}) | {claim['verdict']} |")
    table = read_results(ROOT / "results/mosaic/results.csv")
    hours = table.groupby(["model", "mask_ratio", "samples"])["gpu_hours_probed"].mean()
    fine, coarse = "ViT-w48d3-4", "ViT-w48d3-8"
    at_equal_time = {4000: [(fine, 0.5, 8000), (fine, 0.75, 16000), (coarse, 0, 19000)]}
    at_equal_time[6000] = [(fine, 0.5, 12000), (fine, 0.75, 24000), (coarse, 0, 28000)]
    parts = [hours[cell] / hours[fine, 0, at] for at, cells in at_equal_time.items() for cell in cells]
    said = (
        f"{len(table)} runs, {table['seed'].nunique()} seeds, {fixed(table['gpu_hours_probed'].sum(), 2)} core-hours. "
        "Runs that are compared in the time of 4k and 6k unmasked samples take "
        f"{min(parts):.2f} to {max(parts):.2f} of it."
    )
    return "\n".join([*rows, "", said]) + "\n"


def when_masks_pay() -> str:
    """What a mask gains at each budget with fewer and more images, and the claims of the study."""
    rows = ["| budget | images | gain (95 % CI) | its best size | the baseline's |", "|---|---|---:|---|---|"]
    for budget, point in at_budgets("when_masks_pay"):
        gain = in_points(point["difference"], "interval")
        best = (" or ".join(sorted(set(side))) for side in point["best"])
        flops = f"{budget:.3g} FLOPs".replace("e+", "e")
        rows.append(f"| {flops} | {point['left']['data_size']:,} | {gain} | {' | '.join(best)} |")
    rows += ["", "| claim | points (corrected 95 % CI) | p, corrected | verdict |", "|---|---|---|---|"]
    for claim in _comparison("when_masks_pay")["claims"]["claims"]:
        found = claim["difference"]
        rows.append(f"| {claim['claim']} | {in_points(found)} | {found['p_corrected']:.2g} | {claim['verdict']} |")
    return "\n".join(rows) + "\n"


def in_points(found: Mapping[str, Any], ends: str = "interval_corrected") -> str:
    """'+1.0 (+0.5 to +1.6)'."""
    low, high = found[ends]
    return f"{fixed(found['value'], sign=True)} ({fixed(low, sign=True)} to {fixed(high, sign=True)})"


def at_budgets(study: str) -> list[tuple[float, dict[str, Any]]]:
    """Each budget of FLOPs with the gain there, each side at its best size; of one arm after the other."""
    found: list[tuple[float, dict[str, Any]]] = []
    points: list[dict[str, Any]] = []
    for each in _comparison(study)["at_budgets"]:
        if "along" in each:  # The slope, which follows its points.
            found += zip(each["along"], points, strict=True)
            points = []
        else:
            points.append(each)
    return found


def rates() -> str:
    """The speed-ups of isoflop's sizes, all with one learning rate, and with one for each size and arm."""
    chosen = read_results(ROOT / "results/isoflop_tuned/results.csv").groupby(["model", "mask_ratio"])["lr"].unique()
    shared, own = (
        {each["name"]: each["costs"]["gpu_hours"]["speedup"] for each in _comparison(name)["series"]}
        for name in ("isoflop", "isoflop_tuned")
    )
    rows = ["| size | its rate, no mask | with 50 % | speed-up, all at 1e-3 | with its rates |"]
    rows.append("|---|---|---|---|---|")
    for model in chosen.index.levels[0]:
        found = (of[f"model={model}, mask_ratio=0.5"] for of in (shared, own))
        cells = (*(f"{chosen[model, mask].item():g}" for mask in (0, 0.5)), *map(_speedup, found))
        rows.append(f"| {model} | {' | '.join(cells)} |")
    before, after = map(_by_budget, ("isoflop", "isoflop_tuned"))
    gains = [100 * (means.loc[0.5] - means.loc[0]).max().max() for means in (before, after)]
    better = (100 * (after.max(axis=1) - before.max(axis=1))).round(6)  # So that 2.95 is not 2.9499...
    same = (before.idxmax(axis=1) == after.idxmax(axis=1)).groupby("mask_ratio").sum()
    at_edge, masked_edge = (sum(after.loc[mask].idxmax(axis=1) == after.columns[0]) for mask in (0, 0.5))
    said = [
        f"- Without a mask and with its own rate, the smallest size tried is the best at {at_edge} of 4 budgets, so "
        "the optimum lies outside and `fit` has no law of it. With a mask of 50 % it lies inside at "
        f"{4 - masked_edge} of 4.",
        f"- The accuracy of a budget's best size rises by {better.min():.1f} to {better.max():.1f} points. It is the "
        f"same size at {same[0]} of 4 budgets without a mask, and at {same[0.5]} of 4 with one.",
        f"- At equal FLOPs a mask gains up to {gains[1]:.1f} points in the means of 3 seeds, where it gained up to "
        f"{gains[0]:.1f}, in models too large for their budget.",
        f"- Two probes gave the hours; the ratios of the arms' hours differ by up to {100 * _apart():.0f} %.",
    ]
    return "\n".join([*rows, "", *said]) + "\n"


def sets(root: Path = ROOT) -> str:
    """What plateau's models score on each set of plateau_sets, the means, and on how many a mask is ahead."""
    table = read_results(root / "results/plateau_sets/results.csv")
    means = yaml.safe_load((root / "studies/plateau_sets.yaml").read_text())["evaluation"]["means"]
    scores = 100 * table.groupby(["mask_ratio", "samples"]).mean(numeric_only=True)
    arms = {
        "no mask, 64k": scores.loc[0, 64000],
        "no mask, 256k": scores.loc[0, 256000],
        "50 %, batch 128": scores.loc[0.5, 256000],
        "75 %, batch 256": scores.loc[0.75, 256000],
    }
    rows = [_row("score, %", *arms), f"|---|{len(arms) * '---:|'}"]
    for mean, names in means.items():
        columns = [name if "." in name else f"{name}.zero_shot_top1" for name in names]
        rows += [_row(column.partition(".")[0], *(fixed(of[column]) for of in arms.values())) for column in columns]
        rows.append(_row(f"**{mean}**", *(f"**{fixed(of[f'{mean}.mean'])}**" for of in arms.values())))
        ahead = [sum(of[columns] > arms["no mask, 256k"][columns]) for of in arms.values()]
        rows.append(_row("ahead of no mask, 256k", ahead[0], "", *ahead[2:]))
    rows.append(_row("linear probe, clothes", *(fixed(of["linear_probe_top1"]) for of in arms.values())))
    return "\n".join(rows) + "\n"


def _row(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def _apart() -> float:
    """How far isoflop_tuned's hours of the unmasked arm over those of the masked one differ from isoflop's."""
    ratios = []
    for name in ("isoflop", "isoflop_tuned"):
        table = read_results(ROOT / f"results/{name}/results.csv")
        table["speed"] = table["samples_seen"] / table["gpu_hours_probed"]
        speed = table.groupby(["mask_ratio", "model"])["speed"].mean()
        ratios.append(speed.loc[0.5] / speed.loc[0])
    return float((ratios[1] / ratios[0] - 1).abs().max())


def _by_budget(name: str) -> pd.DataFrame:
    """Mean accuracy by mask and budget, a size a column."""
    table = read_results(ROOT / f"results/{name}/results.csv")
    budget = (table["train_flops"] / 1e11).round(1)
    return table.pivot_table(index=["mask_ratio", budget], columns="model", values="zero_shot_top1")


def _comparison(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ROOT / f"results/{name}/comparison.json").read_text(encoding="utf-8"))
    return found


def _speedup(found: dict[str, Any]) -> str:
    """'1.78x (1.11 to 2.6): faster'."""
    verdict = "undecided" if found["p_corrected"] > 0.05 else "faster" if found["value"] > 1 else "slower"
    return f"{times(found['value'])}x ({_ends(*found['interval_corrected'])}): {verdict}"


def _ends(low: float | None, high: float | None) -> str:
    """'1.60 to 2.2', 'below 0.58': the CI of a factor."""
    if high is None:
        return f"above {times(low)}" if low else "open on both sides"
    return f"{times(low)} to {times(high)}" if low else f"below {times(high)}"
