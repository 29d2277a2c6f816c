"""Debian's chromium, driven by Playwright, on the pages of Dagster's UI, for trials. `visitor` is the entry point."""

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

TIMEOUT = 60_000
"""Timeout in milliseconds for a page, while a run uses the machine."""


@dataclass
class Visitor:
    """One browser window.

    Attributes
    ----------
    page
        Playwright's page.
    folder
        Folder of the screenshots, which are numbered.
    complaints
        Errors and warnings of the browser's console, and failed requests.
    """

    page: Page
    folder: Path
    complaints: list[str] = field(default_factory=list)

    def open(self, path: str, heading: str) -> None:
        """Opens a page and waits for a text."""
        self.page.goto(path)
        self.see(heading)

    def see(self, text: str) -> Locator:
        """Waits for a text; returns its element."""
        element = self.page.get_by_text(text, exact=True).filter(visible=True).first
        element.wait_for()
        return element

    def press(self, name: str) -> None:
        self.page.get_by_role("button", name=name).first.click()

    def press_icon(self, name: str, which: int = -1) -> None:
        """Clicks one of the buttons with this icon, the last one by default."""
        self.page.locator("button").filter(has=self.page.get_by_label(name, exact=True)).nth(which).click()

    def choose(self, name: str, icon: str, which: int = -1) -> None:
        """Clicks an entry in the menu of a button with this icon.

        The button is clicked again if the page was rendered again, which closes the menu.
        """
        from playwright.sync_api import TimeoutError as PlaywrightTimeoutError

        entry = self.page.get_by_role("menuitem", name=name)
        for _ in range(10):
            self.press_icon(icon, which)
            try:
                entry.click(timeout=TIMEOUT / 10)
                return
            except PlaywrightTimeoutError:
                self.page.keyboard.press("Escape")
        raise AssertionError(f"The menu with {name!r} does not open.")

    def metadata(self, key: str) -> Locator:
        """Returns the value of an entry in the metadata table."""
        row = self.page.locator("tr").filter(has=self.page.get_by_text(key, exact=True)).first
        return row.locator(":scope > td").last

    def open_metadata(self, key: str) -> Locator:
        """Returns the value of an entry; if it is long, the dialog that its link opens."""
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
        """Types into the config editor."""
        editor = self.page.locator(".CodeMirror").filter(visible=True).last
        editor.click()
        self.page.keyboard.insert_text(text)

    def snap(self, name: str, in_the_dark: bool = False) -> None:
        """Takes a screenshot, and optionally another one in the dark theme."""
        self.page.wait_for_timeout(700)  # until animations end
        number = len(list(self.folder.glob("*-light.png"))) + 1
        self._screenshot(f"{number:02d}-{name}-light.png")
        if in_the_dark:
            self.page.emulate_media(color_scheme="dark")
            self._screenshot(f"{number:02d}-{name}-dark.png")
            self.page.emulate_media(color_scheme="light")

    def _screenshot(self, name: str) -> None:
        self.page.wait_for_timeout(300)
        self.page.screenshot(path=self.folder / name)


@contextmanager
def visitor(url: str, folder: Path) -> Iterator[Visitor]:
    """Yields a window of a new browser at the address of the UI; skips the test if there is no browser."""
    sync_playwright, chromium = _playwright(), shutil.which("chromium")
    if chromium is None:
        _skip("there is no chromium on the PATH (Debian: apt-get install chromium)")
    folder = Path(os.environ.get(SCREENSHOTS) or folder)
    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        context = browser.new_context(base_url=url, viewport=SCREEN, color_scheme="light")
        context.set_default_timeout(TIMEOUT)
        window = Visitor(context.new_page(), folder)
        window.page.on("console", lambda message: _note(window, message.type, message.text))
        window.page.on("pageerror", lambda error: _note(window, "error", str(error)))
        window.page.on("response", lambda answer: answer.status >= 400 and _note(window, "error", answer.url))
        print(f"screenshots: {folder}")
        yield window
        browser.close()


def _playwright() -> Any:
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        _skip("Playwright is not installed (uv run --group ui)")
    return sync_playwright


def _skip(reason: str) -> None:
    if os.environ.get("CI") == "true":
        pytest.fail(f"The UI cannot be tested: {reason}.")
    pytest.skip(reason)


def _note(window: Visitor, kind: str, text: str) -> None:
    if kind in ("error", "warning"):
        window.complaints.append(f"{kind}: {text[:300]}")
