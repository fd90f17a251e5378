"""The page of an audit in a real browser: it says nothing to the console, can be read and can be printed."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest

from fmsteal.audit.document import make_document
from fmsteal.audit.page import write_page
from fmsteal.records.folders import SweepFolder
from tests.browser.contrast import CONTRAST
from tests.support.audits import audited
from tests.support.sweeps import NASTY


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sweep = tmp_path_factory.mktemp("outputs") / "sweeps" / "50 % & <more>"
    plan, thefts = audited(sweep, seeds=2)
    return write_page(make_document(plan, thefts, "fmsteal audit"), thefts, SweepFolder(sweep).audit)


@pytest.fixture
def opened(browser: Any, file: Path) -> Any:
    for command in ("Emulation.clearDeviceMetricsOverride", "Emulation.setEmulatedMedia"):
        browser.execute_cdp_cmd(command, {})
    browser.get("about:blank")
    for kind in ("browser", "performance"):
        browser.get_log(kind)
    browser.get(file.as_uri())
    return browser


def test_it_asks_nobody_and_shows_names_as_text(opened: Any, file: Path) -> None:
    assert opened.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in opened.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert [url for url in asked if not url.startswith("data:")] == [file.as_uri()]
    assert NASTY in opened.find_element("tag name", "h1").text
    assert opened.execute_script("return document.scripts.length") == 0


def test_its_text_stands_out_on_light_and_dark(opened: Any) -> None:
    for name in ("light", "dark"):
        media = {"features": [{"name": "prefers-color-scheme", "value": name}]}
        opened.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        texts = opened.execute_script(CONTRAST)
        poor = [text for text in texts if text[0] < 4.5]
        assert len(texts) > 80 and not poor, poor[:5]


def test_a_phone_does_not_scroll_it_sideways(opened: Any) -> None:
    size = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    assert opened.execute_script("return [innerWidth, document.documentElement.scrollWidth]") == [390, 390]


def test_it_prints_on_two_sheets_at_most(opened: Any) -> None:
    options = {"preferCSSPageSize": True, "printBackground": True, "paperWidth": 8.27, "paperHeight": 11.69}
    pdf = base64.b64decode(opened.execute_cdp_cmd("Page.printToPDF", options)["data"])
    assert pdf.startswith(b"%PDF") and 1 <= len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 2
