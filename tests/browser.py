# SPDX-License-Identifier: Apache-2.0
"""A browser that looks at the explorer as a person would."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn

from monai_stochseg.explore.command import _listen
from monai_stochseg.explore.prediction_folder import PredictionFolder
from monai_stochseg.explore.server import make_app
from monai_stochseg.explore.session import Session

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
OPTIONS = (
    "--no-sandbox",
    "--use-angle=swiftshader",  # WebGL without a GPU
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@contextmanager
def served(folder: PredictionFolder, **options: Any) -> Iterator[str]:
    """The address of a server of a folder, in a thread."""
    with _listen("127.0.0.1", 0) as listening:
        host = f"127.0.0.1:{listening.getsockname()[1]}"
        server = uvicorn.Server(uvicorn.Config(make_app(Session(folder, **options), [host]), log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        try:
            yield f"http://{host}/"
        finally:
            server.should_exit = True
            thread.join(timeout=10)


@contextmanager
def chromium() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("the explorer's page is not tested: there is no Chromium (Debian: apt-get install chromium)")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        yield browser
        browser.close()


class Page:
    """A page of the explorer, and what a person does with it; an error in its console is an error of the test."""

    def __init__(self, browser: Any, address: str, width: int = 1280, height: int = 800, **options: Any) -> None:
        self.context = browser.new_context(
            viewport={"width": width, "height": height}, accept_downloads=True, **options
        )
        self.page = self.context.new_page()
        self.errors: list[str] = []
        self.page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", self._check_address)
        self.address = address.split("#")[0]
        self.page.goto(address)
        self.settle(0)

    def _check_address(self, request: Any) -> None:
        if not request.url.startswith((self.address, "blob:", "data:")):
            self.errors.append(f"asked for {request.url}")

    @property
    def body(self) -> dict[str, str]:
        """What the page says of its state."""
        found: dict[str, str] = json.loads(self.page.evaluate("JSON.stringify({...document.body.dataset})"))
        return found

    @property
    def turn(self) -> int:
        """Grows each time that a selection has been drawn, or has failed."""
        return int(self.body["ready"]) + int(self.body["failed"])

    def settle(self, before: int, seconds: float = 60) -> None:
        """Wait until something has been drawn after ``before``, and nothing more is under way."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.turn > before and self.page.get_attribute("#viewer", "aria-busy") != "true":
                return
            time.sleep(0.02)
        raise TimeoutError(f"the page has drawn nothing in {seconds} s: {self.body}, {self.errors}")

    def act(self, action: Any) -> None:
        """Do something that draws, and wait for it."""
        before = self.turn
        action()
        self.settle(before)

    def press(self, key: str) -> None:
        self.act(lambda: self.page.keyboard.press(key))

    def click(self, selector: str) -> None:
        self.act(lambda: self.page.click(selector))

    def select(self, selector: str, value: str) -> None:
        self.act(lambda: self.page.select_option(selector, value))

    def slide(self, selector: str, value: float) -> None:
        """Move a slider."""
        script = "(e, v) => { e.value = v; e.dispatchEvent(new Event('input', {bubbles: true})); }"
        self.act(lambda: self.page.eval_on_selector(selector, script, value))

    def text(self, selector: str) -> str:
        return str(self.page.inner_text(selector))

    def close(self) -> None:
        self.context.close()
        assert not self.errors, self.errors
