from typing import Any

import pytest
import yaml

from seedcli.base.config import (
    ARGUMENT,
    COMMAND,
    INPUT,
    RARE,
    dump_yaml,
    options,
    parse_assignments,
    parse_yaml,
    plain,
    read_recipe,
    resolve,
)
from seedcli.base.errors import ConfigError
from seedcli.configs import VERBS
from seedcli.configs.finetune import FinetuneConfig
from seedcli.configs.pretrain import PretrainConfig
from seedcli.configs.search import SearchConfig

NEEDED: dict[str, dict[str, Any]] = {
    "pretrain": {"out": "o", "text": ["a.txt", "b c.txt"]},
    "finetune": {"out": "o", "model": "m", "data": "d"},
    "encode": {"out": "o", "model": "m", "corpus": "c"},
    "index": {"out": "o", "vectors": "v"},
    "search": {"out": "o", "index": ["a", "b"], "queries": "q"},
    "evaluate": {"out": "o", "runs": ["x=a", "y=b"], "qrels": "q"},
    "inspect": {"out": "o", "model": ["m", "n=o"], "texts": ["a.txt", "b c.txt"]},
    "convert": {"out": "o", "source": "m.pt"},
}


def finetune(recipe: dict[str, Any] | None = None, **flags: Any) -> FinetuneConfig:
    return resolve(FinetuneConfig, {**NEEDED["finetune"], **(recipe or {})}, flags, "r.yaml")


def refusal(recipe: dict[str, Any] | None = None, **flags: Any) -> str:
    with pytest.raises(ConfigError) as error:
        finetune(recipe, **flags)
    return str(error.value)


def test_flags_win_over_a_recipe_and_a_recipe_over_defaults():
    config = finetune({"optimize": {"lr": 1e-4, "clip": 3.0}}, **{"optimize.lr": "5e-5"})
    assert (config.optimize.lr, config.optimize.clip, config.optimize.batch_size) == (5e-5, 3.0, 128)


def test_a_group_keeps_what_a_recipe_leaves_out():
    assert finetune({"optimize": {"steps": 7}}).optimize.lr == finetune().optimize.lr


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"optimize": {"lrr": 1}}, "r.yaml: no option optimize.lrr: did you mean lr?"),
        ({"optimise": {"lr": 1}}, "r.yaml: no option optimise: did you mean optimize?"),
        ({"optimize": {"bathc_size": 1}}, "r.yaml: no option optimize.bathc_size: did you mean batch_size?"),
        ({"batch_size": 64}, "r.yaml: no option batch_size: did you mean optimize.batch_size?"),
        ({"modell": "m"}, "r.yaml: no option modell: did you mean model?"),
        ({"qqqqq": 1}, "r.yaml: no option qqqqq; --show lists them all"),
        ({3: 1}, "r.yaml: no option 3; --show lists them all"),
    ],
)
def test_an_unknown_key_says_what_was_meant(recipe, message):
    assert refusal(recipe) == message


def test_a_group_in_place_of_an_option_names_its_options():
    with pytest.raises(ConfigError, match=r"loss is a group of options: loss.loss, and temperature, margin"):
        resolve(FinetuneConfig, {}, {"loss": "triplet"}, "r.yaml")
    with pytest.raises(ConfigError, match=r"did you mean negatives.negative_depth\?"):
        resolve(FinetuneConfig, {}, {"negative_dept": "5"}, "r.yaml")


@pytest.mark.parametrize(("written", "read"), [("30", 30), ("10:50", "10:50"), ("'7'", "7"), ("0", 0), ("-3", -3)])
def test_yaml_counts_by_tens_alone(written, read):
    assert parse_yaml(written, "here") == read


def test_an_unknown_key_of_set_says_what_was_meant():
    assert refusal(**{"optimize.lrr": "1"}) == "--set: no option optimize.lrr: did you mean lr?"


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"optimize": {"lr": True}}, "optimize.lr: got True; it should be a valid number"),
        ({"optimize": {"lr": "fast"}}, "optimize.lr: got 'fast'; it should be a valid number"),
        ({"optimize": {"lr": 0}}, "optimize.lr: got 0; it should be greater than 0"),
        ({"optimize": {"lr": float("nan")}}, "optimize.lr: nan can't be read as FLOAT"),
        ({"optimize": {"lr": float("inf")}}, "optimize.lr: inf can't be read as FLOAT"),
        ({"optimize": {"beta1": 1.5}}, "optimize.beta1: got 1.5; it should be less than 1"),
        ({"optimize": {"batch_size": 2.5}}, "optimize.batch_size: got 2.5; it should be a valid integer"),
        ({"optimize": {"batch_size": 64.0}}, "optimize.batch_size: got 64.0; it should be a valid integer"),
        ({"optimize": {"batch_size": True}}, "optimize.batch_size: got True; it should be a valid integer"),
        ({"optimize": {"batch_size": "8 9"}}, "optimize.batch_size: got '8 9'; it should be a valid integer"),
        ({"optimize": {"steps": 0}}, "optimize.steps: got 0; it should be greater than or equal to 1"),
        ({"tower": {"pooling": "max"}}, "tower.pooling: got 'max'; it should be 'cls', 'mean' or 'last'"),
        ({"tower": {"pooling": False}}, "tower.pooling: got False; it should be 'cls', 'mean' or 'last'"),
        ({"data": ["a", "b"]}, "data: got ['a', 'b']; it should be a valid string"),
        ({"data": 7}, "data: got 7; it should be a valid string"),
        ({"split": yaml.safe_load("2020-01-01")}, "split: datetime.date(2020, 1, 1) can't be read as TEXT"),
        ({"optimize": 3}, "optimize is a group of options, not 3"),
        ({"optimize": None}, "optimize is a group of options, not None"),
        ({"data": {"a": 1}}, "data: got {'a': 1}; it should be a valid string"),
    ],
)
def test_a_value_of_the_wrong_type_is_told_with_its_key(recipe, message):
    assert refusal(recipe) == f"r.yaml: {message}"


def test_a_flag_is_named_as_it_is_typed():
    assert refusal(**{"optimize.lr": "fast"}).startswith("--lr: got 'fast'")
    assert refusal(**{"tower.query_length": "2"}).startswith("--query-length: got 2")
    assert refusal(**{"optimize.beta2": "2"}).startswith("--set optimize.beta2: got 2")


def test_off_is_no_word_for_none():
    for value in ("off", False, None, 0):
        with pytest.raises(ConfigError, match=r"model\.window: got .*'none'"):
            resolve(PretrainConfig, {**NEEDED["pretrain"], "model": {"window": value}}, {}, "r.yaml")
    for value, read in [("none", "none"), ("3", 3)]:
        given = {**NEEDED["pretrain"], "model.window": value}
        assert resolve(PretrainConfig, {}, given, "r.yaml").model.window == read


def test_numbers_are_read_as_people_write_them():
    text = "{a: 2e-5, b: 2.e-5, c: 1E3, d: .5, e: -1e-3, f: 10, g: 1.5, h: off, i: yes, j: true, k: e5, l: 1e, m: .inf}"
    assert parse_yaml(text, "r.yaml") == {
        "a": 2e-5, "b": 2e-5, "c": 1e3, "d": 0.5, "e": -1e-3, "f": 10, "g": 1.5,
        "h": "off", "i": "yes", "j": True, "k": "e5", "l": "1e", "m": float("inf"),
    }  # fmt: skip
    assert finetune(**{"optimize.lr": "2e-5"}).optimize.lr == 2e-5


def test_a_whole_number_serves_as_a_rate_and_is_then_a_rate():
    assert repr(finetune({"optimize": {"lr": 1}}).optimize.lr) == "1.0"


def test_text_stays_as_it_was_typed():
    config = finetune(**{"data": "2024", "tower.query_template": "query: {text}", "split": "off"})
    assert (config.data, config.tower.query_template, config.split) == ("2024", "query: {text}", "off")


def test_one_value_serves_as_a_list_whatever_is_in_its_name():
    for path in ("a.txt", "2020", "my #1 run: final", "off", "a, b", "null", "{x}"):
        assert resolve(PretrainConfig, {"out": "o", "text": path}, {}, "r.yaml").text == [path]
    assert resolve(PretrainConfig, {"out": "o"}, {"text": "[a.txt, b.txt]"}, "r.yaml").text == ["a.txt", "b.txt"]


def test_what_a_repeated_flag_gives_is_text_as_it_is():
    runs = ["[red]B=b.trec", "[a, b]", "2020"]
    assert resolve(VERBS["evaluate"], NEEDED["evaluate"], {"runs": runs}, "r.yaml").runs == runs
    assert finetune(**{"tower.dimensions": "[8, 16]"}).tower.dimensions == [8, 16]
    assert finetune(**{"tower.dimensions": ["8", "16"]}).tower.dimensions == [8, 16]


def test_null_takes_back_what_a_recipe_says():
    assert finetune({"tower": {"pooling": "mean"}}, **{"tower.pooling": "null"}).tower.pooling is None
    assert finetune({"optimize": {"steps": 3}}, **{"optimize.steps": "null"}).optimize.steps is None


@pytest.mark.parametrize("verb", VERBS)
def test_what_is_missing_is_named_as_it_is_typed_and_as_a_key(verb):
    with pytest.raises(ConfigError) as error:
        resolve(VERBS[verb], {}, {}, "r.yaml")
    first = {"search": "--index", "convert": "SOURCE"}.get(verb, "--out")
    assert str(error.value).startswith(f"{first} is missing (in a recipe: {first.strip('-').lower()}): ")


def test_a_required_option_that_a_recipe_leaves_empty_is_missing_not_wrong():
    assert finetune({"model": None}, model="m").model == "m"
    assert refusal({"model": None}).startswith("--model is missing")


def test_set_takes_a_key_and_anything_after_the_first_equals_sign():
    assert parse_assignments(["a.b=1", "c=x=y", "a.b=2", "d="]) == {"a.b": "2", "c": "x=y", "d": ""}


@pytest.mark.parametrize("assignment", ["optimize.lr", "=3", ""])
def test_set_without_key_or_value_is_refused(assignment):
    with pytest.raises(ConfigError, match="expected KEY=VALUE, such as"):
        parse_assignments([assignment])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: {c: 1, c: 2}\n", ":2: not YAML (the key 'c' stands twice)"),
        ("a: 1\na: 1\n", ":2: not YAML (the key 'a' stands twice)"),
        ("a: [1\nb: 2\n", ":2: not YAML (expected ',' or ']', but got ':')"),
        ("a: &x {b: 1}\nc: *y\n", ":2: not YAML (found undefined alias 'y')"),
        ("- a\n", ": a recipe is a mapping of options; this file holds list"),
        ("", ": a recipe is a mapping of options; this file holds NoneType"),
        ("!!python/object/apply:os.system [ls]\n", ":1: not YAML (could not determine a constructor for the tag"),
    ],
)
def test_what_is_no_recipe_is_refused_with_file_and_line(tmp_path, text, message):
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        read_recipe(path)
    assert str(error.value).startswith(f"{path}{message}")


def test_merged_keys_may_be_overridden():
    assert parse_yaml("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}", "r.yaml")["b"] == {"x": 1, "y": 3}


def test_a_recipe_that_is_no_file_of_text_is_refused(tmp_path):
    (tmp_path / "binary").write_bytes(b"\xff\xfe\0")
    for name, message in [("absent.yaml", "no such recipe"), ("", "not a recipe"), ("binary", "not a recipe")]:
        with pytest.raises(ConfigError, match=message):
            read_recipe(tmp_path / name)


def other(option: Any) -> Any:
    """Another value than the default, as text."""
    if option.default is False or option.default is True:
        return str(not option.default).lower()
    kind = str(option.hint)
    if "bool" in kind:
        return "true"
    if "Literal" in kind and "none" not in kind:
        words = [
            word
            for word in (
                "cuda",
                "bf16",
                "bm25",
                "tiny",
                "mean",
                "cosine",
                "stop",
                "onnx",
                "triplet",
                "lamb",
                "first",
                "async",
                "linear",
                "trainer",
                "parquet",
                "float16",
                "regex",
                "z-score",
                "t",
            )
            if f"'{word}'" in kind
        ]
        return words[0]
    if "float" in kind:
        return "0.25"
    if "int" in kind:
        return "120"
    return "[x y, 'off: 2e5 # é', '1', 'null']" if "list" in kind else "none" if "none" in kind else "off: 2e5 # é"


@pytest.mark.parametrize("verb", VERBS)
def test_a_config_written_as_yaml_reads_back_equal(tmp_path, verb):
    config = VERBS[verb]
    changed = {option.key: other(option) for option in options(config)}
    for flags in (NEEDED[verb], changed):
        resolved = resolve(config, {}, flags, "r.yaml")
        (tmp_path / "r.yaml").write_text(dump_yaml(plain(resolved)), encoding="utf-8")
        assert resolve(config, read_recipe(tmp_path / "r.yaml"), {}, "r.yaml") == resolved


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_has_help_and_a_flag_of_its_own(verb):
    every = list(options(VERBS[verb]))
    assert all(option.doc.endswith((".", ")", ":")) for option in every), [o.key for o in every if not o.doc]
    flags = [option.flag for option in every if not option.marks & {RARE, ARGUMENT}]
    assert len(flags) == len(set(flags)) <= 36
    assert not {"--recipe", "--set", "--show", "--overwrite", "--help"} & set(flags)


def test_marks_say_what_an_option_is():
    known = {option.key: option for option in options(SearchConfig)}
    marks = {key: option.marks for key, option in known.items()}
    assert marks["question"] == {ARGUMENT, COMMAND}
    assert (known["interactive"].flag, known["interactive"].short) == ("--interactive", ["-i"])
    assert known["queries"].short == []
    assert INPUT in marks["index"]
    assert RARE in marks["fusion_k"]


def test_a_repeated_flag_gives_numbers_one_by_one():
    config = resolve(SearchConfig, {}, {"index": ["a", "b"], "weight": ["0.25", "1"]}, "r.yaml")
    assert config.weight == [0.25, 1.0]
    with pytest.raises(ConfigError, match=r"--weight: got .*; it should be a valid number"):
        resolve(SearchConfig, {}, {"index": ["a"], "weight": ["heavy"]}, "r.yaml")
