"""Pictures of the docs: what `make quickstart` gives, from the runs in tests/golden/quickstart/results.csv.

`make docs-pictures` draws docs/images/quickstart.svg and, with Chromium, docs/report.png: the first view of the page.
"""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from flipscale.workflow.drawn import draw_study, report_study
from flipscale.workflow.opened import OpenStudy, open_study
from flipscale.workspace import Workspace

ROOT = Path(__file__).parents[2]


def quickstart(folder: Path) -> OpenStudy:
    """The study in a folder of its own, where these runs have finished."""
    opened = open_study(ROOT / "studies/quickstart.yaml", Workspace(folder / "results", folder / "plots"))
    opened.files.folder.mkdir(parents=True)
    shutil.copy(ROOT / "tests/golden/quickstart/results.csv", opened.files.results)
    return opened


def start_chromium(playwright: Any, **options: Any) -> Any:
    """Headless Chromium: that of FLIPSCALE_CHROMIUM, or of the PATH, or playwright's own."""
    names = ("chromium", "chromium-browser", "google-chrome")
    path = os.environ.get("FLIPSCALE_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    # Root, as CI is, has no sandbox of Chromium's; the page is our own.
    return playwright.chromium.launch(executable_path=path, args=["--no-sandbox"], **options)


def main() -> None:
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        opened = quickstart(Path(folder))
        draw_study(opened)
        shutil.copy(opened.files.figures / "speedup.svg", ROOT / "docs/images/quickstart.svg")
        report = report_study(opened)
        chromium = start_chromium(playwright)
        page = chromium.new_page(viewport={"width": 1400, "height": 640}, color_scheme="light")
        page.goto(report.path.as_uri())
        page.screenshot(path=ROOT / "docs/report.png")
        chromium.close()


if __name__ == "__main__":
    main()
