"""The shape of the house: imports go down only, each heavy package has one owner, and --help loads nothing heavy."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "flipscale"

FLOORS = [
    {"cell", "errors", "randomness", "scores", "settings", "words", "workspace"},
    {"architecture", "icons"},
    {"cost"},
    {"study"},
    {"identity"},
    {"plan"},
    {"inputs"},
    {"run"},
    {"launch", "train"},
    {"collect"},
    {"fit", "track"},
    {"compare"},
    {"plot", "export"},
    {"report"},
    {"workflow"},
    {"cli"},
]
"""From the ground up. A room may import rooms of lower floors only; rooms on one floor do not know each other."""

OWNERS = {
    "torch": {"train"},
    "torchvision": {"train"},
    "open_clip": {"train"},
    "webdataset": {"train"},
    "sklearn": {"train"},
    "resvg_py": {"icons"},
    "submitit": {"launch"},
    "ray": {"launch"},
    "mlflow": {"track"},
    "matplotlib": {"plot"},
    "scipy": {"fit", "compare"},
    # A DataFrame is what the stages after collect hand to each other, so they may name it.
    "pandas": {"collect", "fit", "track", "compare", "plot", "export", "report", "workflow"},
    "pyarrow": {"collect"},
    "orjson": {"collect"},
}


def rooms() -> Iterator[tuple[str, Path]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.name != "__main__.py" and path != PACKAGE / "__init__.py":
            yield path.relative_to(PACKAGE).parts[0].removesuffix(".py"), path


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Every module that a file imports, anywhere in it, but for type checking alone."""
    tree = ast.parse(path.read_text())
    for_types: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
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
        and (other := module.split(".")[1]) in floor
        and other != room
        and floor[other] >= floor[room]
    ]
    assert wrong == []


def test_each_heavy_package_has_its_owners() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {room} imports {module}"
        for room, path in rooms()
        for line, module in imports(path)
        if room not in OWNERS.get(module.split(".")[0], {room})
    ]
    assert wrong == []


CHECK = ["plan", "studies/quickstart.yaml", "--check", "--json"]


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["plan", "--help"], ["train", "--help"], ["plan", "studies/quickstart.yaml", "--json"], CHECK],
)
def test_help_and_plan_load_nothing_heavy(arguments: list[str], tmp_path: Path) -> None:
    script = (
        "import sys\nfrom flipscale.cli import main\n"
        "try: main(sys.argv[1:])\nexcept SystemExit: pass\n"
        f"print(sorted(set(sys.modules) & {set(OWNERS) | {'numpy'}!r}), file=sys.stderr)"
    )
    results = ["--results", str(tmp_path)] if arguments[-1] == "--json" else []
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments, *results], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stderr.splitlines()[-1] == "[]"
    assert done.stdout


def test_importing_flipscale_loads_nothing_heavy() -> None:
    script = f"import sys, flipscale\nprint(sorted(set(sys.modules) & {set(OWNERS) | {'numpy', 'yaml'}!r}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_public_names_load_on_first_use() -> None:
    import flipscale

    for name in flipscale.__all__:
        assert getattr(flipscale, name) is not None
    assert dir(flipscale) == sorted(flipscale.__all__)


def test_readme_tree_lists_every_room_in_order() -> None:
    tree = re.search(r"```\nflipscale/\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert tree, "README.md has no tree that begins with flipscale/"
    listed = re.findall(r"^    (\w+)(?:\.py|/)", tree[1], re.MULTILINE)
    assert [name for name in listed if not name.startswith("__")] == [room for floor in _readable() for room in floor]


def _readable() -> list[list[str]]:
    """The floors in the order of the README: a study's way through the house, then cli and the ground floor."""
    rooms = "study architecture cost identity plan inputs run launch train collect fit track compare plot export report"
    ground = "workflow cli icons cell errors randomness scores settings words workspace"
    return [rooms.split(), ground.split()]


def test_no_module_is_over_500_lines() -> None:
    long = {
        str(path.relative_to(ROOT)): lines for _, path in rooms() if (lines := len(path.read_text().splitlines())) > 500
    }
    assert long == {}


def test_text_that_is_read_or_written_names_its_encoding() -> None:
    """Else it is that of the locale, which is ASCII on many a node, and one name in a message ends the process."""
    wrong = [
        f"{path.relative_to(ROOT)}:{call.lineno}: {ast.unparse(call)[:80]}"
        for _, path in rooms()
        for call in ast.walk(ast.parse(path.read_text()))
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
