"""Steps that led to a run, as one mapping of options."""

from seedcli.evaluation.steps import Step, differences, flattened, walk


def step(
    verb: str | None, identity: str, options: dict[str, object] | None = None, *inputs: Step, role: str = "x"
) -> Step:
    return Step(role, f"{verb or 'file'}-{identity}", verb, identity, options or {}, {}, "", [*inputs])


CORPUS = step(None, "c" * 64, role="corpus")
FIRST = step("finetune", "f1", {"steps": 5}, CORPUS)
SECOND = step(
    "finetune", "f2", {"steps": 7}, FIRST, step(None, "n" * 64, role="text"), step(None, "m" * 64, role="text")
)
RUN = step("search", "s", {"depth": 9}, step("index", "i", {"kind": "flat"}, step("encode", "e", {}, SECOND, CORPUS)))


def test_every_step_is_walked_once():
    assert [each.identity[:2] for each in walk(RUN)] == ["s", "i", "e", "f2", "cc", "f1", "nn", "mm"]


def test_steps_of_one_verb_are_numbered_from_the_run_backwards():
    assert flattened(RUN) == {
        "search.depth": 9,
        "index.kind": "flat",
        "encode.corpus": "file-" + "c" * 64 + " (cccccccc)",
        "finetune.steps": 7,
        "finetune.text-1": "file-" + "n" * 64 + " (nnnnnnnn)",
        "finetune.text-2": "file-" + "m" * 64 + " (mmmmmmmm)",
        "finetune-2.steps": 5,
        "finetune-2.corpus": "file-" + "c" * 64 + " (cccccccc)",
    }


def test_differences_hold_both_values():
    assert differences({"a": 1, "b": 2, "c": None}, {"a": 1, "b": 3, "d": 4}) == {"b": (2, 3), "d": (None, 4)}
