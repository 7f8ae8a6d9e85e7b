"""benchmarks/scale.py: its arithmetic, and that docs/scale.md has what it prints."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def scale() -> ModuleType:
    spec = importlib.util.spec_from_file_location("scale_benchmark", ROOT / "benchmarks" / "scale.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tables_stand_in_the_docs(scale):
    told = (ROOT / "docs" / "scale.md").read_text()
    for rows in (scale.encoding(), scale.storage(), scale.searching()):
        assert "\n".join(scale.table(list(rows))) in told


def test_operations_are_two_a_weight_and_those_of_attention(scale):
    """A layer of width 2: four matrices of 2 x 2, two of 2 x 8; of 3 tokens, 3 keys and 3 values of 2 numbers."""
    assert scale.operations(scale.Model("m", 1, 2), 3) == 2 * (4 * 4 + 2 * 16 + 2 * 3 * 2)


def test_bytes_are_vectors_times_width(scale):
    _, *rows = scale.storage()
    (billion,) = (row for row in rows if row[:2] == ["1 billion", "768"])
    assert billion[2] == f"{1e9 * 768 * 4 / 2**40:.1f} TiB"
    assert billion[4] == f"{1e9 * (768 + 4) / 2**30:.0f} GiB"


@pytest.mark.parametrize(("seconds", "told"), [(90, "90 s"), (600, "10 min"), (36_000_000, "10,000 h")])
def test_times_are_told_in_what_people_count(scale, seconds, told):
    assert scale.hours(seconds) == told
