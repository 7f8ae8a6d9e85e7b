"""Parquet files, a batch of rows at a time and only the columns asked for; an error names file and row."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from seedcli.base.errors import DataError

BATCH = 1_000  # rows held at a time
BUFFER = 1 << 20  # bytes of each column read at a time; without it, a whole row group is


def read_rows(path: Path, names: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The columns of some names, as a record a row with where it stands ("path: row 1"). A null is None."""
    read = 0
    with _opened(path) as file:
        for batch in file.iter_batches(BATCH, columns=list(names), use_threads=False):
            rows = zip(*(column.to_pylist() for column in batch.columns), strict=True)
            for row, values in enumerate(rows, read + 1):
                yield f"{path}: row {row}", dict(zip(batch.schema.names, values, strict=True))
            read += batch.num_rows
    if not read:
        raise DataError(f"{path}: no rows in it")


def columns(path: Path) -> list[str]:
    """The names of a file's columns, from its footer."""
    with _opened(path) as file:
        return [str(name) for name in file.schema_arrow.names]


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    try:
        with path.open("rb") as source, ParquetFile(source, buffer_size=BUFFER, pre_buffer=False) as file:
            yield file
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None)
        told = reason.lower() if reason else f"broken Parquet file ({str(error).splitlines()[0]:.200})"
        raise DataError(f"{path}: {told}") from None
