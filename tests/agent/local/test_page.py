# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The page in a real browser with the screen of a phone, the real agent behind it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver.chrome.webdriver import WebDriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select

from agent.demo.stage import free_port
from agent.local.client import connected
from drivers.sx1302.packet import CrcStatus
from tests.agent.local.browser import PHONE, chromium, logged, media
from tests.agent.local.gateway import FOREIGN, OWN, Gateway, until

OTHER = 0x26011F4A
MINUS = "\N{MINUS SIGN}"
TOKEN = "0123456789abcdef0123"
PAGE = Path(__file__).parents[3] / "agent" / "local" / "page"

pytestmark = [pytest.mark.timeout(600), pytest.mark.xdist_group("browser")]


class Site:
    """A gateway whose page is open in a browser."""

    def __init__(self, gateway: Gateway, browser: WebDriver, address: str) -> None:
        self.gateway = gateway
        self.browser = browser
        self.address = address

    def text(self, name: str) -> str:
        return str(self.browser.execute_script("return document.getElementById(arguments[0]).innerText", name))

    def shows(self, name: str, text: str) -> None:
        until(lambda: text in self.text(name), f"{text!r} in {name}")

    def click(self, css: str) -> None:
        self.browser.find_element(By.CSS_SELECTOR, css).click()

    def script(self, text: str) -> Any:
        return self.browser.execute_script(text)

    def open(self) -> None:
        self.browser.get("about:blank")
        self.browser.get(self.address)
        self.script("sessionStorage.clear()")
        self.browser.refresh()


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with tempfile.TemporaryDirectory(prefix="cg-") as folder:
        port = free_port()
        token = Path(folder) / "token"
        token.write_text(TOKEN + "\n")
        web = f'[web]\nlisten = "127.0.0.1:{port}"\ntoken_file = "{token}"'
        with Gateway(Path(folder), web) as gateway, chromium() as browser:
            site = Site(gateway, browser, f"http://127.0.0.1:{port}/")
            site.open()
            until(lambda: browser.find_element(By.ID, "login").is_displayed(), "the question for the token")
            browser.find_element(By.ID, "token").send_keys("not the right one")
            site.click("button.main")
            site.shows("banner", "not the token")
            browser.find_element(By.ID, "token").send_keys(TOKEN)
            site.click("button.main")
            site.shows("name", "town hall")
            yield site


def test_a_walk_shows_the_level_of_ones_own_sensor_and_nobody_elses_name(site: Site) -> None:
    site.gateway.hear(OWN, 7, sf=9, rssi_dbm=-101.0, snr_db=2.0)
    site.shows("rssi", f"{MINUS}101")
    assert site.text("rate") == "SF9"
    site.shows("since", f"{OWN:08x}")
    site.gateway.hear(FOREIGN, 1, channel=1, rssi_dbm=-70.0)
    site.gateway.hear(OWN, 8, crc=CrcStatus.BAD)
    until(lambda: site.script("return document.querySelectorAll('#air circle').length") >= 3, "dots of all three")
    assert site.text("rssi") == f"{MINUS}101"  # neither of the two is taken for ours
    everything = str(site.script("return document.documentElement.outerHTML + JSON.stringify(receptions)"))
    assert f"{OWN:08x}" in everything
    assert f"{FOREIGN:08x}" not in everything
    foreign = [seen for seen in site.script("return receptions") if seen["fate"] != "kept"]
    assert foreign
    assert not any({"device", "size_bytes", "f_cnt", "kind"} & seen.keys() for seen in foreign)


def test_one_sensor_is_followed_and_what_it_lost_is_told(site: Site) -> None:
    for f_cnt, rssi_dbm in ((100, -80.0), (101, -90.0), (104, -118.0)):
        site.gateway.hear(OTHER, f_cnt, rssi_dbm=rssi_dbm, snr_db=-7.0)
    until(lambda: f"{OTHER:08x}" in site.text("device"), "the sensor in the list")
    Select(site.browser.find_element(By.ID, "device")).select_by_value(f"{OTHER:08x}")
    site.shows("rssi", f"{MINUS}118")
    site.shows("got", "3 of 5")
    site.shows("range", "2 missed")
    assert site.text("grade-text") == "at the limit"
    assert site.script("return document.querySelectorAll('#strip rect').length") == 3
    site.gateway.hear(OWN, 9)
    until(lambda: site.script("return receptions.at(-1).device") == f"{OWN:08x}", "a frame of another sensor")
    assert site.text("rssi") == f"{MINUS}118"
    Select(site.browser.find_element(By.ID, "device")).select_by_value("")


def test_the_status_says_what_is_wrong_in_both_languages(site: Site) -> None:
    site.click("#tab-status")
    site.shows("remarks", "estination city cannot be reached; frames are kept")
    site.shows("cards", "not reachable")
    site.shows("heat", "868.1")
    site.shows("verdict", "wrong")
    site.click("[data-lang=de]")
    site.shows("remarks", "Ziel city ist nicht erreichbar")
    site.shows("cards", "nicht erreichbar")
    site.shows("heat", "868,1")
    assert site.script("return document.documentElement.lang") == "de"
    site.click("[data-lang=en]")
    site.click("#tab-walk")


def test_the_doctors_last_sheet_is_there_whatever_it_has(site: Site) -> None:
    sheet = site.gateway.run / "doctor.json"
    site.click("#tab-check")
    site.shows("sheet", "sudo civigate doctor")
    said = {
        "version": 1,
        "verdict": "fail",
        "findings": [{"check": "antenna", "verdict": "fail", "next": "<b>tighten</b> it"}],
    }
    sheet.write_text(json.dumps(said))
    site.click("#tab-check")
    site.shows("findings", "<b>tighten</b> it")
    for odd in ("[]", "{", '{"findings": 3, "verdict": {}}', '{"findings": [null, 4, {"verdict": []}]}'):
        sheet.write_text(odd)
        site.click("#tab-check")
        until(lambda: "tighten" not in site.text("findings"), f"the sheet {odd}")
    site.click("#tab-walk")


def test_it_fits_a_phone_and_can_be_used_without_a_mouse(site: Site) -> None:
    width = "return document.documentElement.scrollWidth"
    for view in ("walk", "status", "check"):
        site.click(f"#tab-{view}")
        assert site.script(width) <= PHONE["width"]
    small = site.script(
        "return [...document.querySelectorAll('button, select')].filter(n => n.offsetParent)"
        ".filter(n => n.offsetHeight < 44).map(n => n.id || n.textContent)"
    )
    assert small == []
    nameless = site.script(
        "return [...document.querySelectorAll('button, select, input, [role=tabpanel], [role=img]')].filter(n => !("
        "n.ariaLabel || n.textContent.trim() || n.labels?.length || n.getAttribute('aria-labelledby')))"
        ".map(n => n.outerHTML)"
    )
    assert nameless == []
    site.script("document.getElementById('tab-walk').focus()")
    site.browser.switch_to.active_element.send_keys("\ue014")
    assert site.script("return document.activeElement.id") == "tab-status"
    assert site.script("return document.getElementById('status').hidden") is False
    site.click("#tab-walk")


CONTRAST = """
const light = (c) => { const v = c.map(x => x / 255).map(x => x <= .03928 ? x / 12.92 : ((x + .055) / 1.055) ** 2.4);
  return .2126 * v[0] + .7152 * v[1] + .0722 * v[2]; };
const rgb = (t) => t.match(/[0-9.]+/g).map(Number);
const ground = (n) => { for (; n; n = n.parentElement) { const c = rgb(getComputedStyle(n).backgroundColor);
  if (c.length < 4 || c[3] > 0) return c.slice(0, 3); } return [255, 255, 255]; };
return [...document.querySelectorAll('body *')].filter(n => n.offsetParent && n.offsetWidth > 1 && !n.closest('.none')
  && [...n.childNodes].some(t => t.nodeType === 3 && t.textContent.trim())).map(n => {
  const [a, b] = [light(rgb(getComputedStyle(n).color).slice(0, 3)), light(ground(n))].sort((x, y) => y - x);
  return [(a + .05) / (b + .05), n.textContent.trim().slice(0, 30)]; }).filter(x => x[0] < arguments[0]);
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everything_can_be_read(site: Site, scheme: str) -> None:
    media(site.browser, prefers_color_scheme=scheme)
    site.gateway.hear(OWN, 12)
    for view in ("walk", "status", "check"):
        site.click(f"#tab-{view}")
        assert site.browser.execute_script(CONTRAST, 4.5) == []  # [WCAG 2.2, 1.4.3]
    site.click("#sun")
    site.click("#tab-walk")
    assert site.browser.execute_script(CONTRAST, 6.5) == []
    site.click("#sun")
    media(site.browser)


def test_who_wants_no_movement_gets_none(site: Site) -> None:
    media(site.browser, prefers_reduced_motion="reduce")
    site.script("document.getElementById('big').classList.add('new')")
    assert site.script("return getComputedStyle(document.getElementById('big')).animationName") == "none"
    media(site.browser)


def test_a_gateway_that_goes_is_told_and_found_again(site: Site) -> None:
    site.gateway.stop()
    site.shows("banner", "No connection")
    site.gateway.start()
    until(lambda: site.script("return document.getElementById('banner').hidden"), "the connection again")
    site.gateway.hear(OWN, 33, rssi_dbm=-66.0)
    site.shows("rssi", f"{MINUS}66")


def test_nothing_comes_from_elsewhere_and_nothing_is_complained_of(site: Site) -> None:
    asked = [
        json.loads(entry["message"])["message"]["params"]["request"]["url"]
        for entry in logged(site.browser, "performance")
        if '"Network.requestWillBeSent"' in entry["message"]
    ]
    assert asked
    assert {url for url in asked if not url.startswith((site.address, "about:", "chrome:", "data:"))} == set()
    assert site.browser.get_cookies() == []
    complaints = [entry["message"] for entry in logged(site.browser, "browser") if entry["level"] == "SEVERE"]
    assert [text for text in complaints if "401" not in text and "ERR_" not in text] == []


def test_the_token_is_in_no_log_and_in_no_address(site: Site) -> None:
    assert TOKEN not in site.gateway.log.read_text()
    assert TOKEN not in str(site.script("return location.href"))
    with connected(site.gateway.run) as agent:
        assert TOKEN not in json.dumps(agent.ask({"get": "status"}))


def test_a_browser_that_prefers_german_gets_it(site: Site) -> None:
    with chromium("de-DE,de") as browser:
        browser.get(site.address)
        until(lambda: "Zugangswort" in browser.page_source, "the German page")


def test_the_page_is_small() -> None:
    assert sum(path.stat().st_size for path in PAGE.iterdir()) < 50_000
