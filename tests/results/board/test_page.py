"""The leaderboard's page in a browser: it draws, sorts, filters, follows its theme, and asks for nothing."""

import dataclasses
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from memsplit.results.board import page
from memsplit.results.board.ranking import boards
from memsplit.results.records.schema import Interval
from memsplit.results.records.store import Store
from memsplit.results.views import html_report
from memsplit.tests.support.board_records import made
from memsplit.tests.support.browsing import Opened, check_page, dark

HOSTILE = "kfac-80:path=<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{7*7}}"
UNKNOWN = {
    "stays_erased": {"value": math.nan, "low": math.nan, "high": math.nan},
    "perplexity_ratio": {"value": math.inf, "low": math.nan, "high": math.nan},
}
NAMES = ["kfac:layers=1-2", "svd", HOSTILE.replace("-80", ""), "finetune"]
CHARTS = 14
"""The picture and the bars of either table."""
CONTROLS = ["quantize", "random:layers=1-2"]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a store with two tables, hostile names among it."""
    folder = tmp_path_factory.mktemp("page")
    store = folder / "store"
    made(store, "svd-50", stays=0.6, created=1)
    made(store, "kfac-80:layers=1-2", stays=0.9, ratio=1.5, created=2)
    made(store, "kfac-60:layers=1-2", stays=0.95, kept=0.2, ratio=1.9, created=3)
    made(store, "kfac-80:layers=1-2", stays=0.9, ratio=1.5, split="dev", created=4)
    made(store, HOSTILE, stays=0.3, kept=0.4, ratio=3.5, created=5)
    made(store, "finetune", matrices=[], created=6, summary=UNKNOWN)
    made(store, "random-50:layers=1-2", stays=0.2, kept=0.5, created=7)
    made(store, "quantize:bits=4", stays=0.4, kept=0.4, created=8)
    made(store, "quantize:bits=2", stays=0.5, kept=0.4, created=9)
    made(store, "kfac-80", model="<b>other</b>", attacks=False, created=10, command="")
    (folder / "board.html").write_text(page.html(boards(Store(store).records())), encoding="utf-8")
    return folder / "board.html"


class Board(Opened):
    """The page in a tab."""

    def order(self) -> list[str]:
        rows = self.tab.locator("#board-2 table.board > tbody > tr:not([hidden]) [data-edit]")
        return [str(row.get_attribute("data-edit")) for row in rows.all()]

    def header(self, name: str) -> Any:
        return self.tab.locator("#board-2 table.board > thead th", has_text=re.compile(f"^{name}"))


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
    assert opened.order() == ["base", *NAMES, *reversed(CONTROLS)]
    ranks = tab.locator("#board-2 table.board > tbody > tr:not(.strengths) > td:first-child").all_inner_texts()
    assert ranks == ["", "1", "2", "3", "-", "", ""]
    (board,) = [each for each in boards(Store(written.parent / "store").records()) if each.about.model == "olmo-tiny"]
    score, row = board.rows[1].score(), tab.locator("#board-2 tbody.edit > tr").first
    shown = [f"{score.value:.3f}", f"[{score.low:.3f},", f"{score.high:.3f}]"]
    assert row.locator(".score").inner_text().split() == shown
    assert tab.locator("#board-2 .record").count() == 8
    tab.locator("#board-2 details.part > summary", has_text="Records").click()
    section = tab.locator(".record", has=tab.locator("h4", has_text="svd-50"))
    assert section.locator("pre").inner_text() == "memsplit-eval --model olmo-tiny --edit svd-50 --device cpu"
    assert "edited by svd-50" in section.locator("dl.settings").text_content()
    section.locator("summary", has_text="All figures").click()
    figures = section.locator("table tbody tr").all_inner_texts()
    assert ["recitation", "strict", "1.000", "0.000"] in [figure.split("\t")[:4] for figure in figures]
    assert "was not kept" in tab.locator("#board-1 .record").text_content()
    assert "<b>other</b>" in tab.locator("#board-1 h2").inner_text()
    assert tab.locator("img, iframe, link[rel=stylesheet], script[src]").count() == 0
    links = tab.locator("a").evaluate_all(
        "all => all.map(a => document.getElementById(a.getAttribute('href').slice(1)) !== null)"
    )
    assert links
    assert all(links)


def test_it_opens_with_the_picture_then_the_rows_and_all_else_is_folded(opened: Board) -> None:
    order = "return [...document.querySelectorAll('#board-2 .frontier, #board-2 table.board, #board-2 .part')]"
    kinds = opened.tab.evaluate(f"(() => {{ {order}.map(each => each.tagName) }})()")
    assert kinds == ["DIV", "TABLE", "DETAILS", "DETAILS"]
    assert opened.tab.locator(".part[open]").count() == 0
    assert opened.tab.locator("#board-2 .frontier").is_visible()


def test_strengths_fold_out_under_their_method(opened: Board) -> None:
    kfac = opened.tab.locator("#board-2 tr", has=opened.tab.locator("[data-edit='kfac:layers=1-2']"))
    strengths = kfac.locator("xpath=following-sibling::tr[1]")
    assert "strengths" in str(strengths.get_attribute("class"))
    table = strengths.locator("table")
    assert not table.is_visible()
    strengths.locator("summary").click()
    assert table.is_visible()
    assert table.locator("tbody th").all_inner_texts() == ["80 %\nchosen on dev", "60 %"]
    table.locator("a").last.click()
    shown = opened.tab.locator(".record", has=opened.tab.locator("h4", has_text="kfac-60:layers=1-2"))
    shown.wait_for()  # its part was folded
    assert not opened.tab.locator("#board-2 tr.strengths", has_text="svd").count()  # one strength, nothing to fold
    of_control = opened.tab.locator("#board-2 tbody.control tr.strengths details")
    assert of_control.get_attribute("open") is not None  # nothing was chosen


def test_charts_have_a_mark_a_strength(opened: Board) -> None:
    points = opened.tab.locator("#board-2 .frontier [aria-roledescription=point]")
    assert points.count() == 8  # base, 2 of kfac, svd, the hostile one, and 3 of the controls
    assert len({point.get_attribute("fill") for point in points.all()}) >= 3
    told = "".join(str(point.get_attribute("aria-label")) for point in points.all())
    assert "method svd; strength 50 %; rank 2; stays erased 0.600 [" in told
    assert "method kfac:layers=1-2; strength 60 %; rank -; stays erased 0.950 [" in told
    dashed = opened.tab.locator("#board-2 .frontier path[stroke-dasharray='6,4']")
    assert dashed.count() == 1  # the control's line
    charts = opened.tab.locator("#board-2 .axes .chart")
    titles = opened.tab.locator("#board-2 .axes figcaption").all_text_contents()
    bars = [chart.locator("[aria-roledescription=bar]").count() for chart in charts.all()]
    assert dict(zip(titles, bars, strict=True)) == {
        "recitation left": 4,
        "facts closed kept": 5,
        "logic kept": 5,
        "arithmetic kept": 5,
        "facts open kept": 5,
        "fluency kept": 4,
        "perplexity ratio": 4,
    }
    first = "[role=graphics-document][aria-label*='first of 4 methods is kfac-80:layers=1-2'] svg"
    assert opened.tab.locator(first).count() == 1
    points.nth(1).hover()
    tip = opened.tab.locator("#vg-tooltip-element")
    tip.wait_for()
    assert "kfac:layers=1-2" in tip.inner_text()


def test_charts_that_fold_out_are_as_wide_as_their_place(opened: Board) -> None:
    opened.tab.locator("#board-2 .part > summary").first.click()
    wide = "() => [...document.querySelectorAll('#board-2 .axes .chart')].every(each => each.querySelector('svg').clientWidth > 200)"
    opened.tab.wait_for_function(wide)


def test_it_sorts_within_base_edits_and_controls(opened: Board) -> None:
    assert opened.header("rank").get_attribute("aria-sort") == "ascending"
    kfac, svd, hostile, finetune = NAMES
    fluency = opened.header("fluency kept")
    fluency.locator("button").click()
    assert fluency.get_attribute("aria-sort") == "descending"  # higher is better
    assert opened.header("rank").get_attribute("aria-sort") is None
    assert opened.order()[1:5] == [svd, kfac, hostile, finetune]
    fluency.locator("button").click()
    assert fluency.get_attribute("aria-sort") == "ascending"
    assert opened.order()[1:5] == [hostile, kfac, svd, finetune]  # none stays last
    followed = "row => row.nextElementSibling.classList.contains('strengths')"
    assert opened.tab.locator("#board-2 tr", has=opened.tab.locator(f"[data-edit='{kfac}']")).evaluate(followed)
    opened.header("method$").locator("button").click()
    assert opened.order() == ["base", finetune, kfac, hostile, svd, *CONTROLS]


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
    assert opened.order()[1] == NAMES[2]


def test_it_filters_and_counts(opened: Board) -> None:
    form = opened.tab.locator("#board-2 form.filters")
    count = form.locator("output[aria-live=polite]")
    assert count.inner_text() == "7 rows"
    form.locator("[name=text]").fill("KFAC")
    assert opened.order() == [NAMES[0], NAMES[2]]
    assert opened.tab.locator("#board-2 tr.strengths:not([hidden])").count() == 1  # the other's is filtered out too
    assert count.inner_text() == "2 of 7 rows"
    faint = opened.tab.locator("#board-2 .frontier [aria-roledescription=point][opacity='0.08']")
    faint.first.wait_for(state="attached")
    assert faint.count() == 5
    form.locator("[name=text]").fill("")
    form.locator("[name=kind]").select_option("control")
    assert opened.order() == list(reversed(CONTROLS))
    form.locator("[name=kind]").select_option("")
    form.locator("[name=method]").select_option("svd")
    assert opened.order() == ["svd"]
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
    assert tab.locator("details[open]:not(.strengths details)").count() == 0
    assert len(tab.pdf()) > 10_000


def test_the_command_is_copied(opened: Board) -> None:
    opened.tab.context.grant_permissions(["clipboard-read", "clipboard-write"])
    opened.tab.locator("#board-2 details.part > summary", has_text="Records").click()
    button = opened.tab.locator("#board-2 button.copy").first
    button.click()
    opened.tab.locator("#board-2 button.copy", has_text="Copied").wait_for()
    command = "memsplit-eval --model olmo-tiny --edit kfac-80:layers=1-2 --device cpu"
    assert opened.tab.evaluate("navigator.clipboard.readText()") == command


def test_it_is_as_all_pages_with_charts_are(browser: Any, written: Path) -> None:
    check_page(browser, written, charts=CHARTS)
    assert "<script>alert" not in written.read_text("utf-8")


def test_an_interval_without_ends_is_drawn_and_breaks_nothing(browser: Any, tmp_path: Path) -> None:
    made(tmp_path / "store", "svd-50", ratio=1.5)
    (board,) = boards(Store(tmp_path / "store").records())
    rows = list(board.rows)
    first = rows[1]
    assert first.chosen is not None
    endless = Interval(value=0.5, low=-math.inf, high=math.inf)
    for n, cell in enumerate((endless, Interval(value=0.5, low=math.nan, high=math.nan))):
        cells = {**first.cells, **dict.fromkeys(("stays_erased", "reasoning_kept", "fluency_kept"), cell)}
        strength = dataclasses.replace(first.chosen, cells=cells, axes=dict.fromkeys(first.axes, cell))
        rows.append(dataclasses.replace(first, name=f"kfac {n}", strengths=(strength,), chosen=strength, cells=cells))
    path = tmp_path / "board.html"
    path.write_text(page.html([dataclasses.replace(board, rows=rows)]), encoding="utf-8")
    (charts,) = re.findall(r'id="charts">(.*?)</script>', path.read_text("utf-8"))
    json.loads(charts, parse_constant=lambda name: pytest.fail(name))
    found = Board(browser, path)
    assert found.said == []
    assert found.tab.locator(".frontier [aria-roledescription=point]").count() == 4
    assert (
        "kfac 0; strength 50 %; rank 1; stays erased 0.500 [-∞, ∞]" in found.tab.locator(".frontier svg").inner_html()
    )
    found.tab.close()


def test_data_that_json_has_no_word_for_is_null() -> None:
    given = {"a": [math.nan, math.inf, -math.inf, 0.5], "b": "</script><!--<script>"}
    text = html_report.data(given)
    assert json.loads(text) == {"a": [None, None, None, 0.5], "b": given["b"]}
    assert "<" not in text
