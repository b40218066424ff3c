"""A real browser without a window, for the tests that look at pages as people see them."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import util
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Dialog, Frame, Page

NAMES = ("chromium", "chromium-browser", "google-chrome")
WATCH = """
window.revoked = [];
const revoke = URL.revokeObjectURL.bind(URL);
URL.revokeObjectURL = (address) => { window.revoked.push(address); revoke(address); };
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) =>
  window.violations.push(event.violatedDirective + " " + event.blockedURI));
"""
"""What every page is watched by: addresses let go of, and breaches of its security policy."""

CONTRASTS = """
() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const over = (top, below) => {
    const share = top.length > 3 ? top[3] : 1;
    return [0, 1, 2].map((at) => top[at] * share + below[at] * (1 - share));
  };
  const ground = (element) => {
    const layers = [];
    for (let at = element; at; at = at.parentElement)
      layers.push(parse(getComputedStyle(at).backgroundColor));
    const page = parse(getComputedStyle(document.body).backgroundColor);
    return layers.reverse().reduce((below, layer) => over(layer, below), page);
  };
  const light = (colour) => {
    const [r, g, b] = colour.map((v) => v / 255)
      .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const found = [];
  for (const element of document.querySelectorAll("body, body *")) {
    const said = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!said || !element.checkVisibility()) continue;
    if (element.closest("noscript, title, .spoken, .skip")) continue;
    const style = getComputedStyle(element);
    const below = ground(element);
    const colour = over(parse(element.closest("svg") ? style.fill : style.color), below);
    const [bright, dark] = [light(colour), light(below)].sort((a, b) => b - a);
    found.push([(bright + 0.05) / (dark + 0.05), element.textContent.trim().slice(0, 60)]);
  }
  return found;
}
"""
"""Contrast of every text that is seen with what is under it (WCAG 2), and the text."""


@dataclass
class Visit:
    """A tab in which pages of a site are looked at, and what they did besides."""

    page: Page
    site: str = ""
    number: int = 0
    asked: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def start(self, site: str, view: str = "") -> None:
        """Load a view (`#people`) of a site as somebody who comes for the first time.

        The tab stays, as a new one takes longer; routes, colours and what it stored do not.
        """
        self.page.unroute_all(behavior="ignoreErrors")
        self.page.emulate_media(color_scheme="light")
        if self.site:
            self.page.evaluate("sessionStorage.clear()")
        self.site = site
        self.number += 1
        # A number, as going to an address that differs after the # alone would load nothing.
        address = f"{site}/?{self.number}{view}"

        def begin(frame: Frame) -> None:
            # Until now the page before could still ask for something.
            if frame.url == address:
                self.page.remove_listener("framenavigated", begin)
                self.asked.clear()
                self.complaints.clear()

        self.page.on("framenavigated", begin)
        self.page.goto(address)

    def check(self, allowed: Sequence[str] = ()) -> None:
        """Refuse errors, other hosts, and breaches of the policy; `allowed` are parts of errors."""
        for address in self.asked:
            assert address.startswith((self.site + "/", f"blob:{self.site}/", "data:")), address
        unknown = [said for said in self.complaints if not any(part in said for part in allowed)]
        assert not unknown
        assert self.page.evaluate("window.violations") == []


def find_browser() -> str:
    """Find a browser, or skip the test."""
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip(f"there is no browser here: none of {', '.join(NAMES)}")
    if util.find_spec("playwright") is None:
        pytest.skip("playwright is not installed")
    return path


@contextmanager
def open_browser() -> Iterator[Browser]:
    """Start a browser that reaches this machine alone."""
    path = find_browser()
    from playwright.sync_api import sync_playwright

    arguments = ["--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
    if os.geteuid() == 0:
        arguments.append("--no-sandbox")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        yield browser
        browser.close()


@contextmanager
def open_tab(browser: Browser, **context: Any) -> Iterator[Visit]:
    """Open an empty tab in a session of its own; `context` are playwright's settings of it."""
    session = browser.new_context(**{"reduced_motion": "reduce", "locale": "en-GB"} | context)
    session.set_default_timeout(15_000)
    session.add_init_script(WATCH)
    page = session.new_page()
    seen = Visit(page)
    page.on("request", lambda request: seen.asked.append(request.url))
    page.on(
        "console",
        lambda said: (
            seen.complaints.append(f"{said.text} {said.location.get('url', '')}")
            if said.type in ("error", "warning")
            else None
        ),
    )
    page.on("pageerror", lambda error: seen.complaints.append(str(error)))
    page.on("dialog", lambda dialog: refuse(dialog, seen))
    yield seen
    session.close()


def refuse(dialog: Dialog, seen: Visit) -> None:
    """Close what asks or warns in a window of its own, and complain of it."""
    seen.complaints.append(f"dialog: {dialog.message}")
    dialog.dismiss()


def wait_until(page: Page, holds: str) -> None:
    """Wait until an expression holds.

    Playwright's own `wait_for_function` evaluates text inside the page, which a strict policy
    forbids.
    """
    end = time.monotonic() + 10
    while not page.evaluate(holds):
        assert time.monotonic() < end, f"never came true: {holds}"
        page.wait_for_timeout(20)
