"""What processes make once a machine, for all of them."""

import os
import socket
import subprocess
import sys

import pytest

from seedcli.base.runtime import Runtime

PROCESS = """
import sys, time
from pathlib import Path
from seedcli.base.errors import DataError
from seedcli.base.runtime import runtime

def make():
    made = Path(sys.argv[1])
    if sys.argv[2] == "fails":
        raise DataError("no room")
    if not made.exists():
        time.sleep(0.3)
        with made.open("a") as file:
            file.write("made")
    return made.read_text()

with runtime("cpu", "fp32") as here:
    try:
        found = here.cached(make) if sys.argv[3] == "cached" else here.share(make)
    except DataError as error:
        found = f"refused: {error}"
    print(f"{here.rank}: {found}", flush=True)
"""


def test_a_process_alone_makes_what_it_asks_for_once():
    calls = []
    assert Runtime().cached(lambda: calls.append("made")) is None
    assert Runtime().share(lambda: len(calls)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("how", ["cached", "share"])
@pytest.mark.parametrize(("what", "told"), [("works", "made"), ("fails", "refused: no room")])
def test_the_first_process_makes_and_its_mistake_ends_all(tmp_path, how, what, told):
    """Two processes of a machine, each of which would make it; none is left waiting."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    children = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, str(tmp_path / "made"), what, how],
            env=common | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    answers = [child.communicate(timeout=120)[0] for child in children]
    assert answers == [f"0: {told}\n", f"1: {told}\n"]
