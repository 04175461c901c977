"""The pages in a real browser, headless Chromium: what a click does, what the network sees."""

import html
import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.results_studies import made_up_study
from support.results_tree import write_made_up_results

from owlore.compare.figures import write_figures
from owlore.compare.results import load
from owlore.report.page import write_report

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")

OPTIONS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--no-proxy-server"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-quic", "--enable-logging=stderr", "--virtual-time-budget=10000"),
]
# Runs after the page's own script; what it leaves in `seen` comes back.
PROBE = """<script>
const seen = {};
try { %s } catch (error) { console.error(String(error)); }
document.body.innerHTML = "<pre id='seen'></pre>";
document.getElementById("seen").textContent = JSON.stringify(seen);
</script></body>"""
CLICKS = """
const column = (head) =>
  [...head.closest("table").tBodies[0].rows].map((row) => row.cells[head.cellIndex].dataset.number);
const head = [...document.querySelectorAll("th.number")].find(
  (head) => new Set(column(head)).size > 2 && !column(head).includes(undefined));
const button = head.querySelector("button");
seen.before = column(head);
button.click(); seen.down = column(head); seen.sort = head.getAttribute("aria-sort");
button.click(); seen.up = column(head); seen.sortedAgain = head.getAttribute("aria-sort");
const number = document.querySelector("button.origin"), dialog = document.getElementById("origin");
number.focus(); seen.focused = document.activeElement === number;
number.click(); seen.open = dialog.open; seen.origin = dialog.textContent;
dialog.close(); seen.closed = !dialog.open;
seen.wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
"""


@dataclass
class Visit:
    """What the probe saw, what the console said, and the addresses that the page asked for."""

    seen: dict[str, Any]
    console: list[str]
    requested: set[str]


def visit(page: Path, probe: str, folder: Path, width: int = 1440) -> Visit:
    """Open a copy of `page` with the probe in it."""
    copy, net = folder / f"probed-{page.name}", folder / "net.json"
    text = page.read_text()
    assert text.count("</body>") == 1
    copy.write_text(text.replace("</body>", PROBE % probe))
    assert CHROMIUM is not None
    own = [f"--user-data-dir={folder / 'profile'}", f"--log-net-log={net}"]
    own += [f"--window-size={width},900", "--dump-dom", copy.as_uri()]
    done = subprocess.run([CHROMIUM, *OPTIONS, *own], capture_output=True, text=True, timeout=120)
    found = re.search(r'<pre id="seen">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stderr
    console = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    given = [event.get("params", {}) for event in json.loads(net.read_text())["events"]]
    # Chromium's own services ask too, and those requests say that no page began them.
    urls = {one["url"] for one in given if one.get("initiator", "not an origin") != "not an origin"}
    return Visit(json.loads(html.unescape(found[1])), console, urls)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, study = tmp_path_factory.mktemp("report"), made_up_study()
    write_made_up_results(study, root)
    write_figures(load(study, root))
    write_report(study, root)
    return root / "report" / "index.html"


@pytest.fixture(scope="module")
def clicked(page: Path, tmp_path_factory: pytest.TempPathFactory) -> Visit:
    return visit(page, CLICKS, tmp_path_factory.mktemp("clicked"))


def test_a_click_sorts_and_another_turns_the_order_around(clicked: Visit) -> None:
    seen = clicked.seen
    numbers = [float(value) for value in seen["before"]]
    assert [float(value) for value in seen["down"]] == sorted(numbers, reverse=True)
    assert [float(value) for value in seen["up"]] == sorted(numbers)
    assert (seen["sort"], seen["sortedAgain"]) == ("descending", "ascending")


def test_a_number_opens_its_origin_and_takes_the_focus(clicked: Visit) -> None:
    seen = clicked.seen
    assert seen["focused"] and seen["open"] and seen["closed"]
    assert "owlore explain" in seen["origin"]
    assert "commonsense, base, " in seen["origin"] and "weights" in seen["origin"]


def test_nothing_is_wider_than_the_window(page: Path, clicked: Visit, tmp_path: Path) -> None:
    """At 1440 pixels and at 500: a headless window is no narrower."""
    assert clicked.seen["wide"] <= 0
    assert visit(page, CLICKS, tmp_path, 500).seen["wide"] <= 0


LOUD = "fetch('http://127.0.0.1:9/x').catch(() => 0); nonsense();"


def test_the_console_is_quiet_and_nothing_is_requested(clicked: Visit) -> None:
    assert clicked.console == []
    assert clicked.requested == set()


def test_the_page_forbids_requests(page: Path, tmp_path: Path) -> None:
    """Another page's request and error are seen, so the test above can fail."""
    held = visit(page, LOUD, tmp_path)
    assert "violates" in held.console[0] and held.requested == set()
    (tmp_path / "free.html").write_text("<body></body>")
    free = visit(tmp_path / "free.html", LOUD, tmp_path)
    assert any("nonsense" in line for line in free.console)
    assert free.requested == {"http://127.0.0.1:9/x"}
