"""The page in a browser: what its script draws, and that nothing in it runs or is fetched but that script."""

import json
import re
import shutil
import subprocess
import threading
from collections.abc import Callable
from html import escape, unescape
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seedcli.evaluation.metrics import Values
from seedcli.evaluation.page.contents import contents
from seedcli.evaluation.page.page import packaged, page, source

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: the page isn't looked at"),
    pytest.mark.slow,
]
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--enable-logging=stderr",
    "--virtual-time-budget=2000",
]

Dom = Callable[..., str]
TEN = ["mrr@10", "recall@10", "recall@100", "recall@1000", "ndcg@10", "map", "precision@10", "hit_rate@20"]
TEN += ["r-precision", "recall@100-l2"]
DARK = "--blink-settings=preferredColorScheme=0"
PRINTED = 718  # pixels: A4 without its margins


@pytest.fixture
def dom(tmp_path: Path) -> Dom:
    """What a page has become once its script has run; `state` is the end of its address."""

    def opened(html: str, state: str = "", *flags: str) -> str:
        path = tmp_path / "report.html"
        path.write_text(html, encoding="utf-8")
        own = [f"--user-data-dir={tmp_path / 'profile'}", *flags, "--dump-dom", f"{path.as_uri()}{state}"]
        done = subprocess.run([str(CHROMIUM), *FLAGS, *own], capture_output=True, text=True, timeout=60, check=True)
        assert "Uncaught" not in done.stderr
        return done.stdout

    return opened


@pytest.fixture
def seen(dom) -> Callable[..., Any]:
    """What an expression is of the page's `document` in a frame of some width: a window itself has 500 at least."""

    def asked(html: str, width: int, expression: str, *flags: str) -> Any:
        ready = f"document.title = JSON.stringify((document => {expression})(this.contentDocument))"
        frame = (
            f'<iframe width="{width}" height="800" style="border: 0" srcdoc="{escape(html)}" onload="{escape(ready)}">'
        )
        found = re.search("<title>(.*?)</title>", dom(f"<!DOCTYPE html>{frame}</iframe>", "", *flags))
        assert found
        return json.loads(unescape(found[1]))

    return asked


def on_paper(html: str) -> str:
    """The page with its rules for print in force."""
    style = packaged("page.css")
    printed = style.replace("@media print", "@media all")
    return html.replace(source(style), source(printed)).replace(style, printed)


def test_the_script_draws_charts_and_lists(pages, dom):
    drawn = dom(pages().html)
    assert 'id="charts"' in drawn
    assert 'id="charts" hidden' not in drawn
    assert "better on 45 queries, the same on 0, worse on 15." in drawn
    assert drawn.count('class="query"') == 20  # ten of the gains, ten of the losses
    assert drawn.count('<details class="query" open="">') == 4
    assert drawn.count('class="dot"') == 2  # (1/2, 1) and (1/5, 0)
    assert drawn.count('class="line"') == 2  # by cut-off
    assert "Show 35 more of 35" in drawn
    assert "Neither has a relevant one there" in drawn
    assert "the best judged is at rank 5" in drawn
    assert "the best judged isn't found" in drawn
    assert "✓ relevant" in drawn


def test_a_filter_leaves_the_queries_that_hold_all_its_words(pages, dom):
    drawn = dom(pages().html, "#filter=HERON%201&measure=1")
    # 1, 11, 13, 15, 17, 19, 21, 31, 41, 51: in recall@3 both runs have those.
    assert "10 of 60 queries" in drawn
    assert drawn.count('class="query"') == 10
    assert "Where both are the same (10)" in drawn


def test_no_text_becomes_markup_and_nothing_is_fetched(pages, dom):
    asked: list[str] = []

    class Listener(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)

    with HTTPServer(("127.0.0.1", 0), Listener) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        drawn = dom(pages(address=f"http://127.0.0.1:{server.server_port}").html)
        server.shutdown()
    assert asked == []
    assert "<title>Retrieval report</title>" in drawn
    assert "<img" not in drawn
    assert drawn.count("<script") == 2
    assert "&lt;script&gt;document.title='taken over'" in drawn


def test_the_policy_stops_what_escaping_would_have_let_through(pages, dom):
    asked = pages().html.replace("</header>", "<script>document.title='taken over'</script></header>", 1)
    assert "<title>Retrieval report</title>" in dom(asked)


def test_one_run_alone_has_its_lowest_queries(pages, dom):
    made = pages()
    held = {**made.held, "systems": ["a"], "values": made.held["values"][:1], "hits": made.held["hits"][:1]}
    held |= {"ranks": made.held["ranks"][:1], "curves": {"cuts": [1, 2], "families": {"recall": [[0.1, 0.2]]}}}
    drawn = dom(page(made.summary, held, []))
    assert "The lowest first (60)" in drawn
    assert "0.200" in drawn
    assert drawn.count('class="line"') == 1


def test_values_alone_are_enough(pages, dom):
    made = pages()
    drawn = dom(page(made.summary, contents(made.values, None, None, 10), []))
    assert "better on 45 queries" in drawn
    assert drawn.count('class="query"') == 20
    assert 'class="line"' not in drawn


@pytest.mark.parametrize("width", [1100, 390])
def test_names_stay_readable_beside_ten_measures(pages, seen, width):
    rem, cell = 16, "document.querySelector('th[scope=row]').getBoundingClientRect().width"
    assert 6 * rem <= seen(pages(measures=TEN).html, width, cell) <= 21 * rem


def test_a_phone_scrolls_the_table_and_not_the_page(pages, seen):
    widths = "[document.documentElement.scrollWidth, document.querySelector('.wide').scrollWidth]"
    whole, table = seen(pages(measures=TEN).html, 390, widths)
    assert whole <= 390 < table


def test_paper_holds_ten_measures_and_more_than_it_has_room_for(pages, seen, tmp_path):
    ends = "[...document.querySelectorAll('.wide tr > :last-child')].map(cell => cell.getBoundingClientRect().right)"
    many = [*TEN, *(f"hit_rate@{cutoff}" for cutoff in range(1000, 1010))]
    for measures in (TEN, many):
        html = pages(measures=measures).html
        assert max(seen(on_paper(html), PRINTED, ends)) <= PRINTED
    (tmp_path / "report.html").write_text(html, encoding="utf-8")
    own = [f"--user-data-dir={tmp_path / 'profile'}", f"--print-to-pdf={tmp_path / 'report.pdf'}"]
    address = (tmp_path / "report.html").as_uri()
    subprocess.run([str(CHROMIUM), *FLAGS, *own, address], capture_output=True, timeout=60, check=True)
    printed = (tmp_path / "report.pdf").read_bytes()
    assert printed.startswith(b"%PDF")
    assert 2 <= len(re.findall(rb"/Type ?/Page\b", printed)) <= 20


def test_paper_has_nothing_to_click_and_no_closed_table(pages, seen):
    html = on_paper(pages().html)
    shown = "[...document.querySelectorAll('select, input, button, .lineage details, #cutoff details')]"
    assert seen(html, PRINTED, f"{shown}.filter(node => node.getClientRects().length).length") == 0


def test_the_page_is_dark_where_the_screen_is(pages, seen):
    ground = "getComputedStyle(document.body).backgroundColor"
    assert seen(pages().html, 800, ground) == "rgb(255, 255, 255)"
    assert seen(pages().html, 800, ground, DARK) == "rgb(21, 23, 26)"


def test_a_page_of_ten_thousand_queries_is_drawn(pages, dom):
    made = pages(queries=10_000)
    assert len(made.html.encode()) < 7_500_000  # though ids and texts are long here
    drawn = dom(made.html)
    assert "better on 7,500 queries, the same on 0, worse on 2,500." in drawn
    assert "Show 50 more of 7,490" in drawn
    assert len(drawn.encode()) < len(made.html.encode()) + 200_000  # rows are made as they are asked for


def test_one_run_has_the_whole_width_for_its_hits(pages, seen):
    made = pages()
    held = {**made.held, "systems": ["a"], "values": made.held["values"][:1], "hits": made.held["hits"][:1]}
    held |= {"ranks": made.held["ranks"][:1], "curves": {"cuts": [1, 2], "families": {"recall": [[0.1, 0.2]]}}}
    share = "document.querySelector('.hit').offsetWidth / document.querySelector('.pair').offsetWidth"
    assert seen(page(made.summary, held, []), 1000, share) > 0.9
    assert seen(made.html, 1000, share) < 0.5


@pytest.mark.parametrize(("most", "labels"), [
    (1, ["+1.0", "+0.5", "0", "−0.5", "−1.0"]),
    (0.75, ["+0.5", "0", "−0.5"]),
    (0.375, ["+0.2", "0", "−0.2"]),
    (0.004, ["+0.004", "+0.002", "0", "−0.002", "−0.004"]),
])  # fmt: skip
def test_the_axis_of_differences_has_round_numbers(pages, seen, most, labels):
    values = Values(["a", "b"], ["mrr"], ["q1", "q2"], np.array([[[0, most]], [[0, 0]]]), [0, 0])
    html = page(pages().summary, contents(values, "b", None, 0), [])
    texts = "[...document.querySelectorAll('#difference text')].map(text => text.textContent)"
    shown = seen(html, 800, texts)
    assert sorted(shown[: len(labels)]) == sorted(labels)
    assert shown[len(labels)] == "1"  # of the other axis
    counts = "document.getElementById('counts').textContent"
    assert seen(html, 800, counts) == "a against b in mrr: better on 1 query, the same on 1, worse on 0."


def test_what_relevant_means_is_said_where_a_measure_asks_for_more(pages, seen):
    hidden = "[...document.querySelectorAll('.level')].map(node => node.hidden)"
    assert seen(pages().html, 800, hidden) == [True, True]
    assert seen(pages(measures=["mrr-l2"]).html, 800, hidden) == [False, False]


def test_texts_turn_no_others_round(pages, seen):
    made = pages()
    turned = {number: ["\u202e" + title, "\u202e" + text] for number, (title, text) in made.held["passages"].items()}
    held = made.held | {"passages": turned, "texts": ["\u202e" + text for text in made.held["texts"]]}
    # A letter that another follows stands before it; in what is turned round, behind it.
    after = """[...document.querySelectorAll('.query small, .query .badge')].map(node => {
        const all = document.createTreeWalker(node, NodeFilter.SHOW_TEXT), range = document.createRange();
        const text = all.nextNode(), left = at => {
            range.setStart(text, at);
            range.setEnd(text, at + 1);
            return range.getBoundingClientRect().left;
        };
        return left(0) < left(1);
    })"""
    forward = seen(page(made.summary, held, []), 800, after)
    assert len(forward) > 20
    assert all(forward)
