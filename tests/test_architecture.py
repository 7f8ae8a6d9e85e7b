"""The house as README draws it: which room may know which, and what no room may do."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import seedcli
from seedcli.base.verbs import typed
from seedcli.configs import VERBS

SOURCE = Path(seedcli.__file__).parent
MODULES = sorted(SOURCE.rglob("*.py"))
ROOMS = ["base", "data", "models", "training", "retrieval", "negatives", "evaluation", "stages", "console"]
ROOMS += ["answers", "prompt", "api", "cli"]
HEAVY = {"torch", "transformers", "tokenizers", "faiss", "ranx", "numba", "scipy", "pandas", "pyserini", "jnius"}
HEAVY |= {"matplotlib", "onnx", "onnxruntime", "tensorboard", "pymilvus", "milvus_lite", "grpc"}


def name(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


def room(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    """The dotted names that a module imports, anywhere in it: `from a import b` gives a and a.b."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name(path)}: a relative import"
            yield from (part for alias in node.names for part in (str(node.module), f"{node.module}.{alias.name}"))


def rooms_of(path: Path) -> set[str]:
    """The rooms of this house that a module imports from."""
    dotted = [found.split(".") for found in imports(path) if found.startswith("seedcli.")]
    return {parts[1] for parts in dotted} & {*ROOMS, "configs"}


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def test_every_module_is_in_a_known_room():
    assert {room(path) for path in MODULES} == {*ROOMS, "configs", "__init__", "__main__"}


@pytest.mark.parametrize("place", ROOMS)
def test_imports_run_one_way(place):
    allowed = {*ROOMS[: ROOMS.index(place) + 1], "configs"}
    found = {name(path): rooms_of(path) - allowed for path in MODULES if room(path) == place}
    assert {module: wrong for module, wrong in found.items() if wrong} == {}


def test_options_know_the_base_alone_and_stages_alone_open_them():
    for path in MODULES:
        if room(path) == "configs":
            assert rooms_of(path) <= {"base", "configs"}, name(path)
        elif room(path) not in {"stages", "console", "api", "cli"}:
            assert "configs" not in rooms_of(path), name(path)


def test_the_screen_is_known_to_few():
    users = {room(path) for path in MODULES if {found.split(".")[0] for found in imports(path)} & {"typer", "rich"}}
    assert users == {"cli", "console", "answers"}


def test_torch_distributed_is_touched_in_one_place():
    users = {
        name(path)
        for path in MODULES
        if any(found.startswith(("torch.distributed", "torch.nn.parallel")) for found in imports(path))
        or "torch.distributed" in path.read_text(encoding="utf-8")
    }
    assert users == {"base/runtime.py"}


def test_nothing_is_unpickled_and_no_model_brings_code():
    for path in MODULES:
        roots = {found.split(".")[0] for found in imports(path)}
        assert not roots & {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}, name(path)
        for function, call in calls(path):
            where = f"{name(path)}:{call.lineno}"
            keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
            assert function not in {"eval", "exec", "yaml.unsafe_load", "yaml.full_load"}, where
            assert keywords.get("trust_remote_code", "False") == "False", where
            assert keywords.get("weights_only", "True") == "True", where
            assert function != "torch.load" or "weights_only" in keywords, where
            if function.rsplit(".", 1)[-1] == "load" and function.split(".")[0] in {"np", "numpy"}:
                assert keywords.get("allow_pickle") == "False", where
            if function == "yaml.load":
                assert ast.unparse(call.args[1]) == "_Yaml", where  # a SafeLoader


def test_every_module_says_what_it_is():
    for path in MODULES:
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
        assert docstring, name(path)


HELP = """
import sys
import seedcli.cli
for arguments in sys.argv[1:]:
    try:
        seedcli.cli.app(arguments.split())
    except SystemExit as end:
        assert end.code == 0, arguments
heavy = {heavy}
print("loaded:", sorted(heavy & sys.modules.keys()))
"""


def test_help_and_options_load_nothing_heavy():
    commands = ["--help", "--version", "finetune --show", *(f"{typed(verb)[5:]} --help" for verb in [*VERBS, "run"])]
    script = [sys.executable, "-c", HELP.replace("{heavy}", repr(HEAVY)), *commands]
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "loaded: []"


OFFER = """
import sys
import seedcli
assert not [name for name in sys.modules if name.startswith("seedcli.")]
for name in seedcli.__all__:
    assert getattr(seedcli, name).__doc__, name
print("loaded:", sorted({heavy} & sys.modules.keys()))
"""


def test_what_the_package_offers_loads_nothing_heavy():
    script = [sys.executable, "-c", OFFER.replace("{heavy}", repr(HEAVY))]
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "loaded: []\n"
