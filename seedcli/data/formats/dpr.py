"""DPR's files: Wikipedia in passages of 100 words, questions with their answers, and training examples."""

import ast
import codecs
import json
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from seedcli.base.errors import DataError
from seedcli.data.collections import Collection, PassageFiles
from seedcli.data.formats.filenames import files_by_split, first_file
from seedcli.data.lines import field, first_line, id_field, open_bytes, read_jsonl, read_lines, read_table
from seedcli.data.records import Example, Passage, Query, clean

EXAMPLES = {r"biencoder-((?:.+-)?(?:train|dev))\.jsonl?": r"\1"}
QUESTIONS = {
    r"((?:.+-)?(?:train|dev|test))(?:\.qas?)?\.[ct]sv": r"\1",
    r"topics\.dpr\.(.+)\.(train|dev|test)\.txt": r"\1-\2",
}
CHUNK = 1 << 20  # bytes of a JSON array read at a time
LONGEST = 1 << 26  # characters of one of its records
CUT = 10  # characters before the end of a chunk: what JSON can't read there may be half a word or half a number
BLANKS = re.compile(r"[ \t\r\n]*")
DECODER = json.JSONDecoder()


def open_folder(folder: Path) -> Collection | None:
    """The collection in a folder, None where there is no psgs_w100.tsv.

    Its splits are train, dev and test; where several sets have one, it goes as nq-train and trivia-train.
    """
    passages = first_file(folder, "psgs_w100.tsv")
    if passages is None:
        return None
    return Collection(
        folder,
        PassageFiles([passages], read_passages),
        {split: partial(read_questions, path) for split, path in _splits(folder, QUESTIONS).items()},
        example_readers={split: partial(read_examples, path) for split, path in _splits(folder, EXAMPLES).items()},
    )


def _splits(folder: Path, names: Mapping[str, str]) -> dict[str, Path]:
    files = files_by_split(folder, names)
    splits = {name: name.rpartition("-")[2] for name in files}
    times = Counter(splits.values())
    return {splits[name] if times[splits[name]] == 1 else name: path for name, path in files.items()}


def read_passages(path: Path) -> Iterator[Passage]:
    """psgs_w100.tsv: id, text and title, named by a header; texts with a quotation mark stand in quotes, as in CSV."""
    for where, row in read_table(path):
        title, text = (_unquoted(field(row, name, where)) for name in ("title", "text"))
        yield Passage(id_field(row, "id", where), title, text)


def read_questions(path: Path) -> Iterator[Query]:
    """Questions with their answers, in columns or as JSON lines; ids are numbers from 0, as Pyserini gives them."""
    as_records = first_line(path).startswith("{")
    questions = _questions_of_records(path) if as_records else _questions_of_columns(path)
    for number, (question, answers) in enumerate(questions):
        yield Query(str(number), question, answers)


def _questions_of_columns(path: Path) -> Iterator[tuple[str, tuple[str, ...]]]:
    where = ""
    for number, line in read_lines(path):
        where = f"{path}:{number}"
        question, *rest = map(_unquoted, line.split("\t"))
        if len(rest) != 1:
            raise DataError(f"{where}: expected \"question TAB ['answer', ...]\", got {line!r:.80}")
        try:
            answers = ast.literal_eval(rest[0].strip())
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            answers = rest[0]
        yield clean(question), _answers(answers, where)
    if not where:
        raise DataError(f"{path}: no questions in it")


def _questions_of_records(path: Path) -> Iterator[tuple[str, tuple[str, ...]]]:
    for where, record in read_jsonl(path):
        answers = record["answers"] if "answers" in record else record.get("answer")
        yield field(record, "question", where), _answers(answers, where)


def _unquoted(cell: str) -> str:
    """What a CSV writer put in quotes as it was before; a text that merely begins and ends with one stays."""
    if len(cell) < 2 or not cell[0] == cell[-1] == '"':
        return cell
    inner = cell[1:-1]
    return cell if '"' in inner.replace('""', "") else inner.replace('""', '"')


def _answers(value: Any, where: str) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(answer, str) for answer in value):
        raise DataError(f"{where}: expected a list of answers, got {value!r:.80}")
    return tuple(map(clean, value))


def read_examples(path: Path) -> Iterator[Example]:
    """Questions with the passages found for them, hard negatives before others; one JSON array, or JSON lines."""
    as_array = first_line(path).lstrip().startswith("[")
    for where, record in _read_array(path) if as_array else read_jsonl(path):
        if "positive_ctxs" not in record:
            raise DataError(f"{where}: no field 'positive_ctxs'; it has {', '.join(map(repr, record)) or 'none'}")
        query = Query("", field(record, "question", where), _answers(record.get("answers", []), where))
        negatives = _contexts(record, "hard_negative_ctxs", where) + _contexts(record, "negative_ctxs", where)
        yield Example(query, _contexts(record, "positive_ctxs", where), negatives)


def _contexts(record: dict[str, Any], name: str, where: str) -> tuple[Passage, ...]:
    contexts = [] if record.get(name) is None else record[name]
    if not isinstance(contexts, list) or not all(isinstance(context, dict) for context in contexts):
        raise DataError(f"{where}: the field {name!r} is not a list of passages")
    return tuple(
        Passage(
            str(context.get("passage_id") or context.get("psg_id") or ""),
            field(context, "title", where, ""),
            field(context, "text", where),
        )
        for context in contexts
    )


def _read_array(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each record of a JSON array with where it begins ("path:line"); a chunk and a record are held at a time."""
    window = _Window(path)
    window.take("[")
    follows = ","
    while follows == ",":
        window.peek()
        where = f"{path}:{window.line}"
        yield where, window.record()
        follows = window.take(",", "]")
    if window.peek():
        raise window.unexpected("the end of the file")


class _Window:
    """The part of a JSON text that is held, from the place that is read next; `line` is the line of that place."""

    def __init__(self, path: Path):
        self.path, self.chunks = path, _chunks(path)
        self.text, self.at, self.line = "", 0, 1

    def peek(self) -> str:
        """The next character that is no blank, "" at the end."""
        while True:
            self._move(BLANKS.match(self.text, self.at).end())  # type: ignore[union-attr]
            if self.at < len(self.text) or not self._more():
                return self.text[self.at : self.at + 1]

    def take(self, *expected: str) -> str:
        found = self.peek()
        if found not in expected:
            raise self.unexpected(" or ".join(map(repr, expected)))
        self._move(self.at + len(found))
        return found

    def record(self) -> dict[str, Any]:
        if self.peek() != "{":
            raise self.unexpected("an object {...}")
        while True:
            try:
                value, end = DECODER.raw_decode(self.text, self.at)
            except RecursionError:
                raise self._error(self.at, "not JSON (nested too deep)") from None
            except json.JSONDecodeError as error:
                whole = error.pos < len(self.text) - CUT and not error.msg.startswith("Unterminated string")
                if whole or not self._more():
                    raise self._error(error.pos, f"not JSON ({error.msg})") from None
            else:
                self._move(end)
                return dict(value)

    def _more(self) -> bool:
        """Drop what was read and hold a chunk more. False at the end of the file."""
        chunk = next(self.chunks, "")
        self.text, self.at = self.text[self.at :] + chunk, 0
        if len(self.text) > LONGEST:
            raise self._error(0, f"a record of more than {LONGEST:,} characters")
        return chunk != ""

    def _move(self, at: int) -> None:
        self.line += self.text.count("\n", self.at, at)
        self.at = at

    def unexpected(self, wanted: str) -> DataError:
        there = repr(self.text[self.at : self.at + 40]) if self.at < len(self.text) else "the end of the file"
        return self._error(self.at, f"expected {wanted}, got {there}")

    def _error(self, at: int, problem: str) -> DataError:
        line = self.line + self.text.count("\n", self.at, at)
        return DataError(f"{self.path}:{line}: {problem}")


def _chunks(path: Path) -> Iterator[str]:
    """The text of a file, a part at a time."""
    decoder, line, last = codecs.getincrementaldecoder("utf-8-sig")(), 1, False
    try:
        with open_bytes(path) as file:
            while not last:
                data = file.read(CHUNK)
                last = not data
                text = decoder.decode(data, last)
                line += text.count("\n")
                if text:
                    yield text
    except UnicodeDecodeError as error:
        line += error.object.count(b"\n", 0, error.start)
        raise DataError(f"{path}:{line}: not UTF-8 text") from None
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(f"{path}:{line}: broken file ({error})") from None
