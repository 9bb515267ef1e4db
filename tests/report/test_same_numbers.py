"""The figure, comparison.md and the report of a committed study state the same speed-ups and gains."""

import html
import re
from pathlib import Path

import pytest

from flipscale.plan import plan
from flipscale.report import write_report
from flipscale.study import read_study

ROOT = Path(__file__).parents[2]
STUDIES = sorted(path.parent.name for path in ROOT.glob("results/*/results.csv"))


def verdicts(name: str) -> str:
    """The sentences of the committed comparison.md."""
    written = (ROOT / f"results/{name}/comparison.md").read_text()
    return written.partition("In words:\n\n")[2].partition("\n\n")[0]


def answer(name: str, plots: Path) -> str:
    """The words of the report's answer, but for the verdicts that it repeats."""
    file = ROOT / f"studies/{name}.yaml"
    study = read_study(file)
    page = write_report(study, plan(study), file, ROOT / "results", plots).path.read_text()
    lead = re.search(r'<div class="lead">(.*?)</div>', page, re.DOTALL)
    assert lead
    return html.unescape(re.sub(r"<[^>]+>", "", lead[1]))


def drawn(name: str) -> str:
    """The texts of the committed figure of speed-ups; '' where the study has none."""
    path = ROOT / f"plots/{name}/speedup.svg"
    return "\n".join(re.findall(r"<text[^>]*>([^<]*)", path.read_text())) if path.exists() else ""


def intervals(text: str) -> set[str]:
    return set(re.findall(r"95 % CI ([-+]?[\d.]+ to [-+]?[\d.]+)", text))


def factors(text: str) -> set[str]:
    """Speed-ups; a figure writes 2.2× slower beside its 0.45×."""
    return set(re.findall(r"([\d.]+)[x×](?! slower)", text))


@pytest.mark.parametrize("name", STUDIES)
def test_figure_and_report_state_the_intervals_of_the_verdicts(name: str, tmp_path: Path) -> None:
    said = verdicts(name)
    for other in (drawn(name), answer(name, tmp_path)):
        assert intervals(other) <= intervals(said)
        assert factors(other) <= factors(said)
        assert not re.search(r"95 % interval|\d to [\d.]+, \d+ seeds\)", re.sub(r"95 % CI [^)]*\)", "", other))


def test_the_figure_claims_a_speed_only_where_the_verdict_does() -> None:
    assert factors(drawn("quickstart")) == {"1.53"}
    assert intervals(drawn("quickstart")) == {"1.07 to 2.0"}
    fashion = drawn("fashion")
    assert "no significant difference" in fashion
    assert "faster" not in fashion
    assert "slower" not in fashion
    assert intervals(fashion) == {"1.00 to 1.95", "0.30 to 2.3"}
    assert len(re.findall("no significant difference", drawn("isoflop"))) == 6
    assert "2.2× slower to 80.8 %" in drawn("isoflop")
