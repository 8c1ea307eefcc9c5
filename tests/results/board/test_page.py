"""The leaderboard's page in a browser: it draws, sorts, filters, follows its theme, and asks for nothing."""

import dataclasses
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from memsplit.results.board import page
from memsplit.results.board.ranking import boards
from memsplit.results.records.schema import Interval
from memsplit.results.records.store import Store
from memsplit.results.views import html_report
from memsplit.tests.support.board_records import made
from memsplit.tests.support.browsing import Opened, check_page, dark

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


class Board(Opened):
    """The page in a tab."""

    def order(self) -> list[str]:
        rows = self.tab.locator("#board-2 table.board tbody tr:not([hidden]) [data-edit]")
        return [str(row.get_attribute("data-edit")) for row in rows.all()]

    def header(self, name: str) -> Any:
        return self.tab.locator("#board-2 table.board thead th", has_text=re.compile(f"^{name}"))


@pytest.fixture
def opened(browser: Any, written: Path) -> Iterator[Board]:
    """Opened at a desk; whatever is done, nothing is logged, and nothing outside the file is asked for."""
    found = Board(browser, written, viewport={"width": 1280, "height": 900}, color_scheme="light")
    yield found
    assert found.said == []
    assert found.asked == [written.as_uri()]
    found.tab.close()


def test_it_says_what_the_records_say_and_runs_none_of_it(opened: Board, written: Path) -> None:
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


def test_charts_have_a_mark_an_edit(opened: Board) -> None:
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


def test_it_sorts_within_base_edits_and_controls(opened: Board) -> None:
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


def test_the_keyboard_reaches_and_sorts(opened: Board) -> None:
    tab, reached = opened.tab, []
    for _ in range(40):
        tab.keyboard.press("Tab")
        reached.append(tab.evaluate("document.activeElement.innerText || document.activeElement.tagName"))
        if reached[-1].startswith("split") and tab.evaluate("document.activeElement.closest('#board-2') !== null"):
            break
    assert reached[0] == "Skip to the content"
    assert tab.evaluate("document.activeElement.tagName") == "BUTTON"
    assert tab.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    tab.keyboard.press("Enter")
    tab.keyboard.press("Enter")
    assert opened.header("split").get_attribute("aria-sort") == "ascending"
    assert opened.order()[1] == HOSTILE


def test_it_filters_and_counts(opened: Board) -> None:
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


def test_the_theme_follows_the_system_and_its_button(opened: Board) -> None:
    tab = opened.tab
    assert dark(tab) == (False, False)
    tab.emulate_media(color_scheme="dark")
    assert dark(tab) == (True, True)
    tab.get_by_role("button", name="Light theme").click()
    assert dark(tab) == (False, False)
    tab.get_by_role("button", name="Dark theme").click()
    assert dark(tab) == (True, True)
    tab.emulate_media(media="print")
    assert dark(tab) == (False, False)


def test_print_opens_what_is_folded(opened: Board) -> None:
    tab = opened.tab
    assert not tab.locator("dl.settings").first.is_visible()
    tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert tab.locator("details:not([open])").count() == 0
    tab.evaluate("dispatchEvent(new Event('afterprint'))")
    assert tab.locator("details[open]").count() == 0
    assert len(tab.pdf()) > 10_000


def test_the_command_is_copied(opened: Board) -> None:
    opened.tab.context.grant_permissions(["clipboard-read", "clipboard-write"])
    button = opened.tab.locator("#board-2 button.copy").first
    button.click()
    opened.tab.locator("#board-2 button.copy", has_text="Copied").wait_for()
    command = "memsplit-eval --model olmo-tiny --edit kfac-80:layers=1-2 --device cpu"
    assert opened.tab.evaluate("navigator.clipboard.readText()") == command


def test_it_is_as_all_pages_with_charts_are(browser: Any, written: Path) -> None:
    check_page(browser, written, charts=8)
    assert "<script>alert" not in written.read_text("utf-8")


def test_an_interval_without_ends_is_drawn_and_breaks_nothing(browser: Any, tmp_path: Path) -> None:
    made(tmp_path / "store", "svd-50", ratio=1.5)
    (board,) = boards(Store(tmp_path / "store").records())
    rows = list(board.rows)
    first = rows[1]
    endless = Interval(value=0.5, low=-math.inf, high=math.inf)
    for n, cell in enumerate((endless, Interval(value=0.5, low=math.nan, high=math.nan))):
        cells = {**first.cells, **dict.fromkeys(("recitation_removed", "logic_kept", "perplexity_ratio"), cell)}
        content = msgspec.structs.replace(first.record.content, spec=f"kfac-{n}")
        record = dataclasses.replace(first.record, content=content)
        rows.append(dataclasses.replace(first, record=record, cells=cells, axes=dict.fromkeys(first.axes, cell)))
    path = tmp_path / "board.html"
    path.write_text(page.html([dataclasses.replace(board, rows=rows)]), encoding="utf-8")
    (charts,) = re.findall(r'id="charts">(.*?)</script>', path.read_text("utf-8"))
    json.loads(charts, parse_constant=lambda name: pytest.fail(name))
    found = Board(browser, path)
    assert found.said == []
    assert found.tab.locator(".frontier [aria-roledescription=point]").count() == 4
    assert "kfac-0; rank 1; recitation removed 0.500 [-∞, ∞]" in found.tab.locator(".frontier svg").inner_html()
    found.tab.close()


def test_data_that_json_has_no_word_for_is_null() -> None:
    given = {"a": [math.nan, math.inf, -math.inf, 0.5], "b": "</script><!--<script>"}
    text = html_report.data(given)
    assert json.loads(text) == {"a": [None, None, None, 0.5], "b": given["b"]}
    assert "<" not in text
