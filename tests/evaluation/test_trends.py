"""Curves over what runs were made with: points in order, each with its interval, on the axis they ask for."""

from typing import Any

import pytest

from seedcli.base.errors import ConfigError
from seedcli.evaluation import trends
from seedcli.evaluation.trends import Point, logarithmic, placed, plot_trends, ticks

CONFIGS = {
    f"layers{layers}-window{window}": {"pretrain.model.decoder_layers": layers, "pretrain.model.window": window}
    for layers in (3, 1)
    for window in ("none", 8, 2)
}


def test_runs_are_placed_by_the_numbers_of_their_names():
    names = ["seed@1e3", "bert@250", "seed@.5", "a@b@-3"]
    assert placed({name: {} for name in names}, "step", None) == [
        Point("seed@1e3", 1000, "seed"),
        Point("bert@250", 250, "bert"),
        Point("seed@.5", 0.5, "seed"),
        Point("a@b@-3", -3, "a@b"),
    ]


@pytest.mark.parametrize("name", ["a@1..2", "a@1.2.3", "a@1e400", "a@", "a@."])
def test_what_is_no_number_gives_a_run_no_place(name):
    with pytest.raises(ConfigError, match=r"the run a@.* was made without such an option; name runs like a@100"):
        placed({name: {}}, "step", None)


def test_runs_are_placed_by_their_options():
    for over in ("pretrain.model.window", "model.window", "window"):
        points = placed(CONFIGS, over, "decoder_layers")
        assert [point[1:] for point in points][:3] == [
            ("none", "decoder_layers 3"), (8, "decoder_layers 3"), (2, "decoder_layers 3"),
        ]  # fmt: skip
    fractions = {"all": {"finetune.fraction": 1.0}, "some": {"finetune.fraction": 0.1}}
    assert placed(fractions, "fraction", None) == [Point("all", 1, ""), Point("some", 0.1, "")]


def test_runs_that_have_no_place_are_named():
    with pytest.raises(ConfigError, match=r"--curve steps: the run layers3-windownone was made without such an option; "
                       r"name runs like layers3-windownone@100, or give one in which they differ: "
                       r"pretrain\.model\.decoder_layers, pretrain\.model\.window"):  # fmt: skip
        placed(CONFIGS, "steps", None)
    with pytest.raises(ConfigError, match="layers3-windownone and layers1-windownone are both at none"):
        placed(CONFIGS, "window", None)
    with pytest.raises(ConfigError, match="--curve-by size: the run layers3"):
        placed(CONFIGS, "window", "size")
    two = {"a": {"pretrain.optimize.steps": 10, "finetune.optimize.steps": 5}}
    with pytest.raises(ConfigError, match="a has several such options; give one of pretrain"):
        placed(two, "steps", None)
    assert placed(two, "finetune.optimize.steps", None) == [Point("a", 5, "")]


def test_the_axis_is_logarithmic_where_numbers_are_far_apart():
    assert logarithmic([1, 30], "auto")
    assert not logarithmic([1, 29], "auto")
    assert not logarithmic([0, 1000], "auto")
    assert logarithmic([1, 2], "log")
    assert not logarithmic([1, 1000], "linear")
    assert not logarithmic([1, 1000, "none"], "log")
    with pytest.raises(ConfigError, match="0 has no place on it"):
        logarithmic([1, 0], "log")


def test_ticks_keep_their_distance():
    assert ticks([1, 2, 100], log_x=False) == [1, 100]
    assert ticks([1, 2, 4, 8], log_x=True) == [1, 2, 4, 8]
    assert ticks([5], log_x=False) == [5]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch, tmp_path) -> Any:
    """The arguments that curves are drawn with, by measure."""

    def plotted(names: list[str], configs: dict[str, Any], over: str, by: str | None = None) -> dict[str, Any]:
        kept: dict[str, Any] = {}

        def keep(stem: Any, series: Any, *labels: str, **options: Any) -> list[Any]:
            kept[stem.name] = (series, labels, options)
            return []

        monkeypatch.setattr(trends, "curves", keep)
        means = {name: {"mrr@10": row / 10, "own measure/2": 0.5} for row, name in enumerate(names, 1)}
        around = {name: {m: [v - 0.1, v + 0.2] for m, v in own.items()} for name, own in means.items()}
        plot_trends(tmp_path, placed(configs, over, by), means, around, over, "auto", 1234)
        return kept

    return plotted


def test_points_are_sorted_and_have_their_intervals(drawn):
    names = ["bert@300", "bert@10", "seed@10", "bert@20"]
    kept = drawn(names, {name: {} for name in names}, "steps")
    assert list(kept) == ["curve-mrr@10", "curve-own-measure-2"]
    series, labels, options = kept["curve-mrr@10"]
    assert list(series) == ["bert", "seed"]
    assert series["bert"].x == [10, 20, 300]
    assert series["bert"].y == pytest.approx([0.2, 0.4, 0.1])
    assert series["bert"].low == pytest.approx([0.1, 0.3, 0.0])
    assert series["bert"].high == pytest.approx([0.4, 0.6, 0.3])
    assert labels == ("steps", "mrr@10")
    assert options["log_x"]
    assert "1,234 queries" in options["title"]


def test_words_stand_after_numbers_evenly_apart(drawn):
    series, _, options = drawn(list(CONFIGS), CONFIGS, "window", "decoder_layers")["curve-mrr@10"]
    assert list(series) == ["decoder_layers 3", "decoder_layers 1"]
    assert series["decoder_layers 3"].x == [0, 1, 2]
    assert series["decoder_layers 3"].y == pytest.approx([0.3, 0.2, 0.1])
    assert options["labels"] == ["2", "8", "none"]
    assert not options["log_x"]


def test_files_are_named_after_measures(tmp_path):
    points = [Point("a", 1.0, ""), Point("b", 2.0, "")]
    means = {"a": {"mrr@10": 0.1}, "b": {"mrr@10": 0.2}}
    around = {name: {"mrr@10": [0.0, 0.3]} for name in means}
    files = plot_trends(tmp_path, points, means, around, "steps", "auto", 9)
    assert [path.name for path in files] == ["curve-mrr@10.png", "curve-mrr@10.svg"]
    assert all(path.stat().st_size for path in files)
