"""The table of docs/studies.md: every study whose results are committed."""

import json
import subprocess
from pathlib import Path
from typing import Any

from flipscale.collecting import read_results
from flipscale.study import read_study

ROOT = Path(__file__).parents[1]


def committed(what: str = "results/*/comparison.json", root: Path = ROOT) -> list[Path]:
    """The files of a repository that git tracks and whose paths fit; a study that was only run there has none."""
    listed = subprocess.run(["git", "ls-files", what], cwd=root, capture_output=True, text=True, check=True).stdout
    return [root / path for path in sorted(listed.splitlines())]


def table() -> str:
    """A line for each study with results: its question, runs, seeds and stated claims."""
    rows = ["| study | question | runs | seeds | claims | results |", "|---|---|---|---|---|---|"]
    for file in committed():
        name = file.parent.name
        results = read_results(file.with_name("results.csv"))
        question = read_study(ROOT / f"studies/{name}.yaml").question or ""
        links = f"[comparison](../results/{name}/comparison.md), [table](../results/{name}/results.csv)"
        counts = (len(results), results["seed"].nunique(), _claims(json.loads(file.read_text(encoding="utf-8"))))
        cells = (f"[{name}](../studies/{name}.yaml)", question, *map(str, counts), links)
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def _claims(comparison: dict[str, Any]) -> str:
    """'7: 3 hold, 1 contradicted, 3 undecided'; none stated is 'none'."""
    counts = (comparison.get("claims") or {}).get("counts") or {}
    words = {"holds": "hold"}
    said = ", ".join(f"{n} {verdict if n == 1 else words.get(verdict, verdict)}" for verdict, n in counts.items() if n)
    return f"{sum(counts.values())}: {said}" if said else "none"
