"""Runs as files: in the TREC format, or in Parquet, which is smaller; written as a stream, and in parts."""

import math
import re
import shutil
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, count, islice
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from seedcli.base.errors import DataError, telling_refusals
from seedcli.base.files import written_whole
from seedcli.base.manifest import read_manifest
from seedcli.data.lines import first_line, read_lines
from seedcli.data.ragged import padded_bytes
from seedcli.retrieval.runs import Columns, Ranking, Run, collected, columns, ordered_once, utf8
from seedcli.retrieval.trec_columns import UnclearError, read_columns

Format = Literal["trec", "parquet"]
LINES_AT_ONCE = 1 << 16
PART = 1 << 12  # queries of a part
ROWS = 1 << 17  # of a group in Parquet
LINE = re.compile(r"(\S+\s+){3}-?\d+\s+\S+\s+\S+\s*")  # the fourth column is a rank; six words of a triple hold none
COLUMNS = pa.schema([
    ("query", pa.string()), ("document", pa.string()), ("rank", pa.int32()), ("score", pa.float32())
])  # fmt: skip


def read_run(path: Path) -> Run:
    """The run in a file: TREC (`query Q0 document rank score tag`), or Parquet with the columns that `write_run` gives.

    The scores alone decide the order, the ranks are ignored.
    """
    numbers: dict[str, int] = {}
    try:
        run = collected(numbers, (_parquet_parts if path.suffix == ".parquet" else _trec_parts)(path, numbers))
    except UnclearError:  # line by line, which tells the line
        numbers.clear()
        run = collected(numbers, _line_parts(path, numbers))
    if not run.queries:
        raise DataError(f"{path}: no rankings in it")
    return run


def write_run(path: Path, rankings: Iterable[Ranking], tag: str) -> None:
    """A run, of Parquet if it is called so, whose scores and order `read_run` gives back to the bit."""
    with telling_refusals(path), written_whole(path) as aside:
        (_write_parquet if path.suffix == ".parquet" else _write_trec)(aside, map(_in_order, rankings), tag)


def write_in_parts(path: Path, total: int, rankings: Iterator[Ranking], tag: str) -> None:
    """A run of `total` queries; each has a ranking, and those of parts that are there already come no more.

    A command that is killed and repeated goes on after the last whole part.
    """
    parts = [part_path(path, number) for number in range(math.ceil(total / PART))]
    for part in parts[math.ceil(begun_queries(path, total) / PART) :]:
        write_run(part, islice(rankings, PART), tag)
    deque(rankings, maxlen=0)  # to their end, which other processes may come to as well
    with telling_refusals(path), written_whole(path) as aside:
        (_join_parquet if path.suffix == ".parquet" else _join_trec)(aside, parts)


def parts_folder(path: Path) -> Path:
    return path.with_name(f"parts-of-{PART}")


def part_path(path: Path, number: int) -> Path:
    return parts_folder(path) / f"{number:05}{path.suffix}"


def begun_queries(path: Path, total: int) -> int:
    """Of how many queries of a run, from the first on, the parts are there already."""
    return min(total, PART * next(number for number in count() if not part_path(path, number).is_file()))


def holds_run(path: Path) -> bool:
    """Whether a path holds a run: a folder of seed search, or a file with the columns of a run."""
    if path.is_dir():
        made = read_manifest(path)
        return bool(_runs_in(path)) or (made is not None and made.verb == "search")
    if path.suffix == ".parquet":
        return {"query", "document", "score"} <= set(_schema(path).names)
    return LINE.fullmatch(first_line(path)) is not None


def run_path(path: Path) -> Path:
    """The run that a path names: a file, or run.trec or run.parquet in a folder of seed search."""
    if not path.is_dir():
        return path
    if not (found := _runs_in(path)):
        raise DataError(f"{path}: no run.trec or run.parquet in it; give a folder that seed search left, or a run")
    return found[0]


def _runs_in(folder: Path) -> list[Path]:
    return [path for path in (folder / "run.trec", folder / "run.parquet") if path.is_file()]


def _in_order(ranking: Ranking) -> tuple[str, list[str], NDArray[np.float32]]:
    """A query with its documents in order, each once. Raises DataError for a score that is no number."""
    query, documents, scores = ranking
    if np.isnan(scores).any():
        raise DataError(f"query {query}: a score is NaN; look for NaN in the model's weights or the vectors")
    rows = ordered_once(utf8(documents), scores)
    return query, [documents[row] for row in rows.tolist()], scores[rows]


def _write_trec(path: Path, rankings: Iterable[tuple[str, list[str], NDArray[np.float32]]], tag: str) -> None:
    with path.open("w", encoding="utf-8") as file:
        for query, documents, scores in rankings:
            _check_words([tag, query, *documents])
            ranked = enumerate(zip(documents, scores.tolist(), strict=True), 1)
            file.write("".join(f"{query} Q0 {name} {rank} {score:.9g} {tag}\n" for rank, (name, score) in ranked))


def _write_parquet(path: Path, rankings: Iterable[tuple[str, list[str], NDArray[np.float32]]], tag: str) -> None:
    with pq.ParquetWriter(path, COLUMNS.with_metadata({"tag": tag}), compression="zstd") as file:
        for some in _row_groups(rankings):
            names, documents, scores = zip(*some, strict=True)
            counts = list(map(len, documents))
            columns = [
                pa.array(names).take(pa.array(np.repeat(np.arange(len(names)), counts))),
                pa.array(chain.from_iterable(documents), pa.string(), size=sum(counts)),
                pa.array(np.concatenate([np.arange(1, size + 1, dtype=np.int32) for size in counts])),
                pa.array(np.concatenate(scores).astype(np.float32)),
            ]
            file.write_table(pa.table(columns, schema=file.schema))


def _row_groups(
    rankings: Iterable[tuple[str, list[str], NDArray[np.float32]]],
) -> Iterator[list[tuple[str, list[str], NDArray[np.float32]]]]:
    """Some queries' rankings at a time, of ROWS documents or a little more."""
    some: list[tuple[str, list[str], NDArray[np.float32]]] = []
    rows = 0
    for ranking in rankings:
        some.append(ranking)
        rows += len(ranking[1])
        if rows >= ROWS:
            yield some
            some, rows = [], 0
    if some:
        yield some


def _join_trec(path: Path, parts: Sequence[Path]) -> None:
    with path.open("wb") as file:
        for part in parts:
            with part.open("rb") as source:
                shutil.copyfileobj(source, file)


def _join_parquet(path: Path, parts: Sequence[Path]) -> None:
    with pq.ParquetWriter(path, pq.read_schema(parts[0]), compression="zstd") as file:
        for part in map(pq.ParquetFile, parts):
            for number in range(part.num_row_groups):
                file.write_table(part.read_row_group(number))


def _trec_parts(path: Path, numbers: dict[str, int]) -> Iterator[Columns]:
    """`numbers` grows by the queries met. Raises UnclearError."""
    return (_arrow_columns(table.combine_chunks(), numbers) for table in read_columns(path))


def _line_parts(path: Path, numbers: dict[str, int]) -> Iterator[Columns]:
    rows = _read_rows(path, numbers)
    while chunk := list(islice(rows, LINES_AT_ONCE)):
        yield columns(*zip(*chunk, strict=True))


def _parquet_parts(path: Path, numbers: dict[str, int]) -> Iterator[Columns]:
    """`numbers` grows by the queries met. Raises DataError for a file without the columns of a run."""
    schema = _schema(path)
    if missing := [name for name in ("query", "document", "score") if name not in schema.names]:
        raise DataError(f"{path}: no column {missing[0]!r} of a run; it has {', '.join(schema.names)}")
    for batch in pq.ParquetFile(path).iter_batches(LINES_AT_ONCE, columns=["query", "document", "score"]):
        scores = batch["score"].cast(pa.float32())
        if batch["query"].null_count or batch["document"].null_count or scores.null_count:
            raise DataError(f"{path}: a row without a query, a document or a score")
        if pc.any(pc.is_nan(scores)).as_py():
            raise DataError(f"{path}: a score is not a number")
        yield _arrow_columns(pa.Table.from_batches([batch]), numbers)


def _arrow_columns(table: "pa.Table", numbers: dict[str, int]) -> Columns:
    """Rows of query, document and score; `numbers` grows by the queries met."""
    queries = pa.concat_arrays(table["query"].chunks).cast(pa.string()).dictionary_encode()
    own = np.array([numbers.setdefault(name, len(numbers)) for name in queries.dictionary.to_pylist()], np.int64)
    documents = _bytes_of(pa.concat_arrays(table["document"].chunks))
    with np.errstate(over="ignore"):  # what no float32 holds is infinite
        scores = table["score"].to_numpy().astype(np.float32)
    return Columns(own[queries.indices.to_numpy()], documents, scores)


def _bytes_of(texts: "pa.Array") -> NDArray[np.bytes_]:
    """The texts, as wide as the longest."""
    whole = pa.concat_arrays([texts.cast(pa.large_string())])  # without an offset
    if len(whole) and pc.all(pc.string_is_ascii(whole)).as_py():
        width = max(1, pc.max(pc.binary_length(whole)).as_py())
        _, _, letters = pc.ascii_rpad(whole, width, "\0").buffers()
        return np.frombuffer(letters, f"S{width}", len(whole))
    _, offsets, letters = whole.buffers()
    places = np.frombuffer(offsets, np.int64)[whole.offset : whole.offset + len(whole) + 1]
    return padded_bytes(np.frombuffer(letters or b"", np.uint8), places[:-1], places[1:])


def _schema(path: Path) -> "pa.Schema":
    try:
        return pq.read_schema(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: not a Parquet file ({str(error).splitlines()[0]:.80})") from None


def _read_rows(path: Path, numbers: dict[str, int]) -> Iterator[tuple[int, str, float]]:
    """Query number, document and score of each line; `numbers` grows by the queries met."""
    for number, line in read_lines(path):
        parts = line.split()
        if len(parts) != 6:
            raise DataError(f"{path}:{number}: expected 'query Q0 document rank score tag', got {line!r:.80}")
        try:
            score = float(parts[4])
        except ValueError:
            score = math.nan
        if math.isnan(score):
            raise DataError(f"{path}:{number}: the score {parts[4]!r:.40} is not a number")
        yield numbers.setdefault(parts[0], len(numbers)), parts[2], score


def _check_words(words: list[str]) -> None:
    if " ".join(words).split() != words:
        word = next(word for word in words if word.split() != [word])
        raise DataError(f"a TREC run cannot hold the name {word!r}: it is empty or has whitespace in it")
