"""Search over texts in memory, without a folder of one's own."""

import json
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from weakref import finalize

from seedcli.api.results import Index, StrPath, open_index
from seedcli.api.verbs import encode, index
from seedcli.base.errors import DataError
from seedcli.base.progress import Progress, Silent

Text = str | tuple[str, str] | Mapping[str, Any]


def index_texts(
    texts: Iterable[Text], model: StrPath | None = None, device: str = "auto", progress: Progress | None = None
) -> Index:
    """An index over texts in memory: of their words (BM25), or of their vectors when a `model` is named.

    A text is a str, whose id is its number from 0; a pair (id, text); or a mapping with "text", and maybe "id" and
    "title". The model is a folder or a name of the Hugging Face hub. All files lie in a temporary folder, which goes
    with the index. Raises DataError for anything that is no text, and for an id that stands twice.
    """
    passages = {}
    for row, text in enumerate([texts] if isinstance(texts, str | Mapping) else texts):
        passage = passage_of(row, text)
        if passage["_id"] in passages:
            raise DataError(f"texts[{row}]: the id {passage['_id']!r} stands twice")
        passages[passage["_id"]] = passage
    if not passages:
        raise DataError("texts: none given")
    folder = Path(tempfile.mkdtemp(prefix="seed-"))
    try:
        corpus, told = folder / "texts", progress or Silent()
        corpus.mkdir()
        with (corpus / "corpus.jsonl").open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(passage) + "\n" for passage in passages.values())
        if model is None:
            made = index(kind="bm25", corpus=corpus, out=folder / "index", progress=told)
        else:
            vectors = encode(model=model, corpus=corpus, device=device, out=folder / "vectors", progress=told)
            made = index(vectors=vectors, out=folder / "index", progress=told)
        opened = open_index(made, device)
    except BaseException:
        shutil.rmtree(folder)
        raise
    finalize(opened, shutil.rmtree, folder, ignore_errors=True)
    return opened


def passage_of(row: int, text: Text) -> dict[str, str]:
    """A text as a line of corpus.jsonl."""
    found: dict[str, Any]
    if isinstance(text, str):
        found = {"_id": str(row), "title": "", "text": text}
    elif isinstance(text, Mapping):
        name = text.get("id", text.get("_id"))
        found = {"_id": str(row if name is None else name), "title": text.get("title") or "", "text": text.get("text")}
    elif isinstance(text, tuple) and len(text) == 2:
        found = {"_id": str(text[0]), "title": "", "text": text[1]}
    else:
        raise DataError(f"texts[{row}]: got {text!r:.60}; expected a str, a pair (id, text), or a mapping with 'text'")
    for field, value in found.items():
        if not isinstance(value, str):
            raise DataError(f"texts[{row}]: its {field} is {value!r:.60}; expected a str")
    return found
