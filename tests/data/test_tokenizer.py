"""Text to ids and back: training that repeats itself, and text that never passes for a special token."""

import json
import os
import subprocess
import sys
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import models, pre_tokenizers, processors, trainers
from tokenizers.implementations import BertWordPieceTokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from seedcli.base.errors import DataError
from seedcli.data import wordpiece as training
from seedcli.data import workers
from seedcli.data.formats.msmarco import read_documents
from seedcli.data.records import SEPARATOR
from seedcli.data.templates import render
from seedcli.data.tokenizer import SPECIAL, Tokenizer, open_tokenizer, pretrained
from seedcli.data.tokenizer import wordpiece as built
from seedcli.data.wordpiece import count_words, learn_pieces, train_tokenizer
from seedcli.data.worker import tokeniser

ORDINARY = [
    "The otter raises two blind cubs, and the heron eats frogs!",
    "",
    "Ünïcode straße 日本語 naïve e\u0301 co-operate; 3.14 (really?)",
    "otter " * 100,
]
PIECES = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


def in_roberta_frame(backend: Backend) -> Tokenizer:
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    names = dict(zip(("cls_token", "pad_token", "sep_token", "unk_token", "mask_token"), PIECES, strict=True))
    return Tokenizer(PreTrainedTokenizerFast(tokenizer_object=backend, **names))


@pytest.fixture(scope="module")
def byte_pairs(texts: list[str]) -> Tokenizer:
    """Built as RoBERTa's."""
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=PIECES, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator(texts, trainer)
    return in_roberta_frame(backend)


@pytest.fixture(scope="module")
def unigram(texts: list[str]) -> Tokenizer:
    """Built as XLM-R's, whose special tokens are words of its model."""
    backend = Backend(models.Unigram())
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=200, special_tokens=PIECES, unk_token="<unk>", show_progress=False)
    backend.train_from_iterator(texts, trainer)
    return in_roberta_frame(backend)


@pytest.fixture(params=["wordpiece", "byte_pairs", "unigram"])
def tokenizer(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


def test_two_processes_train_the_same_tokenizer(tmp_path: Path, texts: list[str]) -> None:
    (tmp_path / "text").write_text("\n".join(texts))
    code = """if True:
        import sys
        from pathlib import Path
        from seedcli.data.wordpiece import train_tokenizer
        text, out = map(Path, sys.argv[1:])
        train_tokenizer(text.read_text().splitlines(), 400, True, 64).save(out)
    """
    children = [
        subprocess.Popen(
            [sys.executable, "-c", code, tmp_path / "text", tmp_path / name],
            env=os.environ | {"PYTHONHASHSEED": name, "TOKENIZERS_PARALLELISM": parallel},
        )
        for name, parallel in [("1", "true"), ("2", "false")]
    ]
    assert [child.wait() for child in children] == [0, 0]
    first, second = ((tmp_path / name / "tokenizer.json").read_bytes() for name in "12")
    assert first == second
    here = train_tokenizer(texts, 400, True, 64)
    assert json.loads(first)["model"]["vocab"] == json.loads(here.backend.to_str())["model"]["vocab"]


@pytest.fixture
def frame() -> Backend:
    return built({token: row for row, token in enumerate(SPECIAL)})


def slowly_counted(texts: list[str], frame: Backend) -> Counter[str]:
    """Words a text after the other, as the library normalises and parts them."""
    words: Counter[str] = Counter()
    for text in texts:
        normal = frame.normalizer.normalize_str(text)
        words.update(word for word, _ in frame.pre_tokenizer.pre_tokenize_str(normal) if len(word) <= 100)
    return words


@pytest.mark.parametrize("processes", [1, 3])
def test_any_number_of_workers_trains_the_tokenizer_of_a_slow_loop(
    texts: list[str], frame: Backend, processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "CHUNK", 500)
    many = [*texts, *ORDINARY, "x" * 101, "a\tb\x0bc\x1cd", *texts, "[SEP] otter's"]
    slow = slowly_counted(many, frame)
    assert count_words(iter(many), frame, processes) == slow
    monkeypatch.setattr(training, "count_words", lambda *_: slow)
    expected = train_tokenizer([], 300, True, 64).backend.to_str()
    monkeypatch.undo()
    monkeypatch.setattr(workers, "CHUNK", 500)
    assert train_tokenizer(iter(many), 300, True, 64, processes).backend.to_str() == expected


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_words_seen_once_are_forgotten_where_the_text_says_so(
    frame: Backend, processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chunks of two lines; when there are more than five words, c, d, e and f go, and may come again."""
    monkeypatch.setattr(workers, "CHUNK", 8)
    monkeypatch.setattr(training, "DISTINCT", 5)
    lines = ["a b c", "a d", "a e f", "b b", "g", "c d"]
    assert count_words(lines, frame, processes) == {"a": 3, "b": 3, "c": 1, "d": 1, "g": 1}


@pytest.mark.parametrize("at_once", [1, 7])
def test_how_many_words_the_trainer_gets_at_once_changes_nothing(
    texts: list[str], frame: Backend, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = slowly_counted(texts, frame)
    expected = learn_pieces(words, 300, frame)
    monkeypatch.setattr(training, "AT_ONCE", at_once)
    assert learn_pieces(words, 300, frame) == expected


@pytest.mark.parametrize("size", [100, 150, 300, 1000])
def test_a_vocabulary_has_at_most_the_size_asked_for(texts: list[str], size: int) -> None:
    greek = [chr(0x3B1 + row) for row in range(60)]
    many = [*texts, " ".join(greek), "".join(greek)]  # more characters than 100 entries hold
    assert train_tokenizer(many, size, True, 64).size <= size
    assert train_tokenizer(["a"], size, True, 64).size < 10


def test_every_word_over_the_characters_of_the_text_is_known(texts: list[str]) -> None:
    tokenizer = train_tokenizer([*texts, "λ 7 ab"], 400, True, 64)
    unknown = tokenizer.pretrained.unk_token_id
    seen = sorted(set("".join(texts).lower()) - set(" "))
    for character in [*seen, "λ", "7"]:
        for word in (character, f"a{character}", f"{character}a", f"e{character * 3}"):
            assert unknown not in tokenizer.words([word])[0], word
    assert tokenizer.words(["日"]) == [[unknown]]


def test_no_entry_is_spent_on_marks_inside_words(texts: list[str]) -> None:
    tokenizer = train_tokenizer([*texts, "日本 (a.b) it's"], 400, True, 64)
    inner = [piece[2:] for piece in tokenizer.pretrained.get_vocab() if piece.startswith("##")]
    assert inner
    assert not [piece for piece in inner for c in piece if unicodedata.category(c).startswith("P") or c > "\u3000"]


def test_words_are_parted_by_the_longest_pieces_with_marks_inside_alone(wordpiece: Tokenizer, texts: list[str]) -> None:
    vocabulary = wordpiece.pretrained.get_vocab()
    for word in sorted({word for text in texts for word in text.lower().replace(".", " ").replace(",", " ").split()}):
        expected, rest = [], word
        while rest:
            mark = "##" if expected else ""
            piece = next(rest[:end] for end in range(len(rest), 0, -1) if mark + rest[:end] in vocabulary)
            expected.append(mark + piece)
            rest = rest[len(piece) :]
        assert wordpiece.pretrained.convert_ids_to_tokens(wordpiece.words([word])[0]) == expected


def test_common_words_become_one_piece(wordpiece: Tokenizer) -> None:
    assert [len(ids) for ids in wordpiece.words(["the", "The", "it", "most often"])] == [1, 1, 1, 2]


def test_case_and_accents_stay_when_asked_for(texts: list[str]) -> None:
    plain, cased = (train_tokenizer([*texts, "Élan élan"], 400, lowercase, 64) for lowercase in (True, False))
    assert plain.words(["Élan"]) == plain.words(["elan"])
    assert cased.words(["Élan"]) != cased.words(["élan"])
    assert cased.pretrained.decode(cased.words(["Élan"])[0]) == "Élan"


@pytest.mark.parametrize("length", [2, 3, 7, 12, 40, 500])
def test_encode_is_what_the_library_gives(tmp_path: Path, tokenizer: Tokenizer, length: int) -> None:
    tokenizer.save(tmp_path)
    library = AutoTokenizer.from_pretrained(tmp_path)
    expected = [library(text, truncation=True, max_length=length)["input_ids"] for text in ORDINARY]
    assert [ids.tolist() for ids in tokenizer.encode(ORDINARY, length)] == expected
    assert [ids.tolist() for ids in open_tokenizer(tmp_path).encode(ORDINARY, length)] == expected


@pytest.mark.parametrize("letters", [1, 2, 5])
def test_reading_only_the_beginning_of_a_text_changes_none_of_its_ids(
    tokenizer: Tokenizer, texts: list[str], letters: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it is cut, and where that leaves too few tokens: as when all of it is read."""
    assert tokenizer.parts_at_blanks
    odd = ["a  b   c    d " * 9, " " * 90 + "x" * 90, "日本語" * 60, f"one{SEPARATOR} two{SEPARATOR}three four " * 9]
    every = [*texts, *ORDINARY, *odd, "e \u0301 " * 30, "\n\tthe\notter\n " * 20]
    monkeypatch.setattr("seedcli.data.tokenizer.LETTERS", letters)
    for length in (3, 4, 9, 17, 40):
        room = length - len(tokenizer.prefix) - len(tokenizer.suffix)
        expected = [[*tokenizer.prefix, *ids[:room], *tokenizer.suffix] for ids in tokenizer.words(every)]
        assert [row.tolist() for row in tokenizer.encode(every, length)] == expected


def test_little_more_of_a_text_is_read_than_is_wanted(wordpiece: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    words = Tokenizer.words

    def counting(tokenizer: Tokenizer, texts: Any) -> Any:
        read.extend(map(len, texts))
        return words(tokenizer, texts)

    monkeypatch.setattr(Tokenizer, "words", counting)
    assert len(wordpiece.encode(["the otter eats frogs " * 1000], 22)[0]) == 22
    assert read == [119]  # 20 words of 6 letters, to the end of a whole one


def test_all_is_read_where_tokens_may_hold_blanks(wordpiece: Tokenizer) -> None:
    backend = Backend.from_str(wordpiece.backend.to_str())
    assert Tokenizer(pretrained(backend, 64)).parts_at_blanks
    backend.add_tokens(["the otter"])
    assert not Tokenizer(pretrained(backend, 64)).parts_at_blanks
    plain = Backend(models.BPE({"a": 0, " ": 1, "a ": 2, "[PAD]": 3, "[UNK]": 4}, [("a", " ")]))
    assert not Tokenizer(PreTrainedTokenizerFast(tokenizer_object=plain, pad_token="[PAD]")).parts_at_blanks


def test_encoding_a_stream_is_encoding_a_list(wordpiece: Tokenizer, texts: list[str]) -> None:
    many = texts * 40  # more than are handed over at a time
    assert len(many) > 2_000
    streamed = [ids.tolist() for ids in wordpiece.encode_stream(iter(many), 16)]
    assert streamed == [ids.tolist() for ids in wordpiece.encode(texts, 16)] * 40


def test_a_worker_gives_the_ids_of_words(tokenizer: Tokenizer, texts: list[str]) -> None:
    """Those of byte pairs and of Unigram, too, whose special ids text may yield."""
    lines = [*texts, *ORDINARY, *tokenizer.pretrained.all_special_tokens, "a </s> b", "  two  blanks "]
    ids = tokeniser(tokenizer.backend.to_str(), sorted(tokenizer.leaks), "H")(lines)
    assert [np.frombuffer(row, np.uint16).tolist() for row in ids] == tokenizer.words(lines)


def test_text_never_passes_for_a_special_token(tokenizer: Tokenizer) -> None:
    special = set(tokenizer.special_ids) - {tokenizer.pretrained.unk_token_id}
    assert len(special) == 4
    names = tokenizer.pretrained.all_special_tokens
    for text in [*names, *(f"the {name} otter{name}" for name in names), "".join(names), " ".join(names)]:
        assert not special & set(tokenizer.words([text])[0]), text
        ids = tokenizer.encode([text], 64)[0].tolist()
        assert [place for place, id_ in enumerate(ids) if id_ in special] == [0, len(ids) - 1]


def test_the_name_of_a_special_token_is_read_as_the_words_it_is_of(texts: list[str]) -> None:
    tokenizer = train_tokenizer([*texts, "[mask] [sep]"], 300, True, 64)
    assert tokenizer.words(["the [MASK] eats[SEP]"]) == tokenizer.words(["the [ mask ] eats [ sep ]"])


def test_a_separator_gives_the_models_own_between_the_parts(tokenizer: Tokenizer) -> None:
    sep = tokenizer.pretrained.sep_token_id
    otter, heron = tokenizer.words(["the otter", "a heron"])
    mixed = [f"the otter{SEPARATOR}a heron", "the otter", f"{SEPARATOR}a heron{SEPARATOR}{SEPARATOR}", "", SEPARATOR]
    assert tokenizer.words(mixed) == [[*otter, sep, *heron], otter, [sep, *heron, sep, sep], [], [sep]]
    framed = [*tokenizer.prefix, *otter, sep, *heron, *tokenizer.suffix]
    assert tokenizer.encode(mixed, 64)[0].tolist() == framed


def test_a_separator_counts_as_a_token_when_texts_are_cut(wordpiece: Tokenizer) -> None:
    cls, sep = wordpiece.prefix[0], wordpiece.suffix[0]
    the, it = (wordpiece.words([word])[0][0] for word in ("the", "it"))
    cut = [wordpiece.encode([f"the{SEPARATOR}it it"], length)[0].tolist() for length in (4, 5, 6)]
    assert cut == [[cls, the, sep, sep], [cls, the, sep, it, sep], [cls, the, sep, it, it, sep]]


def test_only_a_templates_sep_is_special_whatever_the_file_holds(tmp_path: Path, tokenizer: Tokenizer) -> None:
    names = "".join(tokenizer.pretrained.all_special_tokens)
    texts = ["the [SEP] otter", "[CLS]", "<s> </s>", f"raw {SEPARATOR} character", names]
    (tmp_path / "docs.tsv").write_text("".join(f"{row}\t\t{text}\t{text}\n" for row, text in enumerate(texts)))
    special = set(tokenizer.special_ids) - {tokenizer.pretrained.unk_token_id}
    passages = list(read_documents(tmp_path / "docs.tsv"))
    assert len(passages) == len(texts)
    for template, separators in [("{title} {text}", 0), ("{title} [SEP] {text}", 1)]:
        for ids in tokenizer.words([render(template, passage) for passage in passages]):
            assert [id_ for id_ in ids if id_ in special] == [tokenizer.pretrained.sep_token_id] * separators


def test_the_end_of_a_text_parts_it_where_there_is_no_other_separator() -> None:
    def of_letters(**names: str) -> Tokenizer:
        backend = Backend(models.WordLevel({"<eos>": 0, "<unk>": 1, "a": 2, "b": 3}, unk_token="<unk>"))
        backend.pre_tokenizer = pre_tokenizers.Whitespace()
        return Tokenizer(PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", **names))

    assert of_letters(eos_token="<eos>").words([f"a{SEPARATOR}b"]) == [[2, 0, 3]]
    assert of_letters().words(["a b"]) == [[2, 3]]
    with pytest.raises(DataError, match="its tokenizer has no token that separates"):
        of_letters().words([f"a{SEPARATOR}b"])


def test_ids_are_kept_in_the_smallest_type_that_holds_them(wordpiece: Tokenizer) -> None:
    assert wordpiece.encode(["a"], 8)[0].dtype == "uint16"
    big = {**{token: row for row, token in enumerate(SPECIAL)}, **{f"w{row}": row for row in range(5, 70_000)}}
    backend = Backend(models.WordPiece(big, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    assert Tokenizer(pretrained(backend, 64)).encode(["w69999"], 8)[0].tolist() == [69_999]


def test_a_vocabulary_file_is_read_as_berts(tmp_path: Path) -> None:
    path = tmp_path / "vocab.txt"
    lines = [*SPECIAL, "the", "ot", "##ter", "\u2028", "\x85", "!", "elan"]  # BERT's multilingual one has such lines
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    tokenizer = open_tokenizer(path)
    assert tokenizer.size == len(lines)
    library = BertWordPieceTokenizer({line: row for row, line in enumerate(lines)}, lowercase=True)
    for text in ["The otter!", "Élan ter", "the\u2028otter"]:
        assert tokenizer.encode([text], 64)[0].tolist() == library.encode(text).ids


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[PAD]\n[UNK]\nthe\n", r"vocab\.txt: not a WordPiece vocabulary; it lacks \[CLS\], \[SEP\], \[MASK\]"),
        (b"", r"vocab\.txt: not a WordPiece vocabulary"),
        ("[PAD]\nfröhlich\n".encode("latin-1"), r"vocab\.txt: not UTF-8 text"),
    ],
)
def test_what_is_no_vocabulary_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "vocab.txt").write_bytes(content)
    with pytest.raises(DataError, match=message):
        open_tokenizer(tmp_path / "vocab.txt")


@pytest.mark.parametrize("content", ["{", "{}", '{"added_tokens": [], "model": {"type": "Nothing"}}'])
def test_a_broken_tokenizer_file_is_refused(tmp_path: Path, wordpiece: Tokenizer, content: str) -> None:
    wordpiece.save(tmp_path)
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(DataError, match=f"{tmp_path}: can't be opened as a tokenizer"):
        open_tokenizer(tmp_path)


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no tokenizer in it"):
        open_tokenizer(tmp_path)


def test_a_text_without_words_trains_nothing() -> None:
    with pytest.raises(DataError, match="the text is empty"):
        train_tokenizer(["", " \n"], 100, True, 64)
