"""A headless Chromium, driven as a person would: it types, clicks, and reads what is on the page."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless",
    "--disable-gpu",
    "--disable-dev-shm-usage",  # which is small in containers
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--window-size=1200,1000",
)
OWN = {"chrome", "data", "about"}  # what a browser brings itself
SECONDS = 60


class Page:
    """One browser; each `open` begins afresh."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def open(self, url: str, *, width: int = 1200, height: int = 1000, scheme: str = "light") -> None:
        self.driver.get("about:blank")
        self._logs("browser"), self._logs("performance")
        self.resize(width=width, height=height)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        self.driver.get(url)

    def resize(self, *, width: int, height: int = 1000) -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def one(self, selector: str) -> WebElement:
        """The element, once it can be seen."""
        return WebDriverWait(self.driver, SECONDS).until(
            lambda driver: next((found for found in self.all(selector) if found.is_displayed()), None)
        )

    def all(self, selector: str) -> list[WebElement]:
        return list(self.driver.find_elements(By.CSS_SELECTOR, selector))

    def texts(self, selector: str) -> list[str]:
        return [element.text for element in self.all(selector)]

    def type(self, selector: str, words: str) -> None:
        field = self.one(selector)
        field.clear()
        field.send_keys(words)

    def enter(self, selector: str, words: str) -> None:
        """Type, press Enter, and wait for the answer."""
        self.type(selector, f"{words}\n")
        self.wait("document.querySelector('main').ariaBusy === 'false'")

    def search(self, query: str) -> None:
        """Ask the page, and wait for the answer."""
        self.enter("#query", query)

    def answered(self, query: str) -> None:
        """Wait until the page has the answer to this query."""
        self.wait(
            "document.querySelector('main').ariaBusy === 'false' && document.title.startsWith(arguments[0])",
            f"{query} · ",
        )

    def wait(self, condition: str, *arguments: Any) -> None:
        """Wait until an expression is true on the page."""
        WebDriverWait(self.driver, SECONDS).until(lambda _: self.run(f"return {condition}", *arguments))

    def shown(self, selector: str) -> bool:
        return any(element.is_displayed() for element in self.all(selector))

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def console(self) -> list[str]:
        """What the page's console has complained about."""
        return [str(row["message"]) for row in self._logs("browser")]

    def hosts_asked(self) -> set[str]:
        """The host and port of everything that was requested since the page was opened."""
        rows = (json.loads(row["message"])["message"] for row in self._logs("performance"))
        urls = (
            row["params"]["request"]["url"] for row in rows if row["method"] == "Network.requestWillBeSent"
        )
        return {urlsplit(url).netloc for url in urls if urlsplit(url).scheme not in OWN}

    def _logs(self, kind: str) -> list[dict[str, Any]]:
        return list(self.driver.get_log(kind))


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A browser with a new profile, which asks nobody but the page's server."""
    browser = next(filter(None, map(shutil.which, NAMES)), None)
    chromedriver = shutil.which("chromedriver")
    if browser is None or chromedriver is None:
        pytest.skip("needs Chromium and chromedriver (Debian, Ubuntu: apt install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    profile = f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []  # root has none
    for flag in (*FLAGS, *sandbox, profile):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(chromedriver))
    yield Page(driver)
    driver.quit()
