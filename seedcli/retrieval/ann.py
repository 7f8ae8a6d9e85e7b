"""Approximate search by faiss: an index is trained, filled with the rows of the shards, opened, and searched.

The one module that knows faiss. Letters: N vectors, D their width, Q queries, c candidates a query, n of a batch.
"""

import importlib.util
import json
import math
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from seedcli.base.errors import REFUSED, ConfigError, DataError
from seedcli.base.files import write_text, written_whole
from seedcli.base.machine import memory
from seedcli.base.progress import Progress
from seedcli.data.batches import permuted
from seedcli.retrieval import exact
from seedcli.retrieval.design import CENTRES, EACH, EF_SEARCH, OWN, TRAINED, Asked, Design, Knob, because, check_asked
from seedcli.retrieval.exact import Hits
from seedcli.retrieval.matrix import Matrix, unit_rows
from seedcli.retrieval.runs import order
from seedcli.retrieval.vectors import Shard, ids_of

Floats = NDArray[np.float32]

BATCH = 1 << 14  # vectors that are added at a time: the same ones however the shards are cut
SAVE = 60.0  # seconds of filling between two saves, at least
COST = 20  # and so many times what a save takes
AT_ONCE, HITS = 1 << 10, 1 << 20  # queries of a call, and candidates of all of them
PIECE = 1 << 24  # bytes that are read of a file at a time
ROUNDS = 10  # of training a rotation: 50, faiss's own, take five times as long and find no more
GPU_MOST = 2_048  # candidates, and probes, that faiss takes on a GPU
FEW = 20  # vectors from which on distances are products of matrices
SAID = re.compile(r"failed: |Error: |\.(?:cpp|h):\d+: ")  # what stands before it
DEADLY = re.compile(r"(?<!\d)0+(?!\d)|(?:HNSW|NSG)0*1(?!\d)")  # sizes that end the process, or never end


class Rows(NamedTuple):
    """The vectors of all shards by their rows; `unit`: each brought to length 1."""

    shards: Sequence[Shard]
    unit: bool = False

    @property
    def size(self) -> int:
        return sum(shard.size for shard in self.shards)

    @property
    def width(self) -> int:
        return self.shards[0].width

    def at(self, rows: NDArray[np.int64]) -> Floats:
        """Those of ascending rows [n, D]. Raises DataError for one that holds no numbers."""
        found, first = np.empty((len(rows), self.width), np.float32), 0
        for shard in self.shards:
            begin, end = np.searchsorted(rows, [first, first + shard.size]).tolist()
            for start in range(begin, end, BATCH):
                own = rows[start : min(start + BATCH, end)] - first
                together = own[-1] - own[0] == len(own) - 1
                part = shard.stored().floats(slice(own[0], own[-1] + 1) if together else own)
                if not np.isfinite(part).all():
                    raise DataError(f"{shard.path}: a vector holds NaN or an infinite number; encode anew")
                found[start : start + len(own)] = part
            first += shard.size
        for begin in range(0, len(rows) if self.unit else 0, BATCH):  # which takes several times the room of its rows
            found[begin : begin + BATCH] = self.of_length(found[begin : begin + BATCH])
        return found

    def of_length(self, vectors: Floats) -> Floats:
        return unit_rows(torch.from_numpy(vectors)).numpy() if self.unit else np.ascontiguousarray(vectors)

    def sample(self, count: int, *key: int) -> NDArray[np.int64]:
        """So many different rows drawn by a key, ascending."""
        return np.sort(permuted(np.arange(min(count, self.size), dtype=np.int64), self.size, *key))


class Spent(NamedTuple):
    """Seconds that an index took so far."""

    train: float = 0.0
    fill: float = 0.0


def need_faiss() -> None:
    """Raises ConfigError where it is missing."""
    if importlib.util.find_spec("faiss") is None:
        raise ConfigError(
            'approximate indexes need faiss: pip install "seedcli[cpu]", or "seedcli[gpu]" for its GPU build'
        )


def own_design(factory: str, vectors: int, width: int, asked: Asked) -> Design:
    """How an index of faiss's own description is built. Raises ConfigError for one that can't be."""
    check_asked(factory, OWN, asked)
    index = empty(Design(factory), width)
    lists = getattr(lists_of(index), "nlist", 0)
    if lists > min(vectors, asked.train or vectors):
        raise ConfigError(f"--kind {factory}: {lists:,} lists, and {vectors:,} vectors to train them on")
    knob = knob_of(index)
    for other in {"probes", "ef_search"} - {knob}:
        if getattr(asked, other) is not None:
            raise ConfigError(f"--{other.replace('_', '-')}: {factory} has none")
    train = 0 if index.is_trained else min(vectors, asked.train or max(EACH * lists, TRAINED))
    setting = None if knob is None else getattr(asked, knob) or (
        EF_SEARCH if knob == "ef_search" else max(1, round(math.sqrt(lists)))
    )  # fmt: skip
    told = [because(f"{knob} {setting}", getattr(asked, str(knob)), "by default")] if knob else []
    told += (
        [because(f"trained on {train:,} vectors", asked.train, f"{EACH} a list, {TRAINED:,} for codes")]
        if train
        else []
    )
    return Design(factory, train, asked.ef_construction, knob, setting, None, tuple(told))


def empty(design: Design, width: int) -> Any:
    """An index without vectors. Raises ConfigError for a description that faiss can't read."""
    import faiss

    kind = design.factory
    if DEADLY.search(kind):
        raise ConfigError(f"--kind {kind}: a number in it is too small")
    try:
        index = faiss.index_factory(width, kind, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        raise ConfigError(
            f"--kind {kind}: faiss can't make that for vectors of {width} numbers ({said(error)})"
        ) from None
    if index.metric_type != faiss.METRIC_INNER_PRODUCT:
        raise ConfigError(f"--kind {kind}: faiss compares it by distances alone, not by inner products")
    if design.ef_construction:
        graph = graph_of(index)
        if graph is None:
            raise ConfigError(f"--set faiss.ef_construction: {kind} has none")
        graph.hnsw.efConstruction = design.ef_construction
    restrain(index)
    return index


def said(error: Exception) -> str:
    """The end of what faiss says, which is what a person can use."""
    return SAID.split(str(error))[-1].splitlines()[-1][-120:].strip()


def parts_of(index: Any) -> Any:
    """An index and those inside it, from the outermost on."""
    import faiss

    while index is not None:
        index = faiss.downcast_index(index)
        yield index
        index = getattr(index, "base_index", None) or getattr(index, "index", None)


def graph_of(index: Any) -> Any:
    """The part of an index that is a graph (HNSW); None where there is none."""
    return next((part for part in parts_of(index) if hasattr(part, "hnsw")), None)


def lists_of(index: Any) -> Any:
    """The part of an index that has lists; None where there is none."""
    return next((part for part in parts_of(index) if hasattr(part, "nprobe")), None)


def rotations_of(index: Any) -> list[Any]:
    """What of an index turns vectors before they become codes, and is trained itself (OPQ)."""
    import faiss

    chains = [part.chain for part in parts_of(index) if hasattr(part, "chain")]
    every = [faiss.downcast_VectorTransform(chain.at(place)) for chain in chains for place in range(chain.size())]
    return [each for each in every if isinstance(each, faiss.OPQMatrix)]


def knob_of(index: Any) -> Knob | None:
    """What of an index can be turned, so that a search looks further."""
    if lists_of(index) is not None:
        return "probes"
    return "ef_search" if graph_of(index) is not None else None


def turn(index: Any, setting: int) -> None:
    """Set the knob of an index that has one."""
    if (lists := lists_of(index)) is not None:
        lists.nprobe = min(setting, lists.nlist)
    else:
        graph_of(index).hnsw.efSearch = setting


def restrain(index: Any) -> None:
    """Codes are trained on as many vectors as they need: faiss would take four times as long for four times as many.

    Nor does it warn on stderr, once a part of a code, where it would like more; a design tells how many there are. Nor
    are codes numbered so that their bits tell distances (polysemous codes), more than a second a byte: no search asks.
    """
    for rotation in rotations_of(index):
        rotation.max_train_points, rotation.niter = TRAINED, ROUNDS
    for part in parts_of(index):
        if hasattr(part, "do_polysemous_training"):
            part.do_polysemous_training = False
        for clustering in (getattr(part, "cp", None), getattr(getattr(part, "pq", None), "cp", None)):
            if clustering is not None:
                clustering.min_points_per_centroid = 1
        if hasattr(part, "pq"):
            part.pq.cp.max_points_per_centroid = TRAINED // CENTRES


def built(
    path: Path, folder: Path, design: Design, rows: Rows, seed: int, device: torch.device, progress: Progress
) -> Spent:
    """Leave the index of all rows at `path`; what a killed command goes on with is kept in `folder`.

    Nothing but rows, design and seed decides what it holds: not shards, threads or interruptions. (Before 1.15, faiss
    linked a graph differently each time, unless by one thread.)
    """
    import faiss

    folder.mkdir(exist_ok=True)
    trained, filled, clock = folder / "trained.faiss", folder / "filled.faiss", folder / "spent.json"
    spent = Spent(**json.loads(clock.read_text())) if clock.is_file() else Spent()
    if path.is_file():
        return spent
    faiss.omp_set_num_threads(torch.get_num_threads())
    if filled.is_file() or trained.is_file():
        index = on_device(read_index(filled if filled.is_file() else trained), device)
    else:
        began = time.monotonic()
        index = on_device(empty(design, rows.width), device)
        if design.train:
            sample = rows.at(rows.sample(design.train, seed, 0))
            with progress.track("train", None, "vectors") as advance:
                with multiplying():
                    train_rotations(index, sample)
                    told_by_faiss(design.factory, lambda: index.train(sample))
                advance(len(sample))
            del sample
            if index.ntotal:
                raise ConfigError(f"{design.factory}: serves to train others, and isn't an index of vectors")
        spent = spent._replace(train=time.monotonic() - began)
        write_text(clock, json.dumps(spent._asdict()))
        write_index(trained, index)
    begun, before = time.monotonic(), spent.fill

    def save(to: Path) -> None:
        nonlocal spent
        spent = spent._replace(fill=before + time.monotonic() - begun)
        write_text(clock, json.dumps(spent._asdict()))
        write_index(to, index)

    fill(index, design, rows, seed, progress, lambda: save(filled))
    save(path)
    return spent


def train_rotations(index: Any, sample: Floats) -> None:
    """By one thread, on whose number they would depend; which is quicker, too: their matrices are small."""
    import faiss

    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        for rotation in rotations_of(index):
            rotation.train(sample)
    finally:
        faiss.omp_set_num_threads(before)


def fill(index: Any, design: Design, rows: Rows, seed: int, progress: Progress, save: Callable[[], None]) -> None:
    """Add the rows that an index lacks, a batch at a time; it is saved as often as that costs little."""
    graph, last, cost = graph_of(index), time.monotonic(), 0.0
    with progress.track("fill", rows.size, "vectors", index.ntotal) as advance:
        for begin in range(index.ntotal, rows.size, BATCH):
            batch = rows.at(np.arange(begin, min(begin + BATCH, rows.size)))
            if graph is not None:
                preset_levels(graph.hnsw, begin, len(batch), rows.size, seed)
            with multiplying():
                told_by_faiss(design.factory, lambda: index.add(batch))  # noqa: B023  (called at once)
            advance(len(batch))
            now = time.monotonic()
            if now - last >= max(SAVE, COST * cost) and begin + len(batch) < rows.size:
                save()
                last = time.monotonic()
                cost = last - now


def preset_levels(hnsw: Any, begin: int, count: int, total: int, seed: int) -> None:
    """Draw the levels of the next vectors of a graph by (seed, batch): one that goes on is as if it hadn't stopped.

    The first vector stands on the highest level that there will be: searches begin in the first batch, whatever comes
    later.
    """
    import faiss

    top = 1 + int(math.log(total, hnsw.nb_neighbors(1)))
    chances = np.cumsum(faiss.vector_to_array(hnsw.assign_probas))[: top - 1]
    levels = 1 + np.searchsorted(chances, np.random.default_rng([seed, 1, begin]).random(count), "right")
    if not begin:
        levels[0] = top
    hnsw.levels.resize(begin + count)
    faiss.rev_swig_ptr(hnsw.levels.data(), begin + count)[begin:] = levels


@contextmanager
def multiplying() -> Iterator[None]:
    """Distances of few vectors, too, by products of matrices, which train codes several times as fast."""
    import faiss

    before = faiss.cvar.distance_compute_blas_threshold
    faiss.cvar.distance_compute_blas_threshold = FEW
    try:
        yield
    finally:
        faiss.cvar.distance_compute_blas_threshold = before


def told_by_faiss(factory: str, work: Callable[[], object]) -> None:
    """Work that faiss may refuse an index of someone's own description. Raises ConfigError then."""
    try:
        work()
    except RuntimeError as error:
        if "faiss" not in str(error):
            raise
        raise ConfigError(f"{factory}: faiss refuses these vectors or that index ({said(error)})") from None


def on_device(index: Any, device: torch.device) -> Any:
    """An index on a GPU, where there is one, faiss is built for it and has this kind there; else as it is."""
    import faiss

    if device.type != "cuda" or not getattr(faiss, "get_num_gpus", int)():
        return index
    try:
        return faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), device.index or 0, index)
    except RuntimeError:
        return index


def write_index(path: Path, index: Any) -> None:
    """Leave an index, the same file wherever it was made. Raises OSError where the disk takes no more."""
    import faiss

    on_gpu = any(type(part).__name__.startswith("Gpu") for part in parts_of(index))
    with written_whole(path) as aside:
        try:
            faiss.write_index(faiss.index_gpu_to_cpu(index) if on_gpu else index, str(aside))
        except RuntimeError as error:
            number = next((number for number in REFUSED if os.strerror(number) in str(error)), None)
            if number is None:
                raise
            raise OSError(number, os.strerror(number), str(path)) from None


def read_index(path: Path, mapped: bool = False) -> Any:
    """The index in a file; `mapped`: what is asked for is read when it is, and let go when memory is short."""
    import faiss

    try:
        return faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC if mapped else 0)
    except RuntimeError as error:
        raise DataError(f"{path}: not an index of faiss, or a broken one ({said(error)}); make it anew") from None


class Ann:
    """An index that is opened for searching the rows of the shards; `each`: vectors of a document on average."""

    def __init__(self, path: Path, rows: Rows, each: float, device: torch.device):
        import faiss

        self.path, self.rows, self.each, self.size = path, rows, each, rows.size
        faiss.omp_set_num_threads(torch.get_num_threads())
        index = read_index(path, mapped=True)
        if (index.ntotal, index.d) != (rows.size, rows.width):
            told = f"holds {index.ntotal:,} vectors of {index.d} numbers, made from {rows.size:,} of {rows.width}"
            raise DataError(f"{path}: {told}; make it anew")
        self.index, self.host = on_device(index, device), index
        self.knob, self.lists = knob_of(self.index), int(getattr(lists_of(self.index), "nlist", 0))
        self.setting, self.stands = 1, dict[int, int]()  # where the knob of either index is
        self.ids = ids_of(rows.shards)
        self.matrix = Matrix(rows.shards, torch.device("cpu"), unit=rows.unit, mapped=True)

    def fetch(self) -> None:
        """Have the system hold the file, if it has room: read in order, which takes a tenth of reading it in pieces."""
        if self.path.stat().st_size < memory()[1] // 2:
            with self.path.open("rb") as file:
                while file.read(PIECE):
                    pass

    def turn(self, setting: int) -> None:
        """Set the knob. A graph is searched for as many neighbours as a search asks for, at least."""
        self.setting = setting

    def turned(self, setting: int, count: int) -> Any:
        """The index with its knob set; that on a GPU, unless so deep a search is none of those which it takes."""
        index = self.index if max(count, setting) <= GPU_MOST else self.host
        if self.knob is not None and self.stands.get(id(index)) != setting:
            turn(index, setting)
            self.stands[id(index)] = setting
        return index

    def least(self, depth: int, refine: int) -> int:
        """The setting below which none finds less in such a search."""
        return 1 if self.knob == "probes" else self.candidates(depth, refine)

    def candidates(self, depth: int, refine: int) -> int:
        """Vectors that faiss is asked for, so that there are as many documents, each of them with others to refine."""
        wanted = depth * max(1, refine)
        return min(self.size, wanted if self.each == 1 else exact.count_of(wanted, self.each))

    def at_once(self, depth: int, refine: int) -> int:
        """Queries of a call."""
        return max(1, min(AT_ONCE, HITS // max(1, self.candidates(depth, refine))))

    def probes(self, depth: int, refine: int) -> int:
        """Lists that hold twice the candidates that a search asks for, if all are as long."""
        return min(self.lists, math.ceil(2 * self.candidates(depth, refine) * self.lists / self.size))

    def search(self, queries: Floats, depth: int, refine: int = 0) -> list[Hits]:
        """The first `depth` documents that faiss finds for each query [Q, D]; fewer where it looks into too few lists.

        With `refine`, so many candidates a hit are scored and ordered as exact search does it. Documents of several
        vectors score as the best of those that were found.
        """
        queries = self.rows.of_length(np.asarray(queries, np.float32))
        return self.deep(queries, depth, self.candidates(depth, refine), bool(refine))

    def deep(self, queries: Floats, depth: int, count: int, refine: bool) -> list[Hits]:
        """Of so many candidates. Where they are vectors of too few documents, twice as many are looked at."""
        index = self.turned(self.setting if self.knob == "probes" else max(self.setting, count), count)
        scores, rows = index.search(queries, count)  # [Q, c]
        found = self.refined(queries, rows, depth) if refine else self.hits(scores, rows, depth)
        if self.each == 1 or count == self.size:
            return found
        short = [place for place, hits in enumerate(found) if len(hits.rows) < depth and rows[place, -1] >= 0]
        if short:
            deeper = self.deep(queries[short], depth, min(2 * count, self.size), refine)
            for place, hits in zip(short, deeper, strict=True):
                found[place] = hits
        return found

    def hits(self, scores: Floats, rows: NDArray[np.int64], depth: int) -> list[Hits]:
        """What faiss gives, [Q, c] twice, as documents in order; most of it is in order already."""
        ends = [rows.shape[1]] * len(rows)
        tied = np.any(scores[:, 1:] >= scores[:, :-1], axis=1).tolist()
        if len(rows) and rows[:, -1].min() < 0:  # where lists hold too little, -1 stands at the end
            ends, rows = (rows >= 0).sum(1).tolist(), np.maximum(rows, 0)
        ids = self.ids(rows)
        found = list[Hits]()
        for place, (end, ties) in enumerate(zip(ends, tied, strict=True)):
            hits = Hits(rows[place, :end], ids[place, :end], scores[place, :end])
            if self.each != 1:
                found.append(hits.first(depth))
            else:  # no document stands twice
                found.append(hits.at(order(hits.ids, hits.scores)[:depth] if ties else slice(depth)))
        return found

    def refined(self, queries: Floats, rows: NDArray[np.int64], depth: int) -> list[Hits]:
        """Candidates [Q, c] with the scores and in the order of exact search."""
        there = rows >= 0
        owners, counts = np.nonzero(there)[0], there.sum(1)
        pairs = exact.scored(torch.from_numpy(queries), owners, rows[there], self.matrix)
        return [hits.first(depth) for hits in exact.split(pairs, counts)]
