"""MIND's leaderboard: a run as the ranks of what each impression showed, in prediction.txt, in prediction.zip."""

from collections.abc import Sequence
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from seedcli.base.errors import ConfigError, DataError
from seedcli.base.files import written_whole
from seedcli.data.sources import open_collection
from seedcli.retrieval.run_files import read_run
from seedcli.retrieval.runs import Run
from seedcli.stages.stage import Stage

EPOCH = (1980, 1, 1, 0, 0, 0)  # the oldest that zip knows: the same predictions are the same bytes


def check_shown(source: str) -> None:
    """Raises ConfigError for a source that isn't a folder of MIND."""
    if open_collection(source).shown_reader is None:
        raise ConfigError(f"--predictions {source}: shows no impressions; give a folder of MIND, with behaviors.tsv")


def predict(source: Path, path: Path, stage: Stage) -> list[Path]:
    """Leave the predictions beside a run. Raises DataError for a run of other queries."""
    run, (text, packed) = read_run(path), (stage.folder / f"prediction.{ending}" for ending in ("txt", "zip"))
    shown = open_collection(source).shown_reader
    assert shown is not None  # as check_shown saw
    impressions = unranked = 0
    with written_whole(text) as aside:
        with aside.open("w", encoding="utf-8") as file:
            for id_, candidates in shown():
                places = ranks(run, id_, candidates)
                impressions, unranked = impressions + 1, unranked + (not len(run.ranking(id_)[0]))
                file.write(f"{id_} [{','.join(map(str, places))}]\n")
        if unranked == impressions:
            raise DataError(f"{source}: the run has none of its {impressions:,} impressions")
    if unranked:
        told = "of them news rank as they were shown"
        stage.progress.say(f"predictions: the run lacks {unranked:,} of {impressions:,} impressions; {told}")
    with written_whole(packed) as aside, ZipFile(aside, "w") as file:
        whole = ZipInfo(text.name, EPOCH)
        whole.compress_type = ZIP_DEFLATED
        file.writestr(whole, text.read_bytes())
    return [text, packed]


def ranks(run: Run, id_: str, candidates: Sequence[str]) -> list[int]:
    """The rank of each candidate, from 1 on; those that the run lacks come last, in the order shown."""
    found = {document: place for place, document in enumerate(run.ranking(id_)[0].tolist())}
    best = sorted(range(len(candidates)), key=lambda row: found.get(candidates[row].encode(), len(found)))
    places = [0] * len(candidates)
    for rank, row in enumerate(best, 1):
        places[row] = rank
    return places
