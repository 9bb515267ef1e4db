"""From the evidence to the page: the question, the answer, and then the evidence, section by section."""

import base64
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.resources import files

import pandas as pd

from flipscale.code import CodeChanges
from flipscale.compare import claims_table, everything
from flipscale.devices import Hours, total_hours
from flipscale.identity import dataset_name
from flipscale.plan import Run
from flipscale.report.answer import answer
from flipscale.report.charts import chart_data, in_order, scores_of, training_time_unit
from flipscale.report.evidence import MOST_FAILURES, Evidence, FailedRun, axes_of
from flipscale.report.markup import details
from flipscale.report.names import readable
from flipscale.run import State
from flipscale.scores import is_fraction, score_label
from flipscale.tables import as_html
from flipscale.tables import escaped as text
from flipscale.tables import html_table as table
from flipscale.words import count, device_hours, fixed, hours_or_seconds, joined, short, times
from flipscale.words import hours as hours_words

FEW_VALUES = 6
"""Up to this many values of an axis are listed."""

FEW_KINDS = 5
"""With up to this many kinds and reasons, failures are unfolded; with more, only their counts are shown at first."""

MOST_CODES = 10
"""The most versions of the code that are listed."""

MOST_MEANS = 400
"""The most rows that the table of means lists."""


def page(evidence: Evidence) -> str:
    """The whole page. Equal evidence gives equal bytes."""
    sections = {
        "answer": ("Answer", readable(answer(evidence))),
        **({"claims": ("Claims", claims)} if (claims := _claims(evidence)) else {}),
        "figures": ("Figures", _figures(evidence)),
        "comparison": ("Comparison with the baseline", _comparison(evidence)),
        "fits": ("Fits", evidence.fits),
        "runs": ("Runs", _runs(evidence)),
        "failures": ("Failures", _failures(evidence)),
        "cost": ("Cost", _cost(evidence)),
        "drawn": ("Figures as drawn", _drawn(evidence)),
        "study": ("The study file", f'<pre tabindex="0"><code>{text(evidence.study_text)}</code></pre>'),
    }
    style, script, plotly = (_file(name) for name in ("page.css", "page.js", "plotly-basic.min.js"))
    # The browser runs these two scripts and no other, and loads nothing from anywhere.
    hashes = " ".join(f"'sha256-{_sha256(code)}'" for code in (plotly, script))
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {hashes}"
    question = evidence.study.question or evidence.study.name
    contents = "\n".join(f'<li><a href="#{name}">{title}</a></li>' for name, (title, _) in sections.items())
    body = "\n".join(
        f'<section id="{name}" aria-labelledby="{name}-title">\n<h2 id="{name}-title">{title}</h2>\n{inner}\n</section>'
        for name, (title, inner) in sections.items()
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{text(evidence.study.name)}: {text(question)}</title>
<style>
{style}</style>
</head>
<body>
<a class="skip" href="#answer">Skip to the answer</a>
<header>
<p class="over">A scaling study: {text(evidence.study.name)}</p>
<h1>{text(question)}</h1>
<p class="facts">{text(_facts(evidence))}</p>
<p>{text(_asked(evidence))}</p>
<button type="button" id="theme" hidden>Dark colours</button>
</header>
<nav aria-label="Sections"><ul>
{contents}
</ul></nav>
<main>
{body}
</main>
<footer><p>{text(_made_from(evidence))}</p></footer>
<script type="application/json" id="data">{chart_data(evidence)}</script>
<script>{plotly}</script>
<script>{script}</script>
</body>
</html>
"""


def _file(name: str) -> str:
    return files("flipscale.report").joinpath(name).read_text(encoding="utf-8")


def _sha256(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


# The top


def _facts(evidence: Evidence) -> str:
    """How far the study is, its cost and its date, in one line."""
    counts = Counter(run.state for run in evidence.runs.values())
    others = [f"{counts[state]:,} {state}" for state in State if state is not State.FINISHED and counts[state]]
    unit, factor, spent = _hours(evidence)
    said = [
        f"{counts[State.FINISHED]:,} of {count(len(evidence.runs), 'run')} finished",
        *others,
        f"{hours_words(spent * factor)} {unit} measured" if spent else "",
        f"{evidence.planned.total.hours * factor} {unit} predicted",
        f"{evidence.planned.money} predicted" if evidence.planned.money else "",
        f"newest run finished {_newest(evidence)}" if _newest(evidence) else "",
    ]
    return " · ".join(filter(None, said))


def _asked(evidence: Evidence) -> str:
    """The varied settings, in one sentence."""
    cells = evidence.planned.cells
    names = dict.fromkeys([*axes_of(evidence), *evidence.study.baseline])
    varied = []
    for name in names:
        values = in_order([getattr(run.settings, name) for run in cells])
        if len(values) > 1:
            some = ", ".join(values) if len(values) <= FEW_VALUES else f"{len(values)} values"
            varied.append(f"{name} ({some})")
    seeds = len({run.settings.seed for run in cells})
    along = f" vary {joined(varied)}," if varied else ""
    data = ", ".join(dict.fromkeys(dataset_name(run.settings.data) for run in cells))
    seeded = f" with {count(seeds, 'seed')} each" if len(cells) > 1 else ""
    return f"{count(len(cells), 'run')} on {data}{along}{seeded}."


def _made_from(evidence: Evidence) -> str:
    newest = _newest(evidence)
    data = f"newest run finished {newest} (UTC)" if newest else "no run has finished yet"
    return (
        f"Made by flipscale report from the files of study {evidence.study.name}; {data}. The same files give the same "
        "page. It loads nothing from a network. Interactive figures: plotly.js 4.1.1, basic bundle, MIT licence."
    )


def _newest(evidence: Evidence) -> str:
    finished = evidence.results.get("finished")
    if finished is None or not finished.notna().any():
        return ""
    return f"{pd.to_datetime(float(finished.max()), unit='s'):%Y-%m-%d}"


# Figures and comparison


def _figures(evidence: Evidence) -> str:
    if evidence.results.empty:
        return "<p>There is no finished run to draw yet.</p>"
    note = (
        "A dot is a run, a line goes through the means over seeds. Point at a dot to see its run; click it to find the "
        "run in the table below."
    )
    return f"""<noscript><p class="note">The interactive figures and the table of runs need JavaScript; the tables hold
the same numbers.</p></noscript>
<div class="controls" id="chart-controls" hidden></div>
<figure><div class="chart" id="chart-scores" role="img" aria-label="Score of every run against cost"></div>
<figcaption>{note} <span id="chart-series"></span></figcaption></figure>
{details("The same as a table: means over seeds", _means(evidence))}{_gains(evidence)}"""


def _gains(evidence: Evidence) -> str:
    """The figure of gains; nothing where no run has a twin."""
    if evidence.comparison is None or not evidence.comparison.pairs:
        return ""
    claimed = evidence.comparison.gains_claimed
    bars = "A bar is a 95 % CI."
    if claimed > 1:
        bars = f"Thick bars are uncorrected 95 % CIs, thin ones are corrected for {claimed} comparisons."
    return f"""
<figure id="gains-figure"><div class="chart" id="chart-gains" role="img" aria-label="Gain over the baseline"></div>
<figcaption id="gains-note">Gain of each arm over the baseline at equal samples, cell by cell. {bars} Filled marks are
significant. <span id="gains-cut"></span></figcaption></figure>"""


def _means(evidence: Evidence) -> str:
    scores = scores_of(evidence)
    if not scores:
        return "<p>No run has a score.</p>"
    rows = evidence.results.assign(cell=evidence.results["cell"].fillna(""))
    unit, factor = training_time_unit(evidence)
    score, percent = scores[0], is_fraction(scores[0])
    listed_rows = []
    for (cell, arm), group in rows.groupby(["cell", "arm"], sort=False):
        values = group[score].dropna().astype(float)
        scale, digits = (100, 1) if percent else (1, 4)
        listed_rows.append(
            [
                text(cell or "all"),
                text(arm),
                str(len(group)),
                fixed(scale * values.mean(), digits) if len(values) else "",
                fixed(scale * values.std(), digits) if len(values) > 1 else "",
                text(short(group["samples"].mean())),
                short(group["train_flops"].mean()),
                f"{factor * group['gpu_hours'].mean():.3g}" if group["gpu_hours"].notna().any() else "",
            ]
        )
    more = len(listed_rows) - MOST_MEANS
    head = ["cell", "arm", "runs", f"{text(score)}{' %' if percent else ''}", "sd", "samples", "FLOPs", text(unit)]
    rest = f"<p>{more} more rows are in results.csv.</p>" if more > 0 else ""
    return table(f"Means of {score_label(score)}", head, listed_rows[:MOST_MEANS], words=(0, 1)) + rest


def _claims(evidence: Evidence) -> str:
    """The claims that the study states; nothing where it states none."""
    stated = evidence.comparison and evidence.comparison.stated
    return as_html([claims_table(stated)]) if stated else ""


def _comparison(evidence: Evidence) -> str:
    if evidence.comparison is None:
        return f"<p>{text(evidence.why_no_comparison)}</p>"
    return as_html(everything(replace(evidence.comparison, stated=None)))


# Runs and failures


def _runs(evidence: Evidence) -> str:
    columns = "state, arm, settings, scores, cost" + (", failure" if evidence.failed else "")
    return f"""{_code(evidence.code)}
<p>Every run of the plan: {columns}. Click a head to sort by it. The filter takes words, all of which must
occur in a row, and conditions such as <code>seed=0</code> or <code>{text(_example(evidence))}</code>.</p>
<div class="controls" id="run-controls" hidden></div>
<p id="run-count" role="status" aria-live="polite"></p>
<div class="scroll" tabindex="0" role="region" aria-label="Table of runs"><table id="runs-table">
<caption>Runs</caption><thead></thead><tbody></tbody></table></div>
<div id="run-pages" class="controls" hidden></div>
<noscript><p>results.csv has the finished runs, <code>flipscale status</code> all of them.</p></noscript>"""


def _code(code: CodeChanges) -> str:
    """Which code trained the runs, and how it differs from the code of today; nothing if none is known."""
    trained = [f"<li>{count(number, 'run')}: {text(str(trained_by))}</li>" for trained_by, number in code.codes]
    if not trained:
        return ""
    several = f" They were trained by {len(trained)} versions of the code." if len(trained) > 1 else ""
    listed = f"<p>The code that trained them.{several}</p><ul>{''.join(trained[:MOST_CODES])}</ul>"
    more = f"<p>And {len(trained) - MOST_CODES} more.</p>" if len(trained) > MOST_CODES else ""
    return listed + more + "".join(f"<p>{text(sentence)}</p>" for sentence in code.sentences())


def _example(evidence: Evidence) -> str:
    scores = scores_of(evidence)
    return f"{scores[0]}>0.5" if scores else "gpu_hours_predicted>1"


def _failures(evidence: Evidence) -> str:
    retried = 0
    if "attempts" in evidence.results:
        retried = int((evidence.results["attempts"].fillna(1) > 1).sum())
    again = f"<p>{count(retried, 'finished run')} took more than one attempt.</p>" if retried else ""
    if not evidence.failed:
        return f"<p>No run has failed or is lost.</p>{again}"
    parts = [f"<p>{count(evidence.failed, 'run')} failed or lost: {_kinds(evidence.kinds_of_failure)}.</p>", again]
    if evidence.failed > MOST_FAILURES:
        parts.append(f"<p>The first {MOST_FAILURES} of them are listed here; the table of runs has all.</p>")
    alike: dict[tuple[str, str], list[int]] = {}
    for number, failure in enumerate(evidence.failures):
        alike.setdefault((failure.kind, failure.reason), []).append(number)
    for (kind, reason), numbers in alike.items():
        # Runs that failed in the same way are grouped, the first of them unfolded.
        title = f'<strong class="kind">{text(kind)}</strong> {count(len(numbers), "run")}: {text(reason)}'
        logs = [_log(number, evidence.failures[number], opened=number == numbers[0]) for number in numbers]
        parts.append(details(title, "\n".join(logs), opened=len(alike) <= FEW_KINDS))
    return "\n".join(filter(None, parts))


def _log(number: int, failure: FailedRun, *, opened: bool) -> str:
    story = f"<p>{text(failure.run.story)}</p>" if failure.run.story else ""
    log = text(failure.log)
    said = f'<pre tabindex="0"><code>{log}</code></pre>' if log else '<p class="small">It has written no log.</p>'
    return details(f'<code id="failure-{number}">{text(failure.run.id)}</code>', story + said, opened=opened)


def _kinds(kinds: Mapping[str, int]) -> str:
    return text(", ".join(f"{number} {kind}" for kind, number in kinds.items()))


# Cost


def _cost(evidence: Evidence) -> str:
    unit, factor, spent = _hours(evidence)
    rows = []
    groups: dict[str, list[Run]] = {}
    for run in evidence.planned.runs:
        groups.setdefault(evidence.arms.get(run.id, "(parents of others)"), []).append(run)
    for arm in sorted(groups, key=lambda arm: [*evidence.arm_names, "(parents of others)"].index(arm)):
        rows.append(_cost_row(arm, groups[arm], evidence, factor))
    rows.append(_cost_row("all", evidence.planned.runs, evidence, factor))
    head = ["arm", "runs", "FLOPs", "predicted", "measured", "predicted for these", "measured / predicted"]
    parts = [table(f"Predicted and measured, in {unit}", head, rows)]
    on_the_way = [run for run in evidence.planned.runs if evidence.runs[run.id].state is not State.FINISHED]
    part = sum(run.cost.gpu_hours * evidence.runs[run.id].done for run in on_the_way)
    if part:
        parts.append(
            f"<p>{count(len(on_the_way), 'run')} not finished; by the samples that they have seen, they took about "
            f"{hours_words(part * factor)} {unit} more.</p>"
        )
    if money := _money(evidence):
        parts.append(money)
    limits = [f"{key} {value:g}" for key, value in vars(evidence.study.budget).items() if value is not None]
    if limits:
        parts.append(f"<p>The study's budget: {text(', '.join(limits))}.</p>")
    parts.append(
        f'<p class="small">Times are {unit}. Each run counts once, without its parents; the ratio is for the '
        "measured runs.</p>"
    )
    if spent:
        parts.append(
            '<figure id="cost-figure"><div class="chart" id="chart-cost" role="img" '
            'aria-label="Measured against predicted hours of every finished run"></div>\n<figcaption>Measured against '
            "predicted hours, a dot per run; on the line they are equal.</figcaption></figure>"
        )
    return "\n".join(parts)


def _cost_row(name: str, runs: Sequence[Run], evidence: Evidence, factor: float) -> list[str]:
    """`factor` is the number of the table's units in an hour."""
    hours = evidence.own_hours
    measured = [run for run in runs if run.id in hours]
    spent, foreseen = sum(hours[run.id] for run in measured), sum(run.cost.gpu_hours for run in measured)
    return [
        text(name),
        str(len(runs)),
        short(sum(run.cost.train_flops for run in runs)),
        str(total_hours(run.cost.hours for run in runs) * factor),
        f"{hours_words(spent * factor)} ({count(len(measured), 'run')})" if measured else "",
        str(total_hours(run.cost.hours for run in measured) * factor) if measured else "",
        f"{times(spent / foreseen)}" if foreseen else "",
    ]


def _hours(evidence: Evidence) -> tuple[str, float, float]:
    """The unit that suits the study's device time, how many of them make an hour, and the hours measured."""
    planned, spent = evidence.planned, sum(evidence.own_hours.values())
    unit, factor = hours_or_seconds(max(planned.total.gpu_hours, spent))
    return device_hours(planned.device, unit), factor, spent


def _money(evidence: Evidence) -> str:
    """Predicted and spent price, if a site states one."""
    planned, spent = evidence.planned, sum(evidence.own_hours.values())
    if planned.price is None or planned.money is None:
        return ""
    paid = planned.price.of(Hours(spent, spent, spent), planned.device)
    measured = f"; the measured runs cost {paid.about:,.2f} {paid.currency}" if paid and spent else ""
    return f"<p>At the site's price all runs cost {text(f'{planned.money}{measured}')}.</p>"


# Figures as drawn


def _drawn(evidence: Evidence) -> str:
    if not evidence.figures:
        return "<p>No figure was drawn; <code>flipscale plot</code> draws them.</p>"
    shown = [figure for figure in evidence.figures if figure.svg is not None]
    parts = [
        f'<figure class="drawn"><img src="data:image/svg+xml;base64,{base64.b64encode(figure.svg or b"").decode()}" '
        f'alt="{text(figure.name.replace("_", " "))}: {text(figure.about)}" loading="lazy">'
        f"<figcaption>{text(figure.about)} ({text(figure.file)})</figcaption></figure>"
        for figure in shown
    ]
    left = [text(figure.file) for figure in evidence.figures if figure.svg is None]
    if left:
        parts.append(f"<p>Too large to embed; beside this page: {', '.join(left)}.</p>")
    return details("Show what flipscale plot drew", "\n".join(parts))
