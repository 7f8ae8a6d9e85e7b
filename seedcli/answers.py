"""The screen for questions: hits with the sentence that answers best, whole passages, and why a hit was found.

Texts come from anywhere: none of their characters is obeyed as markup or by the terminal.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from seedcli import console
from seedcli.base.counts import amount
from seedcli.console import INDENT, flat, print_line, printable

if TYPE_CHECKING:
    from seedcli.data.records import Passage
    from seedcli.data.sentences import Sentence
    from seedcli.retrieval.hits import Hit
    from seedcli.stages.asking import Answer, Asking, Reason

SNIPPET = 240  # cells of a hit's text where there is no terminal
LINES, MOST = 2, 3  # of a terminal that a hit's text takes; for a long sentence
RAGGED = 9  # cells of them that wrapping between words may lose
FEW = 8  # cells that tell nothing
TOLD = 5  # sentences of a hit that are told with their scores
MARKED = "bold green"


def hits(found: Sequence["Answer"]) -> None:
    """A readable list, the sentence that answers best in bold, or between » and « where nothing can be bold."""
    if not found:
        console.out.print("no hits")
    for rank, (hit, sentence) in enumerate(found, 1):
        wide, bold = console.out.width - INDENT, console.out.is_terminal and console.out.color_system is not None
        longer = sentence is not None and cell_len(flat(hit.text[slice(*sentence)])) > LINES * wide - RAGGED
        named(rank, hit)
        room = (MOST if longer else LINES) * wide - RAGGED if console.out.is_terminal else SNIPPET
        print_line(snippet(hit.text, sentence, room, bold), INDENT)


def asked(question: str) -> None:
    """A question that doesn't stand on the screen already."""
    print_line(Text(flat(question), "bold"))


def welcome(asking: "Asking") -> None:
    """What is asked, and where its commands are told."""
    opened = zip(asking.config.index, asking.searcher.indexes, strict=True)
    sizes = (f"{amount(index.size, index.unit)} in {folder}" for folder, index in opened)
    console.line(console.err, Text(f"{' and '.join(sizes)}; :help tells what can be typed", "dim"))


def named(rank: int, hit: "Hit") -> None:
    """A hit's rank, score, title and id."""
    name = Text(flat(hit.title or hit.id), "bold")
    if hit.title:
        name.append(f"  {printable(hit.id)}", "not bold dim")
    console.named([f"{rank:>3}", f"{hit.score:.4f}"], name)


def snippet(text: str, sentence: "Sentence | None", room: int, bold: bool) -> Text:
    """A sentence of a text, marked, with what stands around it as far as there is room; or how the text begins."""
    if sentence is None:
        return Text(beginning(flat(text[: 4 * room]), room))
    begin, end = sentence
    marked = beginning(flat(text[begin:end]), room)
    before, after = flat(text[max(0, begin - 4 * room) : begin]), flat(text[end : end + 4 * room])
    room = max(0, room - cell_len(marked))
    before = ending(before, max(room // 3, room - cell_len(after)))
    after = beginning(after, room - cell_len(before))
    left, right = (" " if text[at : at + 1].isspace() else "" for at in (begin - 1, end))
    told = Text(marked, MARKED) if bold else Text(f"»{marked}«")
    return Text.assemble(before + left if before else "", told, right + after if after else "")


def beginning(text: str, cells: int) -> str:
    """As much of a text as there is room for, up to a blank if one stands in the later half of that."""
    if cell_len(text) <= cells:
        return text
    if cells < FEW:
        return "…" if cells > 0 else ""
    words = set_cell_size(text, cells).rpartition(" ")[0]
    return (words if 2 * cell_len(words) >= cells else set_cell_size(text, cells - 1).rstrip()) + "…"


def ending(text: str, cells: int) -> str:
    """As much of its end."""
    return text if cell_len(text) <= cells else beginning(text[::-1], cells)[::-1]


def passage(found: "Passage") -> None:
    """The whole of a passage, its lines as they are."""
    print_line(Text.assemble((flat(found.title), "bold"), "  " if found.title else "", (printable(found.id), "dim")))
    for text in filter(None, [found.url, *found.text.splitlines()]):
        print_line(Text(printable(text)))


def reasons(rank: int, hit: "Hit", found: Sequence["Reason"], fusion_k: int | None) -> None:
    """What each index makes of a hit; of several, how their ranks make its score, where these alone do."""
    named(rank, hit)
    if len(found) > 1 and fusion_k is None:
        print_line(Text(f"{hit.score:.4f}, a weighted sum"), INDENT)
    elif len(found) > 1:
        ranks = [reason.rank for reason in found if reason.rank is not None]
        print_line(Text(f"{hit.score:.4f} = {' + '.join(f'1/({fusion_k} + {place})' for place in ranks)}"), INDENT)
    for reason in found:
        place = "not among its hits" if reason.rank is None else f"rank {reason.rank}, score {reason.score:.4f}"
        print_line(Text.assemble((printable(reason.folder), "cyan"), f": {place}"), INDENT)
        for sentence, score in reason.sentences[:TOLD]:
            print_line(Text(f"{score:.4f}  {beginning(flat(hit.text[slice(*sentence)]), SNIPPET)}"), 2 * INDENT)
        for word, weight in sorted(reason.words, key=lambda one: -one[1]):
            if weight:
                print_line(Text(f"{weight:.4f}  {printable(word)}"), 2 * INDENT)
        if missing := [printable(word) for word, weight in reason.words if not weight]:
            print_line(Text(f"not in it: {', '.join(missing)}", "dim"), 2 * INDENT)


def rows(found: Sequence["Answer"]) -> list[dict[str, Any]]:
    """Hits for other programs; where the sentence begins and ends in the text is told in characters."""
    return [
        {
            "rank": rank,
            "id": hit.id,
            "score": hit.score,
            "title": hit.title,
            "text": hit.text,
            "sentence": part(hit.text, sentence) if sentence else None,
        }
        for rank, (hit, sentence) in enumerate(found, 1)
    ]


def part(text: str, sentence: "Sentence") -> dict[str, Any]:
    return {"text": text[slice(*sentence)], **sentence._asdict()}


def reason_rows(hit: "Hit", found: Sequence["Reason"]) -> list[dict[str, Any]]:
    """What each index makes of a hit, for other programs."""
    return [
        {
            "index": reason.folder,
            "rank": reason.rank,
            "score": reason.score,
            "sentences": [{**part(hit.text, sentence), "score": score} for sentence, score in reason.sentences],
            "words": dict(reason.words),
        }
        for reason in found
    ]
