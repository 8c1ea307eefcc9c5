"""Pages in a browser, for the tests: what they say, ask for and forbid, and what axe finds at fault."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "chrome")
DRAWN = "document.querySelectorAll('.chart:not([data-drawn])').length === 0"


@contextmanager
def started() -> Iterator[Any]:
    """A browser; the test is skipped where there is none, and fails where CI has none."""
    found = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if found is None:
        if os.environ.get("CI", "").lower() in ("1", "true"):
            pytest.fail("no chromium: CI must have one")
        pytest.skip("no chromium on this machine")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


class Opened:
    """A page in a tab, its charts drawn, with all that it said and asked for."""

    def __init__(self, browser: Any, path: Path, **options: Any) -> None:
        self.said: list[str] = []
        self.asked: list[str] = []
        self.tab = browser.new_page(**options)
        self.tab.on("console", lambda message: self.said.append(message.text))
        self.tab.on("pageerror", lambda error: self.said.append(str(error)))
        self.tab.on("dialog", self.interrupted)
        self.tab.on("request", lambda request: self.asked.append(request.url))
        self.tab.goto(path.as_uri())
        self.tab.wait_for_function(DRAWN)

    def interrupted(self, dialog: Any) -> None:
        self.said.append(dialog.message)
        dialog.dismiss()

    def serious(self) -> dict[str, list[str]]:
        """What axe finds that is serious or critical, everything unfolded: by rule, the elements."""
        from axe_playwright_python.sync_playwright import Axe

        self.tab.locator("details").evaluate_all("all => all.forEach((each) => { each.open = true; })")
        found = Axe().run(self.tab).response["violations"]
        return {
            fault["id"]: [node["html"] for node in fault["nodes"]][:3]
            for fault in found
            if fault["impact"] in ("serious", "critical")
        }


def dark(tab: Any) -> tuple[bool, bool]:
    """Whether paper is darker than ink: of the page, and of a chart."""
    colours = "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.querySelector('.chart svg text')).fill]"
    paper, letters = (sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in tab.evaluate(colours))
    return paper < 200, letters > 380


def check_page(browser: Any, path: Path, charts: int) -> None:
    """Whether a page with charts is what all of them are.

    It draws so many charts, each with words for who does not see it, says nothing amiss, asks for nothing, follows its
    system's theme, prints dark on light, overflows at no width, has no serious fault, and forbids itself requests and
    foreign script.
    """
    for scheme, width in (("light", 360), ("dark", 1280)):
        opened = Opened(browser, path, viewport={"width": width, "height": 740}, color_scheme=scheme)
        tab = opened.tab
        assert tab.evaluate("document.documentElement.scrollWidth") == width
        assert dark(tab) == (scheme == "dark",) * 2
        assert tab.locator(".chart svg").count() == charts
        told = tab.locator(".chart[role=graphics-document]").evaluate_all("all => all.map(a => a.ariaLabel)")
        assert len(told) == charts
        assert all(told)
        assert opened.serious() == {}
        assert tab.evaluate("document.documentElement.scrollWidth") == width
        over = "all => all.filter(a => a.scrollWidth > a.clientWidth + 1).length"
        assert tab.locator(".chart").evaluate_all(over) == 0
        tab.emulate_media(media="print")
        assert dark(tab) == (False, False)
        assert opened.said == []
        assert opened.asked == [path.as_uri()]
        tab.close()
    text = path.read_text("utf-8")
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', text)
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert re.fullmatch(r"'sha256-[A-Za-z0-9+/=]{44}'", rules["script-src"])
    assert text.count("<script") == 2
    markup = text.partition("<script>")[0]
    assert not re.findall(r"<(?:script|link|img|iframe)[^>]* (?:src|href)=[\"'](?!data:,)", markup)
