"""The leaderboard's page in a browser: it draws, sorts, filters, follows its theme, and asks for nothing."""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from memsplit.results import page
from memsplit.results.leaderboard import boards
from memsplit.results.store import Store
from memsplit.tests.board_records import made

CHROMIUM = shutil.which("chromium")
HOSTILE = "kfac-80:path=<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{7*7}}"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a store with two tables, hostile names among it."""
    folder = tmp_path_factory.mktemp("page")
    store = folder / "store"
    made(store, "svd-50", score=(0.6, 0.5, 0.65), created=1)
    made(store, "kfac-80:layers=1-2", score=(0.9, 0.85, 1.0), ratio=1.5, created=2)
    made(store, HOSTILE, score=(0.3, 0.2, 0.4), ratio=3.5, created=3)
    made(store, "finetune", score=(float("nan"),) * 3, ratio=float("inf"), matrices=[], created=4)
    made(store, "random-50", score=(0.2, 0.1, 0.3), control=True, created=5)
    made(store, "random-20", score=(0.4, 0.3, 0.5), control=True, created=6)
    made(store, "kfac-80", model="<b>other</b>", score=None, created=7, command="")
    (folder / "board.html").write_text(page.html(boards(Store(store).records())), encoding="utf-8")
    return folder / "board.html"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        if os.environ.get("CI", "").lower() in ("1", "true"):
            pytest.fail("no chromium: CI must have one")
        pytest.skip("no chromium on this machine")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


class Opened:
    """The page in a tab, with all that it said and asked for."""

    def __init__(self, browser: Any, path: Path, **options: Any) -> None:
        self.said: list[str] = []
        self.asked: list[str] = []
        self.tab = browser.new_page(**options)
        self.tab.on("console", lambda message: self.said.append(message.text))
        self.tab.on("pageerror", lambda error: self.said.append(str(error)))
        self.tab.on("dialog", self.interrupted)
        self.tab.on("request", lambda request: self.asked.append(request.url))
        self.tab.goto(path.as_uri())
        self.tab.wait_for_function("document.querySelectorAll('.chart:not([data-drawn])').length === 0")

    def interrupted(self, dialog: Any) -> None:
        self.said.append(dialog.message)
        dialog.dismiss()

    def order(self) -> list[str]:
        rows = self.tab.locator("#board-2 table.board tbody tr:not([hidden]) [data-edit]")
        return [str(row.get_attribute("data-edit")) for row in rows.all()]

    def header(self, name: str) -> Any:
        return self.tab.locator("#board-2 table.board thead th", has_text=re.compile(f"^{name}"))


@pytest.fixture
def opened(browser: Any, written: Path) -> Iterator[Opened]:
    """Opened at a desk; whatever is done, nothing is logged, and nothing outside the file is asked for."""
    found = Opened(browser, written, viewport={"width": 1280, "height": 900}, color_scheme="light")
    yield found
    assert found.said == []
    assert found.asked == [written.as_uri()]
    found.tab.close()


def test_it_says_what_the_records_say_and_runs_none_of_it(opened: Opened, written: Path) -> None:
    tab = opened.tab
    assert opened.order() == ["base", "kfac-80:layers=1-2", "svd-50", HOSTILE, "finetune", "random-20", "random-50"]
    ranks = tab.locator("#board-2 table.board tbody td:first-child").all_inner_texts()
    assert ranks == ["", "1", "2", "3", "-", "", ""]
    row = tab.locator("#board-2 tbody.edit tr").first
    assert row.locator(".score").inner_text().split() == ["0.900", "[0.850,", "1.000]"]
    assert tab.locator("#board-2 .record").count() == 6
    section = tab.locator(".record", has=tab.locator("h4", has_text="svd-50"))
    assert section.locator("pre").inner_text() == "memsplit-eval --model olmo-tiny --edit svd-50 --device cpu"
    assert "edited by svd-50" in section.locator("dl.settings").text_content()
    section.locator("summary", has_text="All figures").click()
    assert section.locator("table tbody tr").first.inner_text().split("\t")[:4] == [
        "recitation",
        "strict",
        "1.000",
        "0.500",
    ]
    assert "was not kept" in tab.locator("#board-1 .record").inner_text()
    assert "<b>other</b>" in tab.locator("#board-1 h2").inner_text()
    assert tab.locator("img, iframe, link[rel=stylesheet], script[src]").count() == 0
    links = tab.locator("a").evaluate_all(
        "all => all.map(a => document.getElementById(a.getAttribute('href').slice(1)) !== null)"
    )
    assert links
    assert all(links)


def test_charts_have_a_mark_an_edit(opened: Opened) -> None:
    points = opened.tab.locator("#board-2 .frontier [aria-roledescription=point]")
    assert points.count() == 7
    assert len({point.get_attribute("fill") for point in points.all()}) >= 3
    told = [str(point.get_attribute("aria-label")) for point in points.all()]
    assert "edit svd-50; rank 2; recitation removed 0.600 [0.500, 0.650]; logic kept 0.900 [0.800, 1.000]" in "".join(
        told
    )
    charts = opened.tab.locator("#board-2 .axes .chart")
    titles = opened.tab.locator("#board-2 .axes figcaption").all_inner_texts()
    bars = [chart.locator("[aria-roledescription=bar]").count() for chart in charts.all()]
    assert dict(zip(titles, bars, strict=True)) == {
        "recitation left": 6,
        "facts closed kept": 6,
        "logic kept": 6,
        "perplexity ratio": 5,
    }
    assert opened.tab.locator("[role=graphics-document][aria-label*=' by edit; 1 is the base'] svg").count() == 7
    assert (
        opened.tab.locator("[role=graphics-document][aria-label*='first of 4 edits is kfac-80:layers=1-2'] svg").count()
        == 1
    )
    points.nth(1).hover()
    tip = opened.tab.locator("#vg-tooltip-element")
    tip.wait_for()
    assert "kfac-80:layers=1-2" in tip.inner_text()


def test_it_sorts_within_base_edits_and_controls(opened: Opened) -> None:
    assert opened.header("rank").get_attribute("aria-sort") == "ascending"
    ratio = opened.header("perplexity")
    ratio.nth(1).locator("button").click()
    assert ratio.nth(1).get_attribute("aria-sort") == "ascending"
    assert opened.header("rank").get_attribute("aria-sort") is None
    assert opened.order()[1:5] == ["svd-50", "kfac-80:layers=1-2", HOSTILE, "finetune"]
    ratio.nth(1).locator("button").click()
    assert ratio.nth(1).get_attribute("aria-sort") == "descending"
    assert opened.order()[1:5] == [HOSTILE, "kfac-80:layers=1-2", "svd-50", "finetune"]  # none stays last
    opened.header("split score").locator("button").click()
    assert opened.header("split").get_attribute("aria-sort") == "descending"  # higher is better
    opened.header("edit$").locator("button").click()
    assert opened.order() == ["base", "finetune", "kfac-80:layers=1-2", HOSTILE, "svd-50", "random-20", "random-50"]


def test_the_keyboard_reaches_and_sorts(opened: Opened) -> None:
    tab, reached = opened.tab, []
    for _ in range(40):
        tab.keyboard.press("Tab")
        reached.append(tab.evaluate("document.activeElement.innerText || document.activeElement.tagName"))
        if reached[-1].startswith("split") and tab.evaluate("document.activeElement.closest('#board-2') !== null"):
            break
    assert reached[0] == "Skip to the tables"
    assert tab.evaluate("document.activeElement.tagName") == "BUTTON"
    assert tab.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    tab.keyboard.press("Enter")
    tab.keyboard.press("Enter")
    assert opened.header("split").get_attribute("aria-sort") == "ascending"
    assert opened.order()[1] == HOSTILE


def test_it_filters_and_counts(opened: Opened) -> None:
    form = opened.tab.locator("#board-2 form.filters")
    count = form.locator("output[aria-live=polite]")
    assert count.inner_text() == "7 rows"
    form.locator("[name=text]").fill("KFAC")
    assert opened.order() == ["kfac-80:layers=1-2", HOSTILE]
    assert count.inner_text() == "2 of 7 rows"
    faint = opened.tab.locator("#board-2 .frontier [aria-roledescription=point][opacity='0.08']")
    faint.first.wait_for(state="attached")
    assert faint.count() == 5
    form.locator("[name=text]").fill("")
    form.locator("[name=kind]").select_option("control")
    assert opened.order() == ["random-20", "random-50"]
    form.locator("[name=kind]").select_option("")
    form.locator("[name=method]").select_option("svd")
    assert opened.order() == ["svd-50"]
    assert count.inner_text() == "1 of 7 rows"
    hidden = opened.header("norm removed")
    assert not hidden.is_visible()
    form.locator("[name=all]").check()
    assert hidden.is_visible()


def test_the_theme_follows_the_system_and_its_button(opened: Opened) -> None:
    tab = opened.tab

    def dark() -> tuple[bool, bool]:
        """Whether paper is darker than ink: of the page, and of a chart."""
        colours = "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.querySelector('.axes svg text')).fill]"
        paper, letters = (sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in tab.evaluate(colours))
        return paper < 200, letters > 380

    assert dark() == (False, False)
    tab.emulate_media(color_scheme="dark")
    assert dark() == (True, True)
    tab.get_by_role("button", name="Light theme").click()
    assert dark() == (False, False)
    tab.get_by_role("button", name="Dark theme").click()
    assert dark() == (True, True)
    tab.emulate_media(media="print")
    assert dark() == (False, False)


def test_print_opens_what_is_folded(opened: Opened) -> None:
    tab = opened.tab
    assert not tab.locator("dl.settings").first.is_visible()
    tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert tab.locator("details:not([open])").count() == 0
    tab.evaluate("dispatchEvent(new Event('afterprint'))")
    assert tab.locator("details[open]").count() == 0
    assert len(tab.pdf()) > 10_000


def test_the_command_is_copied(opened: Opened) -> None:
    opened.tab.context.grant_permissions(["clipboard-read", "clipboard-write"])
    button = opened.tab.locator("#board-2 button.copy").first
    button.click()
    opened.tab.locator("#board-2 button.copy", has_text="Copied").wait_for()
    command = "memsplit-eval --model olmo-tiny --edit kfac-80:layers=1-2 --device cpu"
    assert opened.tab.evaluate("navigator.clipboard.readText()") == command


@pytest.mark.parametrize(("scheme", "width"), [("light", 360), ("dark", 1280)])
def test_nothing_overflows_and_axe_finds_no_serious_fault(browser: Any, written: Path, scheme: str, width: int) -> None:
    from axe_playwright_python.sync_playwright import Axe

    opened = Opened(browser, written, viewport={"width": width, "height": 740}, color_scheme=scheme)
    assert opened.tab.evaluate("document.documentElement.scrollWidth") == width
    opened.tab.locator("details").evaluate_all("all => all.forEach((each) => { each.open = true; })")
    assert opened.tab.evaluate("document.documentElement.scrollWidth") == width
    found = Axe().run(opened.tab).response["violations"]
    serious = {
        fault["id"]: [node["html"] for node in fault["nodes"]][:3]
        for fault in found
        if fault["impact"] in ("serious", "critical")
    }
    assert serious == {}
    assert opened.said == []
    opened.tab.close()


def test_the_page_forbids_itself_requests_and_foreign_script(written: Path) -> None:
    text = written.read_text("utf-8")
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', text)
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert re.fullmatch(r"'sha256-[A-Za-z0-9+/=]{44}'", rules["script-src"])
    assert "<script>alert" not in text
    assert text.count("<script") == 2
