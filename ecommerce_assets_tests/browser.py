"""A person before the UI, for trials: Debian's chromium driven by Playwright, and how one finds one's way in Dagster.

What is looked for on which page is the business of the tests.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

SCREENSHOTS = "UI_SCREENSHOTS"
"""Environment variable: the folder that gets the screenshots."""

NARROW = {"width": 1100, "height": 900}
SCREEN = {"width": 1600, "height": 1000}
TALL = {"width": 1600, "height": 3000}
WALL = {"width": 4000, "height": 6400}
"""A screen on which the whole graph has room at a scale at which its nodes have text."""

PATIENCE = 60_000
"""Milliseconds for a page to show something, on a machine that is busy with a run."""


@dataclass
class Visitor:
    """One browser window.

    Attributes
    ----------
    page
        Playwright's page.
    folder
        Where the screenshots go, numbered in their order.
    complaints
        Errors and warnings of the browser's console, and requests that the server could not answer.
    """

    page: Page
    folder: Path
    complaints: list[str] = field(default_factory=list)

    def open(self, path: str, heading: str) -> None:
        """Go to a page and wait for what it must say."""
        self.page.goto(path)
        self.see(heading)

    def see(self, text: str) -> Locator:
        """Wait until the page says so; the element that says it."""
        found = self.page.get_by_text(text, exact=True).filter(visible=True).first
        found.wait_for()
        return found

    def press(self, name: str) -> None:
        self.page.get_by_role("button", name=name).first.click()

    def press_icon(self, name: str, which: int = -1) -> None:
        """Click one of the buttons with this icon, the last if nothing else is said."""
        self.page.locator("button").filter(has=self.page.get_by_label(name, exact=True)).nth(which).click()

    def choose(self, name: str, icon: str, which: int = -1) -> None:
        """Click an entry of the menu behind a button with this icon.

        Where the page was drawn anew after the button was pressed, the menu is gone: the button is pressed again.
        """
        from playwright.sync_api import TimeoutError as NotThere

        entry = self.page.get_by_role("menuitem", name=name)
        for _ in range(10):
            self.press_icon(icon, which)
            try:
                entry.click(timeout=PATIENCE / 10)
                return
            except NotThere:
                self.page.keyboard.press("Escape")
        raise AssertionError(f"No menu with {name!r} opens.")

    def metadata(self, key: str) -> Locator:
        """The value of an entry of the metadata table."""
        row = self.page.locator("tr").filter(has=self.page.get_by_text(key, exact=True)).first
        return row.locator(":scope > td").last

    def open_metadata(self, key: str) -> Locator:
        """What an entry shows: in its place, or, where it is long, behind a link."""
        value = self.metadata(key)
        value.wait_for()
        link = value.get_by_text("[Show", exact=False)
        if not link.count():
            return value
        link.click()
        dialog = self.dialog()
        dialog.get_by_text(key, exact=True).first.wait_for()
        return dialog

    def shows_the_top_of(self, dialog: Locator) -> bool:
        """Whether the window shows the title of a dialog."""
        box = dialog.bounding_box()
        return box is not None and box["y"] >= 0

    def close(self) -> None:
        """Close the dialog that is open, if one is."""
        button = self.page.get_by_role("button", name="Close")
        if button.count():
            button.click()
            button.wait_for(state="hidden")

    def dialog(self) -> Locator:
        return self.page.get_by_role("dialog").last

    def write_config(self, text: str) -> None:
        """Type into the config editor."""
        editor = self.page.locator(".CodeMirror").filter(visible=True).last
        editor.click()
        self.page.keyboard.insert_text(text)

    def snap(self, name: str, in_the_dark: bool = False) -> None:
        """Keep what the window shows, and, where asked for, the same in the dark theme."""
        self.page.wait_for_timeout(700)  # what fades in is there
        number = len(list(self.folder.glob("*-light.png"))) + 1
        self._shoot(f"{number:02d}-{name}-light.png")
        if in_the_dark:
            self.page.emulate_media(color_scheme="dark")
            self._shoot(f"{number:02d}-{name}-dark.png")
            self.page.emulate_media(color_scheme="light")

    def _shoot(self, name: str) -> None:
        self.page.wait_for_timeout(300)
        self.page.screenshot(path=self.folder / name)


@contextmanager
def visitor(url: str, folder: Path) -> Iterator[Visitor]:
    """A window of a browser of one's own, at the UI's address; skips the test where there is no browser."""
    sync_playwright, chromium = _playwright(), shutil.which("chromium")
    if chromium is None:
        _do_without("there is no chromium on the PATH (Debian: apt-get install chromium)")
    folder = Path(os.environ.get(SCREENSHOTS) or folder)
    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        context = browser.new_context(base_url=url, viewport=SCREEN, color_scheme="light")
        context.set_default_timeout(PATIENCE)
        found = Visitor(context.new_page(), folder)
        found.page.on("console", lambda message: _note(found, message.type, message.text))
        found.page.on("pageerror", lambda error: _note(found, "error", str(error)))
        found.page.on("response", lambda answer: answer.status >= 400 and _note(found, "error", answer.url))
        print(f"screenshots: {folder}")
        yield found
        browser.close()


def _playwright() -> Any:
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        _do_without("Playwright is not installed (uv run --group ui)")
    return sync_playwright


def _do_without(reason: str) -> None:
    if os.environ.get("CI") == "true":
        pytest.fail(f"The UI cannot be tried: {reason}.")
    pytest.skip(reason)


def _note(found: Visitor, kind: str, text: str) -> None:
    if kind in ("error", "warning"):
        found.complaints.append(f"{kind}: {text[:300]}")
