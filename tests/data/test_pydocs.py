"""What counts as a query and its passage, and that the collection is made once, whole and the same every time."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from seedcli.base.progress import Advance, Silent
from seedcli.data import pydocs
from seedcli.data.pydocs import Document, Package, find_package, fingerprint, pydocs_folder, query_and_passage, sample
from seedcli.data.sources import open_collection

FILES = 12
WORDS = "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho sigma tau upsilon phi"


def documented(query: str, passage: str, indent: str = "") -> str:
    return f'{indent}"""{query}\n\n{indent}{passage}\n{indent}"""\n'


def body(name: str) -> str:
    return f"About {name}: {WORDS}."


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package that must not be imported, as the only one that is installed."""
    tree = tmp_path / "tree"
    for folder in (tree, tree / "tests", tree / "not-a-module"):
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text(
            documented(f"The package in {folder.name} as a whole.", body(folder.name))
            + "raise RuntimeError('imported')"
        )
    for i in range(FILES):
        (tree / f"module{i}.py").write_text(
            documented(f"This is module number {i} here.", body(f"module {i}"))
            + f"class Thing:\n{documented(f'A thing of kind {i} here.', body(f'thing {i}'), '    ')}"
            + f"    def act(self):\n{documented('Do what all the others do.', body(f'act {i}'), '        ')}"
        )
    (tree / "broken.py").write_text("def (:")
    (tree / "binary.py").write_bytes(b"\0\xff")
    monkeypatch.setenv("SEED_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(pydocs, "installed_packages", lambda: [Package("fake", "1.0", tree, "fake")])
    return tree


def split_ids(folder: Path) -> dict[str, set[str]]:
    rows = {split: (folder / "qrels" / f"{split}.tsv").read_text().splitlines()[1:] for split in pydocs.SPLITS}
    return {split: {row.split("\t")[1] for row in lines} for split, lines in rows.items()}


@pytest.mark.usefixtures("tree")
def test_modules_and_classes_become_passages_unless_broken_or_tests() -> None:
    passages = {passage.id: passage for passage in open_collection("pydocs").passages()}
    assert set(passages) == {"fake"} | {f"fake.module{i}{of}" for i in range(FILES) for of in ("", ".Thing")}
    assert passages["fake.module7"].text == body("module 7")
    assert {passage.title for passage in passages.values()} == {""}
    queries = {query.id: query.text for query in open_collection("pydocs").queries()}
    assert queries["q:fake.module7"] == "This is module number 7 here."
    assert len(queries) == len(passages)


def test_no_copy_of_what_occurs_twice_stays(tree: Path) -> None:
    """Every `act` has the same summary; now a thing has another's body, and a name is given twice."""
    (tree / "module0.py").write_text(
        f"class Thing:\n{documented('A thing like the next one.', body('thing 1'), '    ')}"
    )
    (tree / "module3.py").write_text(
        f"class Twice:\n{documented('The first of its name here.', body('first'), '    ')}"
        f"class Twice:\n{documented('The second of its name here.', body('second'), '    ')}"
    )
    ids = {passage.id for passage in open_collection("pydocs").passages()}
    assert ids.isdisjoint({f"fake.module{i}.Thing.act" for i in range(FILES)})
    assert ids.isdisjoint({"fake.module0.Thing", "fake.module1.Thing", "fake.module3.Twice"})
    assert "fake.module2.Thing" in ids


@pytest.mark.usefixtures("tree")
def test_no_module_is_in_two_splits() -> None:
    splits = split_ids(pydocs_folder())
    modules = {split: {name.removesuffix(".Thing") for name in ids} for split, ids in splits.items()}
    assert sum(map(len, modules.values())) == FILES + 1
    assert set.union(*modules.values()) == {"fake", *(f"fake.module{i}" for i in range(FILES))}


def test_the_sample_depends_on_names_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pydocs, "LIMIT", 10)
    documents = [Document(f"module.f{i}", "fake", "train", "query", "passage") for i in range(50)]
    chosen = sample(documents)
    assert len(chosen) == 10
    assert sample(documents[::-1]) == chosen
    assert sample([document for document in documents if document in chosen or document.id < "module.f3"]) == chosen


@pytest.mark.parametrize(
    ("docstring", "query", "passage"),
    [
        (f"Add two\nnumbers up.\n\n{WORDS}", "Add two numbers up.", WORDS),
        (f"Add two numbers up. More\nof it.\n\n{WORDS}", "Add two numbers up.", f"More of it.\n\n{WORDS}"),
        (
            f"Add numbers, e.g. Fibonacci ones.\nArgs:\n    a: {WORDS}",
            "Add numbers, e.g. Fibonacci ones.",
            f"Args:\n    a: {WORDS}",
        ),
        (f"Is `x` of some type?\n>>> f(1)\n{WORDS}", "Is `x` of some type?", f">>> f(1)\n{WORDS}"),
    ],
)
def test_the_first_sentence_asks_and_the_rest_answers(docstring: str, query: str, passage: str) -> None:
    assert query_and_passage(docstring) == (query, passage)


@pytest.mark.parametrize(
    "docstring",
    [
        f"Add two numbers up\n\n{WORDS}",  # no full stop: a heading, as likely as not
        f"add(a, b, *more) -> the sum of all.\n\n{WORDS}",
        f"Adds numbers.\n\n{WORDS}",
        f".. note:: Add two numbers up.\n\n{WORDS}",
        f"Title of it\n===========\n\n{WORDS}",
        f"Add two numbers up.\n\n{WORDS[:60]}",
        f"Add two numbers up.\n\n{WORDS}. So, ADD two\nnumbers up!",
        f"Add two numbers up.\n\n{WORDS} \x1b[0m",
        f"Add two numbers up.\n\n{WORDS} \ud83d",
        "Add two numbers up.",
        ".",
    ],
)
def test_what_does_not_read_as_question_and_answer_is_left_out(docstring: str) -> None:
    assert query_and_passage(docstring) is None


@pytest.mark.usefixtures("tree")
def test_the_fingerprint_tells_what_the_collection_is_made_of() -> None:
    folder = pydocs_folder()
    made = json.loads((folder / "fingerprint.json").read_text())
    train, dev, test = (len(ids) for ids in split_ids(folder).values())
    assert made["queries"] == {"train": train, "dev": dev, "test": test}
    assert made["packages"] == {"fake": {"version": "1.0", **made["queries"]}}
    assert fingerprint(folder) == (
        f"pydocs {made['sha256'][:12]}: {2 * FILES + 1} passages from fake 1.0 (without {', '.join(pydocs.PACKAGES)}); "
        f"queries train {train}, dev {dev}, test {test}"
    )


def test_the_same_packages_make_the_same_bytes(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = pydocs_folder()
    monkeypatch.setenv("SEED_CACHE", str(tree.parent / "elsewhere"))
    second = pydocs_folder()
    assert first.name == second.name
    assert fingerprint(first) == fingerprint(second)
    for path in first.rglob("*.*"):
        assert (second / path.relative_to(first)).read_bytes() == path.read_bytes()


class Interrupted(Silent):
    """Calls something once a file has been read."""

    def __init__(self, call: Callable[[], object]) -> None:
        self.call = call

    @contextmanager
    def track(self, title: str, total: int | None, unit: str, done: int = 0) -> Iterator[Advance]:  # noqa: ARG002
        def advance(_: int) -> None:
            self.call()

        yield advance


def test_a_build_cut_short_leaves_nothing(tree: Path) -> None:
    def cut() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pydocs_folder(Interrupted(cut))
    assert not (tree.parent / "cache").exists()


@pytest.mark.usefixtures("tree")
def test_of_two_builders_at_once_both_succeed() -> None:
    folders = []
    folders.append(pydocs_folder(Interrupted(lambda: folders.append(pydocs_folder()))))
    assert len(set(folders)) == 1
    assert len(list(open_collection(folders[0]).passages())) == 2 * FILES + 1
    assert [path.name for path in folders[0].parent.glob("*pydocs*")] == [folders[0].name]


def test_a_package_that_is_not_installed_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(pydocs.PACKAGES, "no-such-package", "no_such_package")
    assert find_package("no-such-package") is None
    found = find_package("numpy")
    assert found is not None
    assert (found.folder / "linalg").is_dir()
