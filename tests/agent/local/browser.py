# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Chromium with the screen of a phone."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.chrome.webdriver import WebDriver

PHONE = {"width": 390, "height": 844, "pixelRatio": 2.0}
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PATIENCE_S = 60


@contextmanager
def chromium(languages: str = "en-GB,en") -> Iterator[WebDriver]:
    """Start a browser with a profile of its own.

    Args:
        languages: that it prefers, as in Accept-Language.
    """
    driver = shutil.which("chromedriver")
    assert driver is not None, "apt install chromium chromium-driver"
    with tempfile.TemporaryDirectory(prefix="cg-browser-", ignore_cleanup_errors=True) as profile:
        options = Options()
        options.binary_location = str(Path("/usr/bin/chromium"))
        for flag in (*FLAGS, f"--user-data-dir={profile}", f"--accept-lang={languages}"):
            options.add_argument(flag)
        options.add_experimental_option("mobileEmulation", {"deviceMetrics": PHONE})
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        browser = webdriver.Chrome(options=options, service=Service(driver))
        try:
            browser.set_page_load_timeout(PATIENCE_S)
            browser.set_script_timeout(PATIENCE_S)
            yield browser
        finally:
            browser.quit()


def media(browser: WebDriver, **features: str) -> None:
    """Set what the page is told of the user's wishes, such as `prefers_color_scheme="dark"`."""
    told = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": told})


def logged(browser: WebDriver, kind: str) -> list[dict[str, Any]]:
    """Return what the browser has logged since it was last asked: "browser" or "performance"."""
    entries: list[dict[str, Any]] = browser.execute("getLog", {"type": kind})["value"]
    return entries
