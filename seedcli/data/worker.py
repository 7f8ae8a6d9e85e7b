"""What several processes do to a text: tokenise its lines, count words, look for answers; a program of its own.

The first JSON line on stdin names the task, each further one is a chunk: a list of lines. A chunk is answered on stdout
by the sizes of some parts as a JSON line, and the parts; or by a JSON text: what is wrong. When stdin closes, no more
is to come, or the parent is gone.
"""

import gc
import json
import os
import re
import sys
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar

from tokenizers import Tokenizer as Backend
from tokenizers import normalizers, pre_tokenizers

from seedcli.base.errors import DataError
from seedcli.data.answers import Kind, judge

REMEMBERED = 50_000  # keys, some 10 MB of them
BATCH = 1_000  # lines handed to the tokenizer's threads at a time
SHORT = 64  # characters of a key that is remembered: in languages without blanks a key is a whole line
LONGEST = 100  # characters; WordPiece takes longer words for [UNK]
SENTENCE = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])")
ASCII_WORDS = re.compile(r"[^\W_]+|[\W_]", re.ASCII)  # as BERT's pre-tokeniser parts what is ASCII and printable

Parts = list[bytes]
Answer = Callable[[Sequence[str]], Parts]
Value = TypeVar("Value")


class Remembered(dict[str, Value], Generic[Value]):
    """What `make` gives for a key, made once: until there are many keys, and all are forgotten."""

    def __init__(self, make: Callable[[str], Value]):
        self.make = make

    def __missing__(self, key: str) -> Value:
        value = self.make(key)
        if len(key) <= SHORT:
            if len(self) >= REMEMBERED:
                self.clear()
            self[key] = value
        return value


def main() -> None:
    gc.disable()  # what is remembered refers to nothing, and is looked through again and again
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints
    try:
        answer = start(**json.loads(sys.stdin.buffer.readline() or sys.exit()))
        for chunk in sys.stdin.buffer:
            try:
                parts = answer(json.loads(chunk))
                answers.writelines([json.dumps([*map(len, parts)]).encode() + b"\n", *parts])
            except DataError as error:
                answers.write(json.dumps(str(error)).encode() + b"\n")
            answers.flush()
    except BrokenPipeError:
        os._exit(1)  # the parent is gone; a common end would flush, and fail


def start(task: str, **options: Any) -> Answer:
    tasks: dict[str, Callable[..., Answer]] = {"tokenise": tokenise, "count": count, "match": match}
    return tasks[task](**options)


def tokenise(tokenizer: str, leaks: list[int], suffix: list[int], room: int, code: str) -> Answer:
    """Chunks to units of at most `room` ids: whole lines, else their sentences, else pieces of these.

    Two parts: how many ids each unit has with its suffix, and 0 for each empty line; then all ids as an array `code`.
    """
    words, end = tokeniser(tokenizer, leaks, code), array(code, suffix).tobytes()
    size = array(code).itemsize

    def units(line: str, ids: bytes) -> Iterator[bytes]:
        if len(ids) <= room * size:
            yield ids
            return
        for sentence in words(SENTENCE.split(line)):
            for begin in range(0, len(sentence), room * size):
                yield sentence[begin : begin + room * size]

    def answer(lines: Sequence[str]) -> Parts:
        counts = array("I")
        parts: Parts = []
        for line, ids in zip(lines, words(lines), strict=True):
            if not line:
                counts.append(0)
                continue
            for unit in filter(None, units(line, ids)):
                counts.append(len(unit) // size + len(suffix))
                parts += (unit, end)
        return [counts.tobytes(), b"".join(parts)]

    return answer


def tokeniser(tokenizer: str, leaks: list[int], code: str) -> Callable[[Sequence[str]], list[bytes]]:
    """A function from texts to the ids of each, as an array's bytes: those that the library gives.

    Where a blank always parts words, what stands between two is tokenised once and remembered.
    """
    backend = Backend.from_str(tokenizer)
    backend.encode_special_tokens = True
    by_library = library_tokeniser(backend, leaks, code)
    by_blanks = blanks_tokeniser(backend, code, by_library) if parts_at_blanks(backend) and not leaks else by_library

    def ids(texts: Sequence[str]) -> list[bytes]:
        try:
            return by_blanks(texts)
        except Exception as error:
            if type(error) is not Exception:  # tokenizers raises nothing narrower
                raise
            raise DataError(f"the tokenizer can't take the text in ({error})") from None

    return ids


def library_tokeniser(backend: Backend, leaks: list[int], code: str) -> Callable[[Sequence[str]], list[bytes]]:
    def tokenised(texts: Sequence[str]) -> Iterator[bytes]:
        for begin in range(0, len(texts), BATCH):
            for encoding in backend.encode_batch_fast(texts[begin : begin + BATCH], add_special_tokens=False):
                ids = [id_ for id_ in encoding.ids if id_ not in leaks] if leaks else encoding.ids
                yield array(code, ids).tobytes()

    return lambda texts: [*tokenised(texts)]


def blanks_tokeniser(
    backend: Backend, code: str, by_library: Callable[[Sequence[str]], list[bytes]]
) -> Callable[[Sequence[str]], list[bytes]]:
    split, model = ascii_splitter(backend), backend.model.tokenize
    words = Remembered(lambda word: array(code, [token.id for token in model(word)]).tobytes())

    def make(stretch: str) -> bytes:
        found = split(stretch)
        return by_library([stretch])[0] if found is None else b"".join(map(words.__getitem__, found))

    stretches = Remembered(make)
    return lambda texts: [b"".join(map(stretches.__getitem__, text.split(" "))) for text in texts]


def count(tokenizer: str) -> Answer:
    """Chunks to their words, as BERT's pre-tokeniser parts them: a part of lines, and one of how often each occurs."""
    words = Remembered(splitter(Backend.from_str(tokenizer)))

    def answer(lines: Sequence[str]) -> Parts:
        stretches: Counter[str] = Counter()
        for line in lines:
            stretches.update(line.split(" "))
        counts: dict[str, int] = {}
        for stretch, times in stretches.items():
            for word in words[stretch]:
                counts[word] = counts.get(word, 0) + times
        return ["\n".join(counts).encode(), array("Q", counts.values()).tobytes()]

    return answer


def match(answers: list[list[str]], kind: Kind) -> Answer:
    """Chunks of passages, each after the rows of the queries that found it (`3,17 TAB text`), to a byte for each pair.

    The byte is that of `answers.Found`.
    """
    judged = judge(answers, kind)

    def answer(lines: Sequence[str]) -> Parts:
        asked = (line.partition("\t") for line in lines)
        return [b"".join(bytes(judged(text, map(int, rows.split(",")))) for rows, _, text in asked)]

    return answer


def splitter(backend: Backend) -> Callable[[str], list[str]]:
    """A function from a text to its words, of those that have a length which WordPiece takes."""
    split = ascii_splitter(backend)

    def words(text: str) -> list[str]:
        found = split(text)
        if found is None:
            normal = backend.normalizer.normalize_str(text)
            found = [word for word, _ in backend.pre_tokenizer.pre_tokenize_str(normal)]
        return [word for word in found if len(word) <= LONGEST]

    return words


def ascii_splitter(backend: Backend) -> Callable[[str], list[str] | None]:
    """A function to the words of a text without blanks as BERT's normaliser leaves them; None where it isn't plain."""
    lowercase = backend.normalizer.lowercase

    def split(text: str) -> list[str] | None:
        if not (text.isascii() and text.isprintable()):
            return None
        return ASCII_WORDS.findall(text.lower() if lowercase else text)

    return split


def parts_at_blanks(backend: Backend) -> bool:
    """Whether no token reaches over a blank, and none knows of what stands beyond it: as it is with BERT's."""
    return (
        isinstance(backend.normalizer, normalizers.BertNormalizer)
        and isinstance(backend.pre_tokenizer, pre_tokenizers.BertPreTokenizer)
        and all(token.special for token in backend.get_added_tokens_decoder().values())
    )


if __name__ == "__main__":
    main()
