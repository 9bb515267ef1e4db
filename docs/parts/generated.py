"""The parts of docs/ and studies/ that come from the code. `make docs-parts` writes them; tests/test_docs.py checks."""

import contextlib
import dataclasses
import inspect
import io
import json
import os
import re
import tempfile
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import flipscale
from bench import gpu
from docs.parts import answers, benchmarks, design, findings, full_scale, paper, plateau, studies, three_answers
from flipscale.cli import main
from flipscale.collecting import columns_as_markdown, read_results
from flipscale.cost.arithmetic import cost, memory_of
from flipscale.kinds import Declared, kinds_of, options_of
from flipscale.planning.identity import show_setting
from flipscale.settings.declarations import (
    DataSet,
    Evaluation,
    EvaluationSet,
    FineTuning,
    FineTuningSet,
    Reconstruction,
    Resources,
    Stage,
    Trainer,
    Tuning,
    Weights,
)
from flipscale.settings.devices import DEVICES
from flipscale.study.keys import TOP, Tune
from flipscale.study.recipes import RECIPES, Recipe
from flipscale.study.schema import study_schema
from flipscale.study.settings import SETTINGS
from flipscale.words import percent
from tests.torture import counts as torture

ROOT = Path(__file__).parents[2]


def said_by(*arguments: str) -> str:
    """What the command line says, at 100 columns."""
    said = io.StringIO()
    of_100 = mock.patch.dict(os.environ, COLUMNS="100")
    with of_100, contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        main(arguments)
    return said.getvalue()


def help_of(*arguments: str) -> str:
    return said_by(*arguments, "--help")


def commands() -> str:
    whole = help_of()
    verbs = re.findall(r"^    (\w+) ", whole, re.MULTILINE)
    return "".join(
        f"```\n$ flipscale {' '.join((*one, '--help'))}\n{help_of(*one)}```\n\n" for one in [(), *zip(verbs)]
    )


def keys() -> str:
    rows = [f"| `{name}` | {option.says} |" for name, option in TOP.items()]
    return "\n".join(["| key | meaning |", "|---|---|", *rows]) + "\n"


def settings() -> str:
    rows = ["| setting | default | meaning |", "|---|---|---|"]
    for name, setting in SETTINGS.items():
        default = (
            "required" if setting.required else f"`{setting.rule}`" if setting.rule else show_setting(setting.default)
        )
        rows.append(f"| `{name}` | {'see below' if name == 'evaluation' else default} | {setting.says} |")
    return "\n".join(rows) + "\n"


def options() -> str:
    """A table for each data set, evaluation set, trainer and setting that takes options."""
    tables: dict[str, type[Declared]] = {f"data: {{{kind}: ...}}": one for kind, one in kinds_of(DataSet).items()}
    tables["evaluation"] = Evaluation
    tables |= {f"evaluation: {{sets: {{NAME: {{{kind}: ...}}}}}}": one for kind, one in kinds_of(EvaluationSet).items()}
    tables |= {"stages": Stage, "tuning": Tuning, "fine_tuning": FineTuning}
    tables |= {f"fine_tuning: {{data: {{{kind}: ...}}}}": one for kind, one in kinds_of(FineTuningSet).items()}
    tables |= {"reconstruction": Reconstruction, "init": Weights}
    tables |= {f"trainer: {{{kind}: ...}}": one for kind, one in kinds_of(Trainer).items()}
    tables |= {"resources": Resources, "tune": Tune}
    parts = []
    for where, record in tables.items():
        rows = [
            f"| `{name}` | {'required' if option.required else json.dumps(option.default)} | {option.says} |"
            for name, option in options_of(record).items()
        ]
        short = f"In short `{where.replace('...', record.short.upper())}`." if record.short and "..." in where else ""
        parts.append([f"### `{where}`", "", *([short, ""] if short else []), *_table("option", rows), ""])
    return "\n".join(line for part in parts for line in part)


def _table(first: str, rows: list[str]) -> list[str]:
    return [f"| {first} | default | meaning |", "|---|---|---|", *rows]


SHOWN_NAMES = (
    "read_study", "plan", "submit", "collect", "results", "compare", "fit", "plot", "report", "run_study",
    "read_results", "read_curves", "Workspace", "Study", "Plan",
    "Run", "RunFolder", "State", "StudyOutcome", "FlipscaleError",
)  # fmt: skip
"""The public names that docs/python.md describes, in the order of a study's life."""


def names() -> str:
    """The public functions and records of `flipscale`, each with its signature and docstring."""
    from flipscale.workflow import verbs

    parts = []
    for name in SHOWN_NAMES:
        shown = getattr(verbs, name, None) or getattr(flipscale, name)
        about = re.sub(r"^(\w+): ", r"- `\1`: ", inspect.getdoc(shown) or "", flags=re.MULTILINE)
        parts.append(f"### {name}\n\n```python\n{signature_of(name, shown)}\n```\n\n{about}\n")
    return "\n".join(parts)


def signature_of(name: str, shown: Any) -> str:
    """As it is written in the code: with short names of types and the defaults of those that have one."""
    if inspect.isclass(shown):
        if not dataclasses.is_dataclass(shown):
            base = shown.__bases__[0].__name__
            return f"class {name}" if base == "object" else f"class {name}({base})"
        named = [f"    {each.name}: {_type(each.type)}" for each in dataclasses.fields(shown)]
        return "\n".join([f"class {name}:", *named])
    parameters = inspect.signature(shown)
    written = []
    for each in parameters.parameters.values():
        if each.kind is each.KEYWORD_ONLY and "*" not in written:
            written.append("*")
        default = "" if each.default is each.empty else f" = {each.default!r}"
        written.append(f"{each.name}: {_type(each.annotation)}{default}")
    answer = _type(parameters.return_annotation)
    line = f"{name}({', '.join(written)}) -> {answer}"
    return line if len(line) <= 96 else "\n".join([f"{name}(", *(f"    {each}," for each in written), f") -> {answer}"])


def _type(annotation: Any) -> str:
    """A type without the modules of its parts."""
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    text = re.sub(r"\b(\w+\.)+(?=\w)", "", text).strip("'")
    return text.replace("str | PathLike[str] | Study", "AnyStudy")


def flags() -> str:
    from flipscale.data.open_clip_flags import flags_as_markdown

    return flags_as_markdown()


def recipes() -> str:
    """What each named recipe sets, beside the defaults."""
    names = dict.fromkeys(name for recipe in RECIPES.values() for name in (*recipe.base, *recipe.couple))
    rows = [f"| setting | {' | '.join(f'`{recipe}`' for recipe in RECIPES)} | neither |", "|---|---|---|---|"]
    for name in names:
        setting = SETTINGS[name]
        default = setting.rule or ("required" if setting.required else show_setting(setting.default))
        cells = [_recipe_says(recipe, name) for recipe in RECIPES.values()]
        rows.append(f"| `{name}` | {' | '.join([*cells, default])} |")
    return "\n".join(rows) + "\n"


def _recipe_says(recipe: Recipe, name: str) -> str:
    if name in recipe.couple:
        return recipe.couple[name]
    return show_setting(recipe.base[name]) if name in recipe.base else "as without"


def content_of(name: str) -> Callable[[], str]:
    """A file as it is."""
    language = {".py": "python", ".yaml": "yaml"}[Path(name).suffix]
    return lambda: f"```{language}\n{(ROOT / name).read_text()}```\n"


def keys_of_groups() -> str:
    """What `compare --json` has of groups of rows."""
    asked = "--baseline", "mixup=no", "--y", "acc", "--ignore", "epochs,hours", "--json"
    return answers.of(json.loads(said_by("compare", str(ROOT / "docs/runs.csv"), *asked)))


def site() -> str:
    from flipscale.launch.site import Container, Pack, SiteFile

    rows = ["| key | option | default | meaning |", "|---|---|---|---|"]
    for name, option in options_of(SiteFile).items():
        inner = {"container": Container, "pack": Pack}.get(name)
        default = "required" if option.required else "see below" if name == "pack" else json.dumps(option.default)
        rows.append(f"| `{name}` | | {default} | {option.says} |")
        for key, one in options_of(inner).items() if inner else ():
            default = "required" if one.required else json.dumps(one.default)
            rows.append(f"| `{name}` | `{key}` | {default} | {one.says} |")
    return "\n".join(rows) + "\n"


def ray() -> str:
    from flipscale.launch.ray.trials import NOT_HERE

    return ", ".join(f"`{name}`" for name in (*NOT_HERE, "pack.whole_nodes")) + ".\n"


def failures() -> str:
    from flipscale.launch.policy import POLICIES

    rows = ["| kind | what is done | how often | why |", "|---|---|---|---|"]
    for kind, policy in POLICIES.items():
        often = policy.most or ("" if policy.action.name == "STOP" else "as often as it comes")
        rows.append(f"| {kind} | {policy.action.value} | {often} | {policy.why} |")
    return "\n".join(rows) + "\n"


SHOWN_FROM = {
    "scaling_axes": "fashion",
    "scaling_curves": "icons",
    "ablations": "recipe",
    "claims": "recipe",
    "gains": "recipe",
    "repeats": "icons",
    "learning_curves": "icons",
    "speedup": "flip",
    "isoflop": "isoflop",
    "tune": "isoflop_tuned",
}
"""The committed study that the gallery shows a figure of; of all others it is fashion."""


def gallery() -> str:
    """Every figure, with the command that made it, the call that draws it on an Axes, and how to read it."""
    from flipscale.analysis.plotting import FIGURES

    parts = []
    for name, kind in FIGURES.items():
        study = SHOWN_FROM.get(name, "fashion")
        parts.append(
            f"### {name}\n\n{kind.about[0].upper()}{kind.about[1:]}. {kind.how_to_read}\n\n"
            f"![{kind.about}](../plots/{study}/{name}.svg)\n\n"
            f'`flipscale plot studies/{study}.yaml` · on an Axes: `draw("{name}", data, ax)`\n'
        )
    return "\n".join(parts)


def references() -> str:
    from flipscale.collecting.references import REFERENCE_COLUMNS

    return "\n".join(["| column | meaning |", "|---|---|", *(f"| `{n}` | {m} |" for n, m in REFERENCE_COLUMNS.items())])


def laws() -> str:
    from flipscale.analysis.fitting import LAWS

    rows = ["| law | form | variables | residuals of | for |", "|---|---|---|---|---|"]
    scales = {"log": "log y", "logit": "logit of the error", "linear": "y"}
    for name, law in LAWS.items():
        form = law.formula.replace("|", "\\|")
        rows.append(f"| `{name}` | `{form}` | {', '.join(law.roles)} | {scales[law.link]} | {law.about} |")
    return "\n".join(rows) + "\n"


def mirror() -> str:
    lines = bench_lines("mirror")
    return "\n".join(lines[: lines.index("")]) + "\n"


def coverage() -> str:
    return "\n".join(bench_lines("comparison")).rstrip() + "\n"


def coverage_on_trunks() -> str:
    return "\n".join(bench_lines("trunks")).rstrip() + "\n"


def coverage_of_laws() -> str:
    lines = bench_lines("coverage")
    start = next(i for i, line in enumerate(lines) if line.startswith("|"))
    return "\n".join([lines[0], "", *lines[start : lines.index("", start)]]) + "\n"


def outside_of_laws() -> str:
    outside = [one for one in bench_facts("coverage")["limits"] if one["verdict"] != "holds"]
    rows = [f"- {one['what']}: {one['measured']}; {one['verdict'].partition(': ')[2]}" for one in outside]
    return "\n".join(rows or ["No design."]) + "\n"


def chosen() -> str:
    lines = bench_lines("next")
    return "\n".join(lines[: lines.index("", 2)]) + "\n"


def bench_facts(name: str) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((ROOT / f"bench/results/{name}.json").read_text())
    return facts


def bench_lines(name: str) -> list[str]:
    lines: list[str] = bench_facts(name)["table"]
    return lines


def probe() -> str:
    facts = bench_facts("probe")
    hours, seconds = ({key: 100 * facts[of][key] for key in facts[of]} for of in ("gpu_hours", "seconds"))
    return (
        f"Device-hours were off by {hours['median_error']:.0f} % in the median of {len(facts['runs'])} runs of "
        f"{facts['samples']} samples, and by {hours['worst_error']:.0f} % at worst; wall time by "
        f"{seconds['median_error']:.0f} % and {seconds['worst_error']:.0f} %, where it was "
        f"{facts['wall_over_cpu']:.2f} times the CPU time.\n"
    )


def reliability() -> str:
    parts = bench_facts("torture")["parts"]
    lines = [f"| {row['part']} | {row['date']} | {row['seed']} | {row['load']} |" for row in parts]
    head = ["| part | date | seed | load average at the start |", "|---|---|---|---|"]
    return "\n".join([torture.table(parts), "", *head, *lines]) + "\n"


def trunk_study() -> str:
    """What trunk.yaml's claims say of branches and cosines."""
    table = read_results(ROOT / "results/trunk/results.csv")
    trained = table["own_samples_seen"].fillna(table["samples_seen"]).sum()
    saved = f"{100 * (1 - trained / table['samples_seen'].sum()):.0f} % of all samples saved"
    rows: dict[str, list[str]] = {}
    for claim in json.loads((ROOT / "results/trunk/comparison.json").read_text())["claims"]["claims"]:
        words, _, mask = claim["claim"].rpartition(" (mask_ratio=")
        found, (low, high) = claim["difference"]["value"], claim["difference"]["interval_corrected"]
        rows.setdefault(words, []).append(f"{found:+.2f} ({low:+.2f} to {high:+.2f}): {claim['verdict']}")
        assert ["0)", "0.75)"][len(rows[words]) - 1] == mask
    lines = [
        f"[trunk](../studies/trunk.yaml): {len(table)} runs on Fashion-MNIST, {table['seed'].nunique()} seeds, {saved} "
        "([comparison](../results/trunk/comparison.md)). Points; CIs (90 % of level, else 95 %) corrected by family:",
        "",
        "| claim | no mask | mask 75 % |",
        "|---|---|---|",
        *(f"| {words} | {' | '.join(cells)} |" for words, cells in rows.items()),
    ]
    return "\n".join(lines) + "\n"


def best_rate() -> str:
    """The law of the best learning rate against the size of isoflop_tuned's models."""
    asked = "--optimum", "lr", "--x", "flops_per_sample"
    said = said_by("fit", str(ROOT / "studies/isoflop_tuned.yaml"), "--results", str(ROOT / "results"), *asked)
    return f"```console\n$ flipscale fit studies/isoflop_tuned.yaml {' '.join(asked)}\n{said}```\n"


def full_scale_cost() -> str:
    with tempfile.TemporaryDirectory() as folder:
        return full_scale.cost(Path(folder))


def full_scale_feeding() -> str:
    with tempfile.TemporaryDirectory() as folder:
        return full_scale.feeding(Path(folder))


def full_scale_memory() -> str:
    with tempfile.TemporaryDirectory() as folder:
        return full_scale.needed_memory(Path(folder))


def first_gpu_hour() -> str:
    """What the plan expects of the first table that a GPU gives."""
    rows = ["| model | mask | rows | A100 images/s | MFU | H100 images/s | MFU | GB |", "|---|" + "---:|" * 7]
    for one in gpu.MASKS:
        row = [one.model, percent(one.mask_ratio), str(one.batch_size)]
        for card in ("A100", "H100"):
            priced = cost(one.settings, gpu.on_card(one, card))
            seconds = 3600 * priced.gpu_hours / priced.steps
            peak = DEVICES[card].peak(one.precision)
            mfu = gpu.utilisation(gpu.step_flops(priced, one.batch_size), seconds, peak)
            assert mfu is not None
            row += [f"{one.batch_size / seconds:,.0f}", percent(mfu)]
        tensors = memory_of(one.settings, gpu.on_card(one, "H100")).tensors
        rows.append(f"| {' | '.join([*row, f'{tensors / 1e9:.1f}'])} |")
    return "\n".join([*rows, ""])


PARTS: dict[str, Callable[[], str]] = {
    "README.md#peers": benchmarks.peers,
    "docs/studies.md#plateau": plateau.answer,
    "docs/cli.md#commands": commands,
    "docs/keys.md#keys": keys,
    "docs/keys.md#settings": settings,
    "docs/keys.md#options": options,
    "docs/studies.md#studies": studies.table,
    "docs/tune.md#rate": best_rate,
    "docs/studies.md#rates": studies.rates,
    "docs/studies.md#when_masks_pay": studies.when_masks_pay,
    "docs/studies.md#mosaic": studies.mosaic,
    "docs/studies.md#sets": studies.sets,
    "docs/benchmarks.md#benchmarks": benchmarks.summary,
    "docs/benchmarks.md#tables": benchmarks.tables,
    "docs/results.md#columns": columns_as_markdown,
    "docs/python.md#names": names,
    "docs/figures.md#gallery": gallery,
    "docs/figures.md#references": references,
    "docs/trainers.md#flags": flags,
    "docs/site-file.md#site": site,
    "docs/design.md#rooms": design.rooms,
    "docs/design.md#floors": design.floors,
    "docs/compare.md#studies": answers.of_studies,
    "docs/compare.md#groups": keys_of_groups,
    "docs/recipes.md#recipes": recipes,
    "docs/trainers.md#own": content_of("flipscale/study/own.yaml"),
    "docs/trainers.md#example": content_of("studies/own/train.py"),
    "docs/own-scores.md#example": content_of("studies/own/colours.py"),
    "docs/slurm.md#failures": failures,
    "docs/ray.md#site": ray,
    "docs/fits.md#laws": laws,
    "docs/mlflow.md#speed": mirror,
    "docs/times.md#probe": probe,
    "docs/how-computed.md#coverage": coverage,
    "docs/fits.md#coverage": coverage_of_laws,
    "docs/stages.md#progressive": content_of("studies/stages/progressive.yaml"),
    "docs/stages.md#openvision": content_of("studies/stages/openvision.yaml"),
    "docs/stages.md#reclip": content_of("studies/stages/reclip.yaml"),
    "docs/stages.md#clipa": content_of("studies/stages/clipa.yaml"),
    "docs/stages.md#trunks": coverage_on_trunks,
    "docs/stages.md#study": trunk_study,
    "docs/fits.md#outside": outside_of_laws,
    "docs/next.md#chosen": chosen,
    "docs/reliability.md#counts": reliability,
    "docs/paper.md#studies": paper.table,
    "docs/first-gpu-hour.md#expected": first_gpu_hour,
    "docs/full-scale.md#cost": full_scale_cost,
    "docs/full-scale.md#feeding": full_scale_feeding,
    "docs/full-scale.md#memory": full_scale_memory,
    "docs/findings.md#cheaper": three_answers.cheaper,
    "docs/findings.md#more": three_answers.more,
    "docs/findings.md#ahead": three_answers.ahead,
    "docs/findings-details.md#trade": findings.trade,
    "docs/findings-details.md#questions": findings.index,
    "docs/findings-details.md#details": findings.details,
    "docs/findings-details.md#caveats": findings.caveats,
}
"""Between `<!-- NAME -->` and `<!-- end -->` of each file stands what the function answers."""

SCHEMA = ROOT / "studies" / "study.schema.json"


def filled(name: str) -> tuple[Path, str, str]:
    """The file of a part, its text as it is, and as it should be."""
    file, _, part = name.partition("#")
    text = (ROOT / file).read_text()
    pattern = re.compile(rf"(<!-- {part} -->\n).*?(<!-- end -->)", re.DOTALL)
    assert pattern.search(text), f"{file} has no part {part}"
    right = wrapped(PARTS[name]())
    return ROOT / file, text, pattern.sub(lambda match: f"{match[1]}\n{right}\n{match[2]}", text)


def wrapped(text: str) -> str:
    """Prose in lines of at most 100 characters; tables, code, headings and pictures stay as they are."""
    lines = []
    is_code = False
    for line in text.split("\n"):
        is_code ^= line.startswith("```")
        lines.append(line if is_code else _wrapped_line(line))
    return "\n".join(lines)


def _wrapped_line(line: str) -> str:
    if line.startswith(("|", "`", "#", "![", "    ", "<")):
        return line
    indent = "  " if line.startswith("- ") else ""
    return textwrap.fill(line, 100, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def write() -> None:
    paper.write_costs()
    three_answers.draw()
    for name in PARTS:
        path, _, right = filled(name)
        path.write_text(right)
    SCHEMA.write_text(json.dumps(study_schema(), indent=1) + "\n")
