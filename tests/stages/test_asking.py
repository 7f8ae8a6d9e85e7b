"""Questions to real indexes: the hits, the sentence of each that answers best, and why each was found."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import seedcli as seed
from seedcli.base.config import resolve
from seedcli.base.errors import ConfigError
from seedcli.base.progress import Silent
from seedcli.configs.search import SearchConfig
from seedcli.data import lookup
from seedcli.data.collections import Collection, PassageFiles
from seedcli.data.records import Passage
from seedcli.data.sentences import sentences
from seedcli.retrieval import best_sentences
from seedcli.retrieval.best_sentences import by_words
from seedcli.retrieval.encoding import TextEncoder
from seedcli.retrieval.run_files import read_run
from seedcli.stages.asking import Asking, open_asking

QUESTION = "what does the otter eat"
Ask = Callable[..., AbstractContextManager[Asking]]


@pytest.fixture
def ask() -> Ask:
    @contextmanager
    def asked(*indexes: Path, **given: Any) -> Iterator[Asking]:
        flags = {"index": [str(index) for index in indexes], "machine.threads": 1} | given
        with open_asking(resolve(SearchConfig, {}, flags, "a test"), Silent()) as asking:
            yield asking

    return asked


def best_by_hand(model: Path, question: str, passage: Passage) -> str:
    """The sentence whose text with the passage's title has the vector nearest to the question's."""
    opened = seed.open_model(model, device="cpu")
    (query,) = opened.encode([question], "query")
    texts = [passage.text[begin:end] for begin, end in sentences(passage.text)]
    scores = [(vectors @ query).max() for vectors in opened.encode_passages([f"{passage.title} {t}" for t in texts])]
    return texts[int(np.argmax(scores))]


def test_the_sentence_of_a_hit_is_nearest_to_the_question_by_the_models_vectors(chain, ask):
    with ask(chain.flat) as asking:
        found = asking.answers(QUESTION, 10)
        assert [answer.hit for answer in found] == asking.hits([QUESTION], 10)[0]
    for (passage, _), sentence in found:
        assert sentence is not None
        assert passage.text[slice(*sentence)] == best_by_hand(chain.retriever, QUESTION, passage)


def test_without_a_model_the_sentence_shares_the_questions_words(chain, ask):
    with ask(chain.words) as asking:
        first = asking.answers("otters that hunt at dusk", 3)[0]
        assert first.hit.id == "otter-diet"
        assert first.hit.text[slice(*first.sentence)] == "It hunts at dusk, and in winter it eats less."
        titles = asking.answers("condor", 10)  # a title has it, but each text, too
        assert all("condor" in answer.hit.text[slice(*answer.sentence)] for answer in titles)


def test_fused_the_model_picks_the_sentence_wherever_its_index_stands(chain, ask):
    with ask(chain.words, chain.flat) as asking:
        for (passage, _), sentence in asking.answers(QUESTION, 5):
            assert passage.text[slice(*sentence)] == best_by_hand(chain.retriever, QUESTION, passage)


def test_why_tells_rank_and_score_in_each_index(chain, ask):
    found = dict(zip(("words", "flat"), map(read_run, (chain.found_words / "run.trec", chain.found / "run.trec"))))  # noqa: B905
    with ask(chain.words, chain.flat, fusion_depth=20) as asking:
        for rank, (hit, _) in enumerate(asking.answers(QUESTION, 4), 1):
            words, flat = asking.why(QUESTION, hit, rank)
            for reason, name in ((words, "words"), (flat, "flat")):
                documents, scores = found[name].ranking("q:otter-diet")
                there = hit.id.encode() in documents.tolist()
                assert reason.rank == (documents.tolist().index(hit.id.encode()) + 1 if there else None)
                assert reason.score == (pytest.approx(scores[reason.rank - 1], abs=1e-6) if there else None)
            gains = [1 / (60 + reason.rank) for reason in (words, flat) if reason.rank]
            assert hit.score == pytest.approx(sum(gains))
            assert sum(weight for _, weight in words.words) == pytest.approx(words.score or 0)
            assert (words.sentences, flat.words) == ([], [])
            assert len(flat.sentences) == len(sentences(hit.text))
            assert [score for _, score in flat.sentences] == sorted((s for _, s in flat.sentences), reverse=True)


def test_why_of_one_index_tells_the_hit_as_it_was_found(chain, ask):
    with ask(chain.words) as asking:
        second = asking.answers(QUESTION, 2)[1].hit
        (reason,) = asking.why(QUESTION, second, 2)
    assert (reason.folder, reason.rank, reason.score) == (str(chain.words), 2, second.score)
    assert dict(reason.words)["otter"] > 0
    assert [word for word, _ in reason.words] == ["what", "doe", "otter", "eat"]


@pytest.mark.slow
def test_two_towers_and_passages_of_several_vectors_are_asked(chain, beir, perform, ask, tmp_path):
    tower = {"tower.untied": True, "tower.passage_length": 12, "tower.segments": 3, "tower.token_vectors": 2}
    steps = {"optimize.steps": 2, "optimize.batch_size": 4, "optimize.warmup": 1}
    perform("finetune", out=tmp_path / "model", model=chain.encoder, data=beir, **tower, **steps)
    perform("encode", out=tmp_path / "vectors", model=tmp_path / "model", corpus=beir)
    perform("index", out=tmp_path / "flat", vectors=tmp_path / "vectors")
    with ask(tmp_path / "flat") as asking:
        for (passage, _), sentence in asking.answers(QUESTION, 5):
            assert passage.text[slice(*sentence)] == best_by_hand(tmp_path / "model", QUESTION, passage)


def test_a_model_reads_few_sentences_however_many_hits_are_asked_for(chain, ask, monkeypatch):
    read: list[int] = []
    vectors = TextEncoder.vectors

    def counted(self: TextEncoder, texts: Any, role: Any, *rest: Any) -> Any:
        if role == "passage":
            read.append(len(texts))
        return vectors(self, texts, role, *rest)

    monkeypatch.setattr(TextEncoder, "vectors", counted)
    monkeypatch.setattr(best_sentences, "ENCODED", 12)
    with ask(chain.flat) as asking:
        one, ten, many = (asking.answers("otter", depth) for depth in (1, 10, 60))
    assert read == [sum(len(sentences(answer.hit.text)) for answer in found[:12]) for found in (one, ten, many)]
    assert max(read) <= 24  # no text has more than two
    assert all(answer.sentence for answer in [*one, *ten, *many[:12]])
    shares = [by_words("otter", [answer.hit.text])[0] for answer in many[12:]]
    assert [answer.sentence is not None for answer in many[12:]] == [bool(scored) for scored in shares]


def test_of_a_long_text_those_sentences_are_encoded_that_share_words(chain, monkeypatch):
    monkeypatch.setattr(best_sentences, "ENCODED", 3)
    text = " ".join(f"Filler number {row}." for row in range(50)) + " The otter eats trout. An otter. Trout!"
    with seed.open_index(chain.flat)._asking as asking:
        (index,) = asking.searcher.indexes
        (scored,) = asking.by_vectors(index, QUESTION, [Passage("1", "", text)])
    parts = {text[slice(*sentence)] for sentence, _ in scored}
    assert parts == {"The otter eats trout.", "An otter.", "Filler number 0."}


def test_texts_without_sentences_have_none(chain):
    with seed.open_index(chain.flat)._asking as asking:
        (index,) = asking.searcher.indexes
        assert asking.by_vectors(index, QUESTION, []) == []
        passages = [Passage("1", "otter", ""), Passage("2", "", "otter"), Passage("3", "", " \n")]
        assert list(map(len, asking.by_vectors(index, QUESTION, passages))) == [0, 1, 0]
    first, second, third = by_words("otter", ["", "no word", "otters eat. They swim."])
    assert (first, second, len(third)) == ([], [], 1)


def test_a_template_without_text_still_tells_sentences_apart(chain):
    with seed.open_index(chain.flat)._asking as asking:
        (index,) = asking.searcher.indexes
        settings = asking.passage_tower(index).encoder.settings
        object.__setattr__(settings, "passage_template", "{title}")
        (scored,) = asking.by_vectors(index, QUESTION, [Passage("1", "Otter", "Eats trout. Sleeps long.")])
    assert len({score for _, score in scored}) == 2


def test_the_corpus_is_listed_once_and_not_read_for_a_question(chain, ask, monkeypatch, tmp_path):
    monkeypatch.setenv("SEED_CACHE", str(tmp_path))
    monkeypatch.setattr(lookup, "SMALL", -1)
    with ask(chain.flat) as asking:
        expected = asking.answers(QUESTION, 5)
    (folder,) = tmp_path.glob("passages-*")
    monkeypatch.setattr(Collection, "passages", None)
    monkeypatch.setattr(PassageFiles, "__call__", None)
    with ask(chain.flat, chain.words) as asking:
        assert asking.answers(QUESTION, 5)
        assert asking.passages([answer.hit.id for answer in expected]) == {
            answer.hit.id: answer.hit.passage for answer in expected
        }
        assert asking.passages(["none"]) == {}
    assert folder.is_dir()


@pytest.mark.parametrize(("flags", "name"), [({"question": "q"}, "a QUESTION"), ({"interactive": True}, "-i")])
@pytest.mark.parametrize("other", ["out", "queries", "split", "candidates"])
def test_what_is_asked_goes_without_the_options_of_a_run(chain, ask, flags, name, other):
    with pytest.raises(ConfigError, match=f"{name} is answered on the screen: it goes without --queries"):
        ask(chain.words, **flags, **{other: "x"}).__enter__()


def test_a_question_of_blanks_is_refused(chain, ask):
    with ask(chain.words) as asking, pytest.raises(ConfigError, match="the QUESTION is empty"):
        asking.answers(" \n", 3)
