from __future__ import annotations

import json
import re
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from fmsteal.base.store import read_json
from fmsteal.records.results import DONE
from fmsteal.report.read.study import Cell, Study
from fmsteal.report.show.layout import Layout
from fmsteal.report.show.page import write
from fmsteal.report.show.plots import draw_figures
from tests.browser.contrast import CONTRAST
from tests.browser.written import Written
from tests.support.sweeps import LAST_LINE, NASTY, finished

SHOWN = "return [...document.querySelectorAll('#table tbody')].filter(b => b.offsetHeight).map(b => b.id)"


def cdp(page: Any, command: str, **arguments: Any) -> Any:
    return page.execute_cdp_cmd(command, arguments)


def scheme(page: Any, name: str) -> None:
    cdp(page, "Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])


def shown(page: Any) -> list[str]:
    """Ids of the cells that are visible, from top to bottom."""
    return page.execute_script(SHOWN)


def ids(written: Written, cells: list[Cell]) -> list[str]:
    """What the page calls them: by their place in the study."""
    return [f"c{written.study.cells.index(cell) + 1}" for cell in cells]


def heading(page: Any, key: str) -> Any:
    return page.find_element("css selector", f'#table th[data-key="{key}"]')


def choose(page: Any, name: str, value: str) -> None:
    script = """const field = document.querySelector(`#controls [name="${arguments[0]}"]`);
    field.value = arguments[1]; field.dispatchEvent(new Event("input", {bubbles: true}))"""
    page.execute_script(script, name, value)


def test_it_says_nothing_to_the_console_and_asks_nobody_for_anything(page: Any, written: Written) -> None:
    heading(page, "test/agreement").find_element("tag name", "button").click()
    choose(page, "q", "knockoff")
    page.find_element("id", "theme").click()
    page.find_element("id", "unfold").click()
    assert page.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert [url.split("#")[0] for url in asked if not url.startswith("data:")] == [written.file.as_uri()]


def test_a_policy_lets_no_other_script_run(page: Any) -> None:
    page.execute_script("const s = document.createElement('script'); s.textContent = 'x = 1'; document.body.append(s)")
    assert page.execute_script("return typeof x") == "undefined"
    assert any("Content Security Policy" in entry["message"] for entry in page.get_log("browser"))


def test_names_and_errors_are_text(page: Any) -> None:
    text = page.find_element("tag name", "body").text
    assert NASTY in text and LAST_LINE in text and "50 % & <more> #1" in text
    assert page.execute_script("return document.scripts.length") == 1
    assert page.execute_script("return document.querySelectorAll('td b:not([class])').length") == 0
    labels = page.execute_script("return [...document.querySelectorAll('svg text')].map(t => t.textContent)")
    assert NASTY in labels and "queries" in labels


@pytest.mark.parametrize("metric", ["test/agreement", "test/accuracy", "cost/queries"])
def test_columns_sort_both_ways_and_what_has_no_figure_stays_last(page: Any, written: Written, metric: str) -> None:
    cells = list(written.study.cells)
    there, empty = [c for c in cells if c.figure(metric)], [c for c in cells if not c.figure(metric)]
    assert there and empty
    th = heading(page, metric)
    orders = [("descending", -1), ("ascending", 1)]  # first the best: of costs the least
    for direction, sign in reversed(orders) if metric.startswith("cost/") else orders:
        th.find_element("tag name", "button").send_keys("\n")  # as by keyboard
        want = sorted(there, key=lambda cell: sign * cell.figure(metric).mean)  # type: ignore[union-attr]
        assert shown(page) == ids(written, want) + ids(written, empty)
        assert th.get_attribute("aria-sort") == direction
    assert len(page.find_elements("css selector", "[aria-sort]")) == 1


def test_budgets_sort_by_their_queries_and_names_by_the_alphabet(page: Any, written: Written) -> None:
    heading(page, "axis.budget").find_element("tag name", "button").click()
    cells = list(written.study.cells)
    assert shown(page) == ids(written, sorted(cells, key=lambda cell: cell.queries or 0))
    heading(page, "axis.attack").find_element("tag name", "button").click()
    assert shown(page) == ids(written, sorted(cells, key=lambda cell: cell.values["attack"]))


def test_filters_leave_what_was_asked_for_and_the_address_keeps_it(page: Any, written: Written) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    cells, count = list(written.study.cells), page.find_element("id", "count")
    choose(page, "axis.attack", NASTY)
    want = [cell for cell in cells if cell.values["attack"] == NASTY]
    assert shown(page) == ids(written, want) and count.text == f"{len(want)} of {len(cells)} cells"
    choose(page, "axis.budget", "2500")
    want = [cell for cell in want if cell.values["budget"] == "2500"]
    assert 0 < len(want) < len(cells) and shown(page) == ids(written, want)
    heading(page, "test/agreement").find_element("tag name", "button").click()
    order = shown(page)
    page.get("about:blank")
    page.back()
    assert shown(page) == order and page.find_element("name", "axis.budget").get_property("value") == "2500"
    page.find_element("css selector", "#controls [type=reset]").click()
    WebDriverWait(page, 10).until(lambda _: shown(page) == ids(written, cells))  # the page answers once it is reset
    assert shown(page) == ids(written, cells) and not page.find_elements("css selector", "[aria-sort]")
    choose(page, "q", "Resnet10t 500")
    assert shown(page) == ids(written, [c for c in cells if c.values["victim"] == "resnet10t" and c.queries == 500])
    choose(page, "q", "no such word")
    assert shown(page) == [] and page.find_element("id", "count").text == f"0 of {len(cells)} cells"


@pytest.mark.parametrize("state", ["complete", "partial", "none", "failed", "killed", "missing", "unreadable"])
def test_cells_are_found_by_what_became_of_their_jobs(page: Any, written: Written, state: str) -> None:
    def fits(cell: Cell) -> bool:
        left = [job.on_disk.state for job in cell.jobs if job.on_disk.state != DONE]
        kinds = {"complete": not left, "partial": 0 < len(left) < len(cell.jobs), "none": not cell.done}
        return kinds.get(state, state in left)

    choose(page, "state", state)
    want = [cell for cell in written.study.cells if fits(cell)]
    assert want and shown(page) == ids(written, want)


def test_a_cell_unfolds_into_its_seeds(page: Any, written: Written) -> None:
    cell = page.find_element("id", "c1")
    button = cell.find_element("css selector", ".fold button")
    jobs = cell.find_elements("css selector", ".job")
    assert len(jobs) == len(written.study.cells[0].jobs) and not any(job.is_displayed() for job in jobs)
    assert button.get_attribute("aria-expanded") == "false" and "efficientnet_lite0" in button.accessible_name
    button.send_keys(" ")
    assert all(job.is_displayed() for job in jobs) and button.get_attribute("aria-expanded") == "true"
    cell.find_element("css selector", "tr.cell td[data-v]").click()
    assert not any(job.is_displayed() for job in jobs)
    page.find_element("css selector", ".matrix a").click()  # a mean leads to its cell, and unfolds it
    target = page.find_element("css selector", page.execute_script("return location.hash"))
    assert all(job.is_displayed() for job in target.find_elements("css selector", ".job"))


def test_every_link_leads_somewhere_and_figures_to_their_own_job(page: Any, written: Written) -> None:
    links = page.execute_script("return [...document.links].map(a => [a.href, a.getAttribute('href')])")
    assert len(links) > 100
    for whole, relative in links:
        url = urlsplit(whole)
        assert url.scheme == "file" and not relative.startswith(("/", "file:"))
        if relative.startswith("#"):
            assert page.execute_script("return document.getElementById(arguments[0]) !== null", relative[1:])
        else:
            assert Path(unquote(url.path)).exists(), relative
    rows = page.execute_script("""return [...document.querySelectorAll('.job')].map(r =>
        [...r.querySelectorAll('a')].map(a => [a.href, a.textContent]))""")
    figures = 0
    for (name, _), *numbers in filter(None, rows):
        folder = Path(unquote(urlsplit(name).path))
        for href, text in numbers:
            assert href == name
            values = read_json(folder / "result.json")
            known = {f"{v:.3f}" for v in values["metrics"].values()} | {f"{v:,.2f}" for v in values["cost"].values()}
            assert text in known | {f"{v:,.0f}" for v in values["cost"].values()}
            figures += 1
    assert figures > 5 * len(written.study.done)


def test_columns_can_be_chosen(page: Any) -> None:
    kl = page.find_element("css selector", 'th[data-key="test/kl"]')
    cell = page.find_elements("css selector", "#c1 tr.cell > *")[
        page.execute_script("return arguments[0].cellIndex", kl)
    ]
    assert not kl.is_displayed() and not cell.is_displayed()
    page.find_element("css selector", ".menu summary").click()
    page.find_element("css selector", '[data-name="test/kl"]').click()
    assert kl.is_displayed() and cell.is_displayed() and re.fullmatch(r"0\.\d{3} ?±0\.\d{3}.*", cell.text)


@pytest.mark.parametrize("unfolded", [False, True])
def test_a_phone_does_not_scroll_sideways(page: Any, unfolded: bool) -> None:
    cdp(page, "Emulation.setDeviceMetricsOverride", width=390, height=844, deviceScaleFactor=2, mobile=True)
    if unfolded:
        page.execute_script("document.getElementById('unfold').click()")
        page.execute_script("for (const d of document.querySelectorAll('details')) d.open = true")
    assert page.execute_script("return [innerWidth, document.documentElement.scrollWidth]") == [390, 390]
    main = heading(page, "test/agreement")
    assert main.is_displayed() and main.rect["x"] + main.rect["width"] <= 390
    assert not heading(page, "test/accuracy").is_displayed()


def test_text_stands_out_on_light_and_dark(page: Any) -> None:
    page.execute_script("document.getElementById('unfold').click()")
    page.execute_script("for (const d of document.querySelectorAll('details')) d.open = true")
    papers = []
    for name in ("light", "dark"):
        scheme(page, name)
        texts = page.execute_script(CONTRAST)
        assert len(texts) > 300 and {"TEXT", "TD", "SMALL"} <= {tag.upper() for _, _, tag, *_ in texts}
        poor = [text for text in texts if text[0] < 4.5]
        assert not poor, poor[:5]
        papers.append(page.execute_script("return getComputedStyle(document.body).backgroundColor"))
    assert papers[0] == "rgb(255, 255, 255)" and papers[1] != papers[0]


def test_light_and_dark_can_be_chosen(page: Any) -> None:
    button = page.find_element("id", "theme")
    paper = "return getComputedStyle(document.body).backgroundColor"
    light = page.execute_script(paper)
    assert button.text == "Dark"
    button.click()
    dark = page.execute_script(paper)
    assert dark != light and button.text == "Light"
    scheme(page, "dark")
    assert page.execute_script(paper) == dark
    button.click()
    assert page.execute_script(paper) == light


def test_on_paper_all_is_unfolded_and_light(page: Any, written: Written) -> None:
    page.find_element("id", "theme").click()
    features = [{"name": "prefers-color-scheme", "value": "dark"}]
    cdp(page, "Emulation.setEmulatedMedia", media="print", features=features)
    jobs = page.find_elements("css selector", ".job")
    assert len(jobs) == sum(len(cell.jobs) for cell in written.study.cells) and all(j.is_displayed() for j in jobs)
    for control in ("#controls", "#theme", ".fold button"):
        assert not page.find_element("css selector", control).is_displayed()
    assert page.execute_script("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    row = page.find_element("css selector", "#c1 .job")
    cell = page.find_element("css selector", "#c1 .cell")
    ends = "const r = arguments[0].lastElementChild.getBoundingClientRect(); return [r.left, r.right]"
    assert page.execute_script(ends, row) == page.execute_script(ends, cell)  # columns stay in line
    assert page.find_element("css selector", "#provenance td").is_displayed()


def test_without_scripts_all_is_there_and_nothing_looks_like_a_control(page: Any, written: Written) -> None:
    cdp(page, "Emulation.setScriptExecutionDisabled", value=True)
    page.get(written.file.as_uri())
    assert all(job.is_displayed() for job in page.find_elements("css selector", ".job"))
    assert heading(page, "test/kl").is_displayed()
    for control in ("#controls", "#theme", ".fold button"):
        assert not page.find_element("css selector", control).is_displayed()


BELOW = r"""
const colour = (text) => text.match(/[\d.]+/g).slice(0, 3).map(Number);
const light = (rgb) => {
  const [r, g, b] = rgb.map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const found = [];
for (const text of document.querySelectorAll("svg text")) {
  text.scrollIntoView({block: "center"});
  const box = text.getBoundingClientRect();
  const under = document.elementsFromPoint(box.x + box.width / 2, box.y + box.height / 2);
  const paper = under.find((e) => e.tagName === "path" && getComputedStyle(e).fill !== "none");
  if (!paper) continue;
  const [ink, back] = [text, paper].map((e) => getComputedStyle(e).fill);
  const [a, b] = [ink, back].map((c) => light(colour(c))).sort((x, y) => y - x);
  found.push([(a + 0.05) / (b + 0.05), text.textContent, ink, back]);
}
return found;
"""


def test_numbers_on_heat_maps_stand_out_on_light_and_dark(page: Any, tmp_path: Path) -> None:
    victims, thieves = [f"v{n}" for n in range(8)], [f"t{n}" for n in range(8)]
    for number, (victim, thief) in enumerate(product(victims, thieves)):  # every colour of the map
        finished(tmp_path / "mine", f"{victim}-{thief}", number / 63, victim=victim, thief=thief)
    study = Study.of([tmp_path / "mine"])
    layout = Layout.of(study)
    matrix = [plot for plot in draw_figures(study, layout) if plot.name == "matrix"]
    page.get(write(study, layout, matrix, tmp_path / "report").as_uri())
    for name in ("light", "dark"):
        scheme(page, name)
        found = page.execute_script(BELOW)
        assert len({text for _, text, *_ in found} & {f"{n / 63:.3f}" for n in range(64)}) == 64
        assert min(found)[0] >= 4.5, sorted(found)[:5]
