"""Hooks of MkDocs: the site also has what its pages link to elsewhere in the repository, every page in its menu, and
llms.txt.

A link such as `../studies/flip.yaml` works on a code host and in an editor. In the site it leads to a copy below
repository/: text is shown as a page, tables and figures are files, a folder is the list of its files.
"""

import os
import posixpath
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]

LINK = re.compile(r"(?<=\]\()([^)\s:#]+)(#[^)\s]*)?(?=\))")
SHOWN = {".py": "python", ".yaml": "yaml", ".cff": "yaml", ".sh": "bash", ".toml": "toml", "": "text"}
"""Files that are shown on a page of their own, and the language they are in."""


def on_config(config: MkDocsConfig) -> None:
    """Add the pages that the menu does not list, under 'More'."""
    listed = set(re.findall(r"[\w/-]+\.md", str(config.nav)))
    pages = (path.relative_to(config.docs_dir).as_posix() for path in sorted(Path(config.docs_dir).rglob("*.md")))
    if more := [page for page in pages if page not in listed]:
        config.nav.append({"More": more})


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what pages link to outside docs/, and what these pages link to."""
    waiting = [f"docs/{file.src_uri}" for file in files if file.is_documentation_page()]
    seen = set(waiting)
    while waiting:
        for target in targets(waiting.pop()):
            if target in seen or target.startswith("docs/"):
                continue
            seen.add(target)
            if (file := copied(target, config)) is not None:
                files.append(file)
                waiting.append(target)
    files.append(File.generated(config, "llms.txt", content=pages_for_agents(config)))
    return files


def pages_for_agents(config: MkDocsConfig) -> str:
    """llms.txt (llmstxt.org): every page of the menu, each with the first paragraph that it begins with."""
    lines = [f"# {config.site_name}", "", f"> {config.site_description}", ""]
    lines += ["- [AGENTS.md](repository/AGENTS.html): how a program plans, prices, submits, waits and reads", ""]
    for section in config.nav:
        ((name, pages),) = section.items()
        lines += [f"## {name}", ""]
        for page in [pages] if isinstance(pages, str) else pages:
            title, path = next(iter(page.items())) if isinstance(page, dict) else ("", page)
            text = (Path(config.docs_dir) / path).read_text(encoding="utf-8")
            heading, first = [part for part in text.split("\n\n") if not part.startswith("<!--")][:2]
            about = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", " ".join(first.split()))
            lines.append(f"- [{title or heading.removeprefix('# ')}]({path.removesuffix('.md')}.html): {about}")
        lines.append("")
    return "\n".join(lines)


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Lead links that leave docs/ to the copies."""
    source = repository_path(page.file.src_uri)
    here = posixpath.dirname(page.file.src_uri)

    def led(match: re.Match[str]) -> str:
        target = target_of(source, match[1])
        if not (ROOT / target).exists() or (target.startswith("docs/") and source.startswith("docs/")):
            return match[0]
        return posixpath.relpath(site_path(target), here or ".") + (match[2] or "")

    return outside_of_code(markdown, lambda text: LINK.sub(led, text))


def targets(source: str) -> Iterator[str]:
    """The paths in the repository that a page, or a folder, links to."""
    path = ROOT / source
    if path.is_dir():
        yield from (f"{source}/{name}" for name in shown_in(path))
    elif path.suffix == ".md":
        text = outside_of_code(path.read_text(encoding="utf-8"), str)
        links = (match[1] for match in LINK.finditer(text))
        yield from (target for link in links if (ROOT / (target := target_of(source, link))).exists())


def outside_of_code(markdown: str, change: Callable[[str], str]) -> str:
    """The page with the parts of it that are no code changed."""
    parts = re.split(r"(^```.*?^```$|^ {4}[^\n]*$)", markdown, flags=re.DOTALL | re.MULTILINE)
    return "".join(part if index % 2 else change(part) for index, part in enumerate(parts))


def target_of(source: str, link: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(source), link))


def site_path(target: str) -> str:
    """Where the site has a file of the repository, as the source that MkDocs reads."""
    path = ROOT / target
    if target.startswith("docs/"):
        return target.removeprefix("docs/")
    if path.is_dir():
        return f"repository/{target}/index.md"
    return f"repository/{target}" + (".md" if path.suffix in SHOWN else "")


def repository_path(src_uri: str) -> str:
    """The file of the repository that a source of the site stands for."""
    if not src_uri.startswith("repository/"):
        return f"docs/{src_uri}"
    target = src_uri.removeprefix("repository/")
    plain = target.removesuffix(".md")
    return target if (ROOT / target).exists() else plain


def shown_in(folder: Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(folder) if not entry.name.startswith((".", "_")))


def copied(target: str, config: MkDocsConfig) -> File | None:
    """A file of the repository as a file of the site."""
    path, name = ROOT / target, site_path(target)
    if path.is_dir():
        rows = "\n".join(f"- [{entry}]({entry})" for entry in shown_in(path))
        return File.generated(config, name, content=f"# {target}\n\n{rows}\n")
    if path.suffix in SHOWN:
        text = path.read_text(encoding="utf-8").rstrip()
        return File.generated(config, name, content=f"# {target}\n\n```{SHOWN[path.suffix]}\n{text}\n```\n")
    return File.generated(config, name, abs_src_path=str(path))
