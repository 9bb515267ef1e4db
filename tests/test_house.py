"""The shape of the house: imports go down only, each heavy package has one owner, and --help loads nothing heavy."""

import ast
import graphlib
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import TypeGuard

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "flipscale"

FLOORS = [
    {"errors", "randomness", "scores", "analysis/stats", "tables", "words", "workspace"},
    {"cell", "kinds"},
    {"plain_files"},
    {"guard"},
    {"door"},
    {"analysis/rows", "analysis/sensitivity"},
    {"analysis/fitting"},
    {"analysis/comparing"},
    {"analysis/plotting", "analysis/export"},
    {"analysis/reporting"},
    {"settings"},
    {"cost"},
    {"study"},
    {"planning"},
    {"run"},
    {"data"},
    {"launch", "train"},
    {"collecting", "storage"},
    {"track"},
    {"next_runs"},
    {"workflow"},
    {"cli"},
]
"""From the ground up. A room may import rooms of lower floors only; rooms on one floor do not know each other."""

GROUND = {"errors", "words", "scores", "cell", "tables", "kinds", "workspace", "randomness", "plain_files", "guard"}
"""What both halves speak in."""

ABOVE_BOTH = {"next_runs", "workflow", "cli"}
"""The rooms that may know both halves."""

OWNERS = {
    "torch": {"train"},
    "torchvision": {"train"},
    "open_clip": {"data", "train"},
    "timm": {"train"},
    "webdataset": {"data", "train"},
    "sklearn": {"train"},
    "submitit": {"launch"},
    "ray": {"launch"},
    "mlflow": {"track"},
    "matplotlib": {"analysis/plotting"},
    "jinja2": {"analysis/reporting"},
    "scipy": {"analysis/stats", "analysis/fitting", "analysis/comparing"},
    # A DataFrame is what the stages after collect hand to each other, so they may name it.
    "pandas": {
        *(
            "door",
            "collecting",
            "track",
            "workflow",
            "analysis/rows",
            "analysis/fitting",
            "analysis/comparing",
            "analysis/plotting",
        ),
        *("analysis/export", "analysis/reporting"),
    },
    "pyarrow": {"collecting", "door"},
    "rich": {"launch"},
    "pydantic": {"kinds"},
    "pydantic_core": {"kinds"},
}


def rooms() -> Iterator[tuple[str, Path]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.name != "__main__.py" and path not in (PACKAGE / "__init__.py", PACKAGE / "analysis" / "__init__.py"):
            yield room_of(path.relative_to(PACKAGE).with_suffix("").parts), path


def room_of(parts: Sequence[str]) -> str:
    """The room of a module that lies there: the rooms of the analysis half are those below analysis/."""
    depth = 2 if parts[0] == "analysis" else 1
    return "/".join(parts[:depth])


@cache
def parsed(path: Path) -> ast.Module:
    """A module of flipscale, parsed once for all tests of this file."""
    return ast.parse(path.read_text())


@pytest.fixture(scope="module", autouse=True)
def forgotten() -> Iterator[None]:
    """The tests of other files need not search the parsed modules for garbage."""
    yield
    parsed.cache_clear()


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Every module that a file imports, anywhere in it, but for type checking alone."""
    tree = parsed(path)
    for_types: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            for_types |= {id(inner) for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import; write the whole name"
            yield node.lineno, node.module or ""
            if node.module == "flipscale":
                yield from ((node.lineno, f"flipscale.{alias.name}") for alias in node.names)


def test_every_room_has_a_floor() -> None:
    assert {room for room, _ in rooms()} == set().union(*FLOORS)


def test_imports_go_down_only() -> None:
    floor = {room: height for height, names in enumerate(FLOORS) for room in names}
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {room} imports {module}"
        for room, path in rooms()
        for line, module in imports(path)
        if module.startswith("flipscale.")
        and (other := room_of(module.split(".")[1:])) in floor
        and other != room
        and floor[other] >= floor[room]
    ]
    assert wrong == []


def test_the_halves_know_each_other_by_the_door_alone() -> None:
    """Types included: what says what came out needs nothing of what runs a grid, and the other way round."""
    files = {names_of(path) for _, path in rooms()}
    wrong = []
    for room, path in rooms():
        in_analysis = room.startswith("analysis/")
        for module in imported_modules(path, files):
            other = room_of(module.split(".")[1:])
            is_shared = other in {*GROUND, "door"} or room in ABOVE_BOTH
            if not is_shared and other.startswith("analysis/") != in_analysis:
                wrong.append(f"{path.relative_to(ROOT)}: {room} imports {module}")
    assert wrong == []


RUNNING = sorted({room for room, _ in rooms() if not room.startswith("analysis/")} - {*GROUND, "door", *ABOVE_BOTH})


def test_the_analysis_half_compares_fits_draws_and_reports_where_the_running_half_is_missing(tmp_path: Path) -> None:
    missing = [*OWNERS, *(f"flipscale.{room}" for room in RUNNING)]
    there = {"matplotlib", "jinja2", "scipy", "pandas", "pydantic", "pydantic_core"}
    script = f"""
import sys
from pathlib import Path
sys.modules |= dict.fromkeys({sorted(set(missing) - there)!r})
from flipscale.analysis import comparing, export, plotting, reporting
from flipscale.analysis.fitting.study_laws import fit_study
from flipscale.door.columns import MEASURED_COLUMNS, RUN_COLUMNS
from flipscale.door.record import Results, read_record
from flipscale.door.run_states import Hours
from flipscale.door.tables import read_rows
table = read_rows(Path("results/fashion/results.csv"), RUN_COLUMNS | MEASURED_COLUMNS)
results = Results(table, read_record(Path("results/fashion/results.json")))
compared = comparing.compare_finished(results)
laws = fit_study(table, axes=["model", "samples", "mask_ratio"], y="zero_shot_top1")
data = plotting.figure_data(table, study="fashion", baseline={{"mask_ratio": 0}}, score="zero_shot_top1")
drawn = plotting.plot_all(data, Path({str(tmp_path)!r}), ["accuracy_vs_samples"])
evidence = reporting.Evidence(
    record=results.record, is_clip=True, data=(), axes=(), limits="", study_text="", runs=(), device="cpu",
    hours=Hours(0, 0, 0), money="", money_spent="", results=table.assign(arm="no mask"), arm_names=("no mask",),
    comparison=compared, why_no_comparison="", failures=(), code=reporting.evidence.TrainingCode((), ()),
    laws=reporting.evidence.FittedLaws(), figures=(),
)
shown = reporting.page(evidence)
print(len(compared.pairs) > 0, len(laws.fits) > 0, len(drawn.files) > 0, results.record.question in shown)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == "True True True True\n", done.stderr


def test_each_heavy_package_has_its_owners() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {room} imports {module}"
        for room, path in rooms()
        for line, module in imports(path)
        if room not in OWNERS.get(module.split(".")[0], {room})
    ]
    assert wrong == []


CHECK = ["plan", "studies/quickstart.yaml", "--check", "--json"]


@pytest.mark.parametrize("arguments", [["--help"], ["plan", "--help"], ["train", "--help"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    said, loaded = heavy_packages_of(arguments)
    assert loaded == "[]"
    assert said


READS = "'pydantic', 'pydantic_core'"
"""What reading a study takes."""


def test_a_plan_takes_nothing_heavier_than_reading_its_study(tmp_path: Path) -> None:
    said, loaded = heavy_packages_of(["plan", "studies/quickstart.yaml", "--json", "--results", str(tmp_path)])
    assert loaded == f"[{READS}]"
    assert said


def test_the_check_of_inputs_and_machine_takes_nothing_heavier_than_numpy(tmp_path: Path) -> None:
    said, loaded = heavy_packages_of([*CHECK, "--results", str(tmp_path)])
    assert loaded == f"['numpy', {READS}]"  # The machine's part names where MLflow is.
    assert said


def test_what_the_seeds_detect_takes_scipy_but_no_pandas(tmp_path: Path) -> None:
    """Every user waits for it: pandas and the package compare take longer to load than all else that `plan` does."""
    said, loaded = heavy_packages_of(
        ["plan", "studies/fashion.yaml", "--results", str(tmp_path)], "flipscale.analysis.comparing", "ssl"
    )
    assert "that 3 seeds detect is unknown until seeds exist" in said
    assert loaded == f"['numpy', {READS}, 'scipy']"


def test_status_loads_neither_a_heavy_package_nor_the_network(tmp_path: Path) -> None:
    """Only what is checked before runs start may lie behind a URL."""
    said, loaded = heavy_packages_of(["status", "studies/quickstart.yaml", "--results", str(tmp_path)], "ssl")
    assert "0 of 48 finished" in said
    assert loaded == f"[{READS}]"


def heavy_packages_of(arguments: list[str], *others: str) -> tuple[str, str]:
    """What a command prints and says, and which of the heavy packages and of these others it has loaded."""
    asked = {*OWNERS, "numpy", *others}
    script = (
        "import sys\nfrom flipscale.cli import main\n"
        "try: main(sys.argv[1:])\nexcept SystemExit: pass\n"
        f"print(sorted(set(sys.modules) & {asked!r}), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], cwd=ROOT, capture_output=True, text=True, check=True
    )
    said, _, loaded = done.stderr.rstrip().rpartition("\n")
    return done.stdout + said, loaded


def test_importing_flipscale_loads_nothing_heavy() -> None:
    script = f"import sys, flipscale\nprint(sorted(set(sys.modules) & {set(OWNERS) | {'numpy', 'yaml'}!r}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_public_names_load_on_first_use() -> None:
    import flipscale

    for name in flipscale.__all__:
        assert getattr(flipscale, name) is not None
    assert dir(flipscale) == sorted(flipscale.__all__)


def test_the_design_lists_every_room_once() -> None:
    from docs.parts.design import ROOMS

    assert sorted(ROOMS) == sorted(set().union(*FLOORS))


def names_of(path: Path) -> str:
    """The name by which a file is imported."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imported_modules(path: Path, known: set[str]) -> set[str]:
    """The modules of the package that a file imports, anywhere in it and for type checking as well."""
    found = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {one if (one := f"{node.module}.{alias.name}") in known else node.module for alias in node.names}
    return (found & known) - {names_of(path)}


def circles() -> list[list[str]]:
    """The modules that import each other, in one or several steps."""
    files = {names_of(path): path for _, path in rooms()}
    graph = {name: imported_modules(path, set(files)) for name, path in files.items()}
    sorter = graphlib.TopologicalSorter(graph)
    try:
        sorter.prepare()
    except graphlib.CycleError as error:
        return [error.args[1]]
    return []


MOST_ANY_DICTIONARIES = 60
"""JSON and YAML are dictionaries only where they enter and leave."""

_ANY_DICTIONARY = re.compile(r"(Mapping|dict)\[str, Any\]")


def any_dictionaries() -> dict[str, int]:
    """How often each room says that something is a dictionary of anything, an alias of it included."""
    found = Counter(room for room, path in rooms() for _ in _ANY_DICTIONARY.finditer(path.read_text()))
    return dict(found.most_common())


def test_the_house_in_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    """No module imports another that imports it, types included; few dictionaries of anything."""
    in_circles, dictionaries = circles(), any_dictionaries()
    with capsys.disabled():
        print(
            f"\nimport circles: {in_circles or 'none'}"
            f"\nAny-dictionaries: {sum(dictionaries.values())} ({MOST_ANY_DICTIONARIES} at most): {dictionaries}"
        )
    assert in_circles == []
    assert sum(dictionaries.values()) <= MOST_ANY_DICTIONARIES


LAZY = {"flipscale/collecting/__init__.py": ["__getattr__"]}
"""Faces that load a part on first use (docs/design.md): pandas takes longer than a look at 10,000 unchanged folders."""


def test_an_init_is_a_docstring_and_exports() -> None:
    found = {}
    for _, path in rooms():
        if path.name == "__init__.py":
            name, tree = str(path.relative_to(ROOT)), parsed(path)
            logic = [ast.unparse(node)[:80] for node in tree.body if not _is_export(node, LAZY.get(name, ()))]
            found |= {name: logic} if logic else {}
    assert found == {}


def _is_export(node: ast.stmt, lazy: Sequence[str]) -> bool:
    """Whether it is a docstring, an import, or the list of what is exported."""
    if isinstance(node, ast.If):
        return ast.unparse(node.test) == "TYPE_CHECKING"
    if isinstance(node, ast.Assign):
        return ast.unparse(node.targets[0]) == "__all__"
    if isinstance(node, ast.FunctionDef):
        return node.name in lazy
    return isinstance(node, ast.Import | ast.ImportFrom) or (
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    )


def test_an_init_that_lists_modules_lists_all_of_them() -> None:
    wrong = []
    for init in PACKAGE.rglob("__init__.py"):
        said = ast.get_docstring(ast.parse(init.read_text())) or ""
        packages = {f"{path.parent.name}/" for path in init.parent.glob("*/__init__.py")}
        modules = {path.name for path in init.parent.glob("*.py")} - {"__init__.py"} | packages
        listed = {name for name in modules if re.search(rf"(?<![\w/]){re.escape(name)}(?!\w)", said)}
        if listed:
            wrong += [f"{init.relative_to(ROOT)}: does not list {name}" for name in sorted(modules - listed)]
    assert wrong == []


def test_no_private_name_is_imported() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {alias.name} of {node.module}"
        for _, path in rooms()
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("flipscale")
        for alias in node.names
        if alias.name.startswith("_") and not alias.name.endswith("__")
    ]
    assert wrong == []


def test_a_class_and_a_constant_have_one_meaning() -> None:
    homes: dict[str, set[str]] = {}
    for _, path in rooms():
        for name in _defined(parsed(path)):
            homes.setdefault(name, set()).add(str(path.relative_to(ROOT)))
    assert {name: sorted(files) for name, files in homes.items() if len(files) > 1} == {}


def _defined(tree: ast.Module) -> Iterator[str]:
    """The classes and constants of a module."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            yield node.name
        targets = node.targets if isinstance(node, ast.Assign) else [node.target] if _is_typed(node) else []
        yield from (target.id for target in targets if isinstance(target, ast.Name) and target.id != "__all__")


def _is_typed(node: ast.stmt) -> TypeGuard[ast.AnnAssign]:
    return isinstance(node, ast.AnnAssign)


VAGUE = {"told", "one", "own", "of", "there"}
"""Names that say nothing of what a variable holds."""


def test_no_variable_has_a_name_that_says_nothing() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {name}"
        for _, path in rooms()
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Name | ast.arg)
        and (name := node.id if isinstance(node, ast.Name) else node.arg) in VAGUE
        and name != "of"  # A field of comparison.json that is stable.
    ]
    assert wrong == []


def test_text_that_is_read_or_written_names_its_encoding() -> None:
    """Else it is that of the locale, which is ASCII on many a node, and one name in a message ends the process."""
    wrong = [
        f"{path.relative_to(ROOT)}:{call.lineno}: {ast.unparse(call)[:80]}"
        for _, path in rooms()
        for call in ast.walk(parsed(path))
        if isinstance(call, ast.Call) and _is_of_text(call) and not _given(call, "encoding")
    ]
    assert wrong == []


def _is_of_text(call: ast.Call) -> bool:
    """Whether the call opens a file or a pipe as text, as far as can be read off it."""
    name = ast.unparse(call.func)
    if name.endswith((".read_text", ".write_text")):
        return True
    if name in ("open", "os.fdopen", "tempfile.TemporaryFile", "tempfile.NamedTemporaryFile"):
        mode = _given(call, "mode") or (call.args[1] if len(call.args) > 1 else None)
        return "b" not in (ast.unparse(mode) if mode else "b" if name.startswith("tempfile") else "r")
    return name.startswith("subprocess.") and bool(_given(call, "text") or _given(call, "universal_newlines"))


def _given(call: ast.Call, name: str) -> ast.expr | None:
    return next((keyword.value for keyword in call.keywords if keyword.arg == name), None)


def test_the_project_names_no_machine_and_no_registry() -> None:
    words = re.compile("|".join(["/" + "work/", r"pypi" + r"\.org", "shared" + "/facts"]))
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    found = [
        name
        for name in tracked
        if Path(name).suffix in {".py", ".md", ".yaml", ".toml", ".json", ""}
        and (ROOT / name).is_file()
        and words.search((ROOT / name).read_text(errors="ignore"))
    ]
    assert found == []
