"""Our own modules as child processes."""

import os
import sys
from pathlib import Path
from typing import Any

import seedcli

OURS = str(Path(seedcli.__file__).parents[1])


def module_process(name: str, **environment: str) -> dict[str, Any]:
    """Arguments of Popen for a module as a program.

    It finds its imports where this process finds them: not in the working folder, where a user may have a random.py.
    And Ctrl-C comes to this process alone.
    """
    own = {"PYTHONPATH": os.pathsep.join([*filter(None, sys.path), OURS]), "PYTHONSAFEPATH": "1"}
    return {
        "args": [sys.executable, "-m", name],
        "env": os.environ | own | environment,
        "start_new_session": True,
    }
