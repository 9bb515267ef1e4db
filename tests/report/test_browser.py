"""The report in a real browser that is offline: it draws, answers to mouse and keyboard, and everyone can read it."""

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flipscale.analysis.reporting import Report
from tests.patience import PATIENCE
from tests.report.conftest import QUESTION

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def used_page(browser: Any) -> Iterator[Any]:
    """A page that tests share, one after the other: what a script's parsing costs is paid once."""
    context = offline(browser)
    yield context.new_page()
    context.close()


@pytest.fixture
def opened(used_page: Any, here: Path) -> Iterator[Any]:
    used_page.goto("about:blank")
    yield from visit(used_page, here / "plots/mask/report.html")


def open_page(browser: Any, file: Path, **options: Any) -> Iterator[Any]:
    """The file in a page of its own."""
    context = offline(browser, **options)
    try:
        yield from visit(context.new_page(), file)
    finally:
        context.close()


def offline(browser: Any, **options: Any) -> Any:
    context = browser.new_context(viewport={"width": 1200, "height": 900}, offline=True, **options)
    context.set_default_timeout(1000 * PATIENCE)
    return context


def visit(page: Any, file: Path) -> Iterator[Any]:
    """The file in this page; afterwards it must have said nothing on the console and asked for nothing."""
    said: list[str] = []
    asked: list[str] = []
    listeners = {
        "console": lambda message: said.append(f"{message.type}: {message.text}"),
        "pageerror": lambda error: said.append(str(error)),
        "dialog": lambda dialog: (said.append(f"dialog: {dialog.message}"), dialog.dismiss()),
        "request": lambda request: asked.append(request.url),
    }
    for event, listener in listeners.items():
        page.on(event, listener)
    page.goto(file.as_uri())
    try:
        yield page
    finally:
        for event, listener in listeners.items():
            page.remove_listener(event, listener)
    asked = [url for url in asked if not url.startswith("data:")]
    assert said == []
    assert asked == [file.as_uri()]


def points(page: Any, chart: str = "chart-scores") -> Any:
    return page.locator(f"#{chart} .scatterlayer .points path")


def finished(here: Path) -> list[dict[str, str]]:
    with open(here / "results/mask/results.csv", newline="") as file:
        return list(csv.DictReader(file))


def column(page: Any, key: str) -> list[str]:
    """The cells of a column of the table of runs, as they stand."""
    keys = page.locator("#runs-table thead th").evaluate_all("heads => heads.map(head => head.dataset.key)")
    return [row.split("\t")[keys.index(key)].strip() for row in page.locator("#runs-table tbody tr").evaluate_all(
        "rows => rows.map(row => [...row.cells].map(cell => cell.textContent).join('\\t'))")]  # fmt: skip


def test_the_page_draws_and_says_the_question_first(opened: Any, here: Path) -> None:
    assert opened.locator("h1").inner_text() == QUESTION
    assert opened.locator("main h2").all_inner_texts()[:3] == ["Answer", "Figures", "Comparison with the baseline"]
    assert points(opened).count() == len(finished(here)) == 5
    assert points(opened, "chart-gains").count() == 2
    assert points(opened, "chart-cost").count() == 5
    assert opened.locator(".drawn img").count() >= 3
    opened.get_by_text("Show what flipscale plot drew").click()
    sizes = opened.locator(".drawn img").evaluate_all(
        "async all => { for (const one of all) await one.decode(); return all.map(one => one.naturalWidth) }"
    )
    assert min(sizes) > 100


def test_pointing_at_a_run_shows_its_id_and_a_click_finds_it_in_the_table(opened: Any, here: Path) -> None:
    opened.locator("#chart-scores").scroll_into_view_if_needed()
    box = points(opened).first.bounding_box()
    opened.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    shown = opened.locator("#chart-scores .hovertext").text_content()
    ids = {row["id"]: row for row in finished(here)}
    (found,) = [run for run in ids if run in shown]
    assert f"{100 * float(ids[found]['zero_shot_top1']):.1f} %" in shown
    assert f"seed {ids[found]['seed']}" in shown
    opened.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert column(opened, "id") == [found]


def test_an_arm_that_is_switched_off_is_in_no_figure(opened: Any, here: Path) -> None:
    masked = sum(row["mask_ratio"] == "0.5" for row in finished(here))
    assert 0 < masked < 5
    opened.get_by_role("checkbox", name="mask 50 %").uncheck()
    assert points(opened).count() == 5 - masked
    assert points(opened, "chart-cost").count() == 5 - masked
    assert points(opened, "chart-gains").count() == 0
    opened.get_by_role("checkbox", name="mask 50 %").check()
    assert points(opened).count() == 5


def test_the_axis_goes_along_samples_flops_or_time(opened: Any) -> None:
    titles, places = [], []
    for name in ("samples seen", "training FLOPs", "training time (core-seconds)"):
        opened.get_by_role("radio", name=name).check()
        titles.append(opened.locator("#chart-scores .xtitle").text_content())
        places.append(points(opened).evaluate_all("all => all.map(one => one.getBoundingClientRect().x)"))
        assert name in opened.locator("#chart-scores").get_attribute("aria-label")
    assert titles == ["samples seen", "training FLOPs", "training time (core-seconds)"]
    assert places[0] != places[1] != places[2]
    opened.get_by_label("Score").select_option("held_out_loss")
    assert "loss" in opened.locator("#chart-scores .ytitle").text_content()


def test_the_table_sorts_by_a_head_and_says_so_missing_last(opened: Any) -> None:
    head = opened.locator("th[data-key=zero_shot_top1]")
    assert head.get_attribute("aria-sort") == "none"
    head.get_by_role("button").press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"
    rising = [float(cell.removesuffix(" %")) for cell in column(opened, "zero_shot_top1")[:5]]
    assert rising == sorted(rising)
    assert column(opened, "zero_shot_top1")[5:] == ["", "", ""]
    head.get_by_role("button").press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    assert [float(cell.removesuffix(" %")) for cell in column(opened, "zero_shot_top1")[:5]] == rising[::-1]
    assert column(opened, "zero_shot_top1")[5:] == ["", "", ""]


def test_the_table_is_filtered_by_words_conditions_state_and_arm(opened: Any) -> None:
    assert opened.get_by_role("status").inner_text() == "8 runs"
    opened.get_by_label("Filter").fill("mask seed=1 samples=640")
    assert set(column(opened, "seed")) == {"1"}
    assert opened.get_by_role("status").inner_text() == "2 of 8 runs"
    opened.get_by_label("Filter").fill("gpu_hours>1")
    assert opened.get_by_role("status").inner_text() == "No run matches."
    opened.get_by_label("Filter").fill("")
    opened.get_by_label("State").select_option("failed")
    assert sorted(column(opened, "kind")) == ["code", "oom"]
    opened.get_by_label("State").select_option("")
    opened.locator("#run-controls").get_by_label("Arm").select_option("no mask")
    assert set(column(opened, "arm")) == {"no mask"}


def test_a_failure_is_told_with_the_last_lines_of_its_log(opened: Any) -> None:
    opened.get_by_role("link", name="oom").click()
    group = opened.locator("#failures details", has_text="2 GiB <too> many").first
    assert "OutOfMemoryError </pre><script>alert(1)</script>\nthe last line" in group.locator("pre").first.inner_text()
    assert "again with half the micro-batch" in group.inner_text()
    assert opened.locator("#failures > p").first.inner_text() == "3 runs failed or lost: 1 oom, 1 code, 1 lost."


def test_the_keyboard_reaches_every_control_and_shows_where_it_is(opened: Any) -> None:
    reached: list[str] = []
    for _ in range(80):
        opened.keyboard.press("Tab")
        now = opened.evaluate(
            "(() => { const at = document.activeElement; if (at === document.body) return null; const name = "
            "at.labels?.[0]?.textContent || at.getAttribute('aria-label') || at.textContent; "
            "return [name.trim(), getComputedStyle(at).outlineStyle] })()"
        )
        if now is None:
            break
        assert now[1] != "none", now
        reached.append(now[0])
    whole = "\n".join(reached)
    for name in ("Skip to the answer", "Dark colours", "samples seen", "no mask", "mask 50 %", "Score", "Filter",
                 "State", "run", "zero_shot_top1", "Table of runs", "Show what flipscale plot drew"):  # fmt: skip
        assert name in whole, name
    opened.get_by_role("radio", name="samples seen").focus()
    opened.keyboard.press("ArrowRight")
    assert opened.locator("#chart-scores .xtitle").text_content() == "training FLOPs"
    opened.get_by_role("checkbox", name="no mask").focus()
    opened.keyboard.press("Space")
    assert not opened.get_by_role("checkbox", name="no mask").is_checked()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_that_keeps_people_out(browser: Any, here: Path, scheme: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    for page in open_page(browser, here / "plots/mask/report.html", color_scheme=scheme):
        page.locator("#chart-cost .main-svg").first.wait_for()
        page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        found = Axe().run(page).response
        told = [(one["id"], [node["html"][:200] for node in one["nodes"]][:3]) for one in found["violations"]]
        assert told == []
        assert {"color-contrast", "label", "landmark-one-main", "scrollable-region-focusable"} <= {
            one["id"] for one in found["passes"]
        }


def test_dark_follows_the_system_and_the_button(browser: Any, here: Path) -> None:
    def light(page: Any) -> bool:
        red = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return int(re.findall(r"\d+", red)[0]) > 200

    def ink(page: Any) -> str:
        colour: str = page.locator("#chart-scores .xtitle").evaluate("title => getComputedStyle(title).fill")
        return colour

    for page in open_page(browser, here / "plots/mask/report.html", color_scheme="dark"):
        assert not light(page)
        dark_ink = ink(page)
        page.get_by_role("button", name="Light colours").click()
        assert light(page)
        assert ink(page) != dark_ink
        page.get_by_role("button", name="Dark colours").click()
        assert not light(page)
        assert ink(page) == dark_ink


def test_on_paper_controls_are_gone_all_is_unfolded_and_ink_is_black(browser: Any, here: Path) -> None:
    for page in open_page(browser, here / "plots/mask/report.html", color_scheme="dark"):
        page.get_by_text("The same as a table").wait_for()
        page.evaluate("window.addEventListener('beforeprint', () => { window.seen = {"
            "folded: [...document.querySelectorAll('#figures details:not([open])')].length,"
            "width: document.querySelector('#chart-scores .main-svg').getBoundingClientRect().width}; })")  # fmt: skip
        assert page.pdf(format="A4").startswith(b"%PDF")
        assert page.evaluate("window.seen") == {"folded": 0, "width": 660}
        assert page.locator("#figures details:not([open])").count() == 1  # as it was before
        page.emulate_media(media="print")
        assert not page.locator("nav").is_visible()
        assert not page.locator("#run-controls").is_visible()
        assert page.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
        assert page.locator("#runs-table").is_visible()


def test_a_narrow_screen_scrolls_tables_and_not_the_page(browser: Any, here: Path) -> None:
    for page in open_page(browser, here / "plots/mask/report.html"):
        page.set_viewport_size({"width": 400, "height": 800})
        page.reload()
        page.locator("#chart-cost .main-svg").first.wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") == 400
        wide = page.locator("#cost .scroll.wide")
        assert wide.count() == 1
        hint = "at => getComputedStyle(at, '::before').content"
        assert wide.first.evaluate(hint) == '"Scroll sideways for more columns →"'
        page.set_viewport_size({"width": 4000, "height": 800})
        page.locator("#cost .scroll:not(.wide)").first.wait_for()
        break


@pytest.mark.parametrize("size", [(1400, 850), (400, 850)])
def test_the_first_screen_has_the_answer_and_its_figure(browser: Any, here: Path, size: tuple[int, int]) -> None:
    for page in open_page(browser, here / "plots/mask/report.html"):
        page.set_viewport_size({"width": size[0], "height": size[1]})
        table, figure = (page.locator(f".first {part}").bounding_box() for part in ("table", "img"))
        for box in (table, figure):
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= size[0]
            assert box["y"] + box["height"] <= size[1]
        assert (figure["x"] > table["x"] + table["width"] / 2) == (size[0] == 1400)
        lines = "cells => cells.map(cell => { const range = document.createRange(); range.selectNodeContents(cell); "
        lines += "return range.getClientRects().length })"
        assert max(page.locator(".first td").evaluate_all(lines)) == 1  # No interval is broken.


def test_the_page_names_columns_as_a_reader_knows_them(opened: Any) -> None:
    said = "\n".join(opened.locator(f"#{section}").inner_text() for section in ("answer", "comparison"))
    assert "training time" in said
    assert not re.search("gpu_hours|train_flops|peak_memory_bytes", said)
    heads = opened.locator("#comparison thead tr").evaluate_all(
        "rows => rows.map(row => [...row.cells].map(cell => cell.textContent))"
    )
    assert [head for head in heads if len(head) != len(set(head)) and "" not in head] == []


def test_without_scripts_the_tables_are_there(browser: Any, here: Path) -> None:
    for page in open_page(browser, here / "plots/mask/report.html", java_script_enabled=False):
        assert not page.locator("#chart-controls").is_visible()
        assert page.locator("#answer table tbody tr").count() >= 1
        assert page.locator("#cost table tbody tr").count() == 3


def test_ten_thousand_runs_are_sorted_and_filtered_at_once(browser: Any, of_ten_thousand: Report) -> None:
    for page in open_page(browser, of_ten_thousand.path):
        assert points(page).count() == 2000  # one series of 5 at a time
        page.get_by_label("Series").select_option("")
        assert points(page).count() == 9_000
        dashes = "lines => [...new Set(lines.map(line => line.style.strokeDasharray))].length"
        assert page.locator("#chart-scores .scatterlayer .js-line").evaluate_all(dashes) == 5
        assert "dash: model=" in page.locator("#chart-series").inner_text()
        page.get_by_label("Filter").fill("model=ViT-w48d3-4 seed=7 zero_shot_top1>0.4")
        ids = column(page, "id")
        assert all("_s7_" in run for run in ids)
        assert re.fullmatch(r"\d+ of 10000 runs(, 1 to 50 shown)?", page.get_by_role("status").inner_text())
        page.get_by_label("Filter").fill("")
        page.get_by_role("button", name="Later rows").click()
        assert page.get_by_role("status").inner_text() == "10000 runs, 51 to 100 shown"
