"""A real Chromium without a window, and the page of a sweep in which much went wrong."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from fmsteal.report.read.study import Study
from fmsteal.report.show.layout import Layout
from fmsteal.report.show.page import write
from fmsteal.report.show.plots import draw_figures
from tests.browser.written import Written
from tests.support.sweeps import troubled

PROGRAMS = (("chromium", "chromium-browser", "google-chrome"), ("chromedriver",))
QUIET = (
    "--headless=new", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--window-size=1280,900",
)  # fmt: skip


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    chromium, chromedriver = (next(filter(None, map(shutil.which, names)), None) for names in PROGRAMS)
    if chromium is None or chromedriver is None:
        pytest.skip("Chromium is not installed: apt-get install chromium chromium-driver")
    webdriver = pytest.importorskip("selenium.webdriver", reason="pip install -e '.[browser]'")
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    root = ["--no-sandbox"] if os.geteuid() == 0 else []
    for word in (*QUIET, *root, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(chromedriver))
    driver.set_page_load_timeout(60)
    yield driver
    driver.quit()


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    root = tmp_path_factory.mktemp("outputs")
    study = Study.of([troubled(root / "sweeps" / "50 % & <more> #1")])
    layout = Layout.of(study)
    return Written(study, write(study, layout, draw_figures(study, layout), root / "reports" / "of ü"))


@pytest.fixture
def page(browser: Any, written: Written) -> Any:
    """The page, freshly opened on a desktop's screen with a light theme."""
    for command in ("Emulation.clearDeviceMetricsOverride", "Emulation.setEmulatedMedia"):
        browser.execute_cdp_cmd(command, {})
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    browser.get("about:blank")
    for kind in ("browser", "performance"):
        browser.get_log(kind)  # what others left
    browser.get(written.file.as_uri())
    return browser
