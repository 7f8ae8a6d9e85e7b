"""The page in a browser: what its script draws, and that nothing in it runs or is fetched but that script."""

import shutil
import subprocess
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

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
    from seedcli.evaluation.page.page import page

    drawn = dom(page(made.summary, held, []))
    assert "The lowest first (60)" in drawn
    assert "0.200" in drawn
    assert drawn.count('class="line"') == 1


def test_values_alone_are_enough(pages, dom):
    from seedcli.evaluation.page.contents import contents
    from seedcli.evaluation.page.page import page

    made = pages()
    drawn = dom(page(made.summary, contents(made.values, None, None, 10), []))
    assert "better on 45 queries" in drawn
    assert drawn.count('class="query"') == 20
    assert 'class="line"' not in drawn
