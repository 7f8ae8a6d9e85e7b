"""The fast pass of exact search: quick scores of all vectors, of which each query's best are kept.

Letters: Q queries, n vectors of a block, D their width, c candidates a query, S scores that get in, G a group.
"""

import torch
from torch import Tensor

GROUP = 16  # scores that are looked at together
START = 4  # times c scores are sorted to begin with
CROWD = 24  # times c scores that are looked at are sorted instead: in a random order up to 16 are


class Best:
    """The best `count` scores of each query so far with their rows, [Q, c]; where there are fewer, -inf and -1.

    Blocks come in the order of their rows. Their scores gather in `room`, which others may use after `take`.
    """

    def __init__(self, queries: Tensor, count: int, room: Tensor):
        self.queries, self.count = queries, count
        size = (len(queries), count)
        self.scores = torch.full(size, -torch.inf, dtype=queries.dtype, device=queries.device)
        self.rows = torch.full(size, -1, dtype=torch.int64, device=queries.device)
        self.panel = room[: room.numel() // len(queries) * len(queries)].view(len(queries), -1)
        self.gathered = self.seen = 0  # columns of the panel, and scores that were looked at before
        self._waiting: list[tuple[Tensor, Tensor, Tensor]] = []  # queries, scores and rows, [S] each
        self._wait = 0

    @property
    def floor(self) -> Tensor:
        """The worst of the best [Q]: no other vector's score is greater."""
        return self.scores[:, -1] if self.count else self.scores.new_full((len(self.queries),), -torch.inf)

    def add(self, vectors: Tensor) -> None:
        """Score a block [n, D], in the queries' type of numbers."""
        if self.gathered + len(vectors) > self.panel.shape[1]:
            self.take()
        scores = self.panel[:, self.gathered : self.gathered + len(vectors)]
        if len(self.queries) == 1 and vectors.dtype == torch.bfloat16:
            torch.mv(vectors, self.queries[0], out=scores[0])
        else:
            torch.mm(self.queries, vectors.T, out=scores)  # of a single query, too: in float32 torch.mv has one thread
        self.gathered += len(vectors)

    def take(self) -> None:
        """Keep what is best of the scores that have gathered: of twice as many each time, as the floor rises."""
        begin = 0
        while begin < self.gathered:
            if self.seen < START * self.count:
                scores = self.panel[:, begin : min(self.gathered, begin + START * self.count)]
                self._sort(scores)
            else:
                scores = self.panel[:, begin : min(self.gathered, begin + self.seen)]
                if not self._sift(scores):
                    self._sort(scores)
            begin += scores.shape[1]
            self.seen += scores.shape[1]
        self.gathered = 0

    def finish(self) -> None:
        """Take what has gathered, and what waits."""
        self.take()
        self._merge()

    def _sort(self, scores: Tensor) -> None:
        """Keep the best of all."""
        self._merge()
        best, places = scores.topk(min(self.count, scores.shape[1]), dim=1)
        self._keep(best, places + self.seen)

    def _sift(self, scores: Tensor) -> bool:
        """Let those wait that beat the worst of the best, unless these are too many: whether they do."""
        floor = self.floor
        size, whole = len(floor), scores.shape[1] // GROUP * GROUP
        groups = scores[:, :whole].unflatten(1, (GROUP, whole // GROUP))  # type: ignore[no-untyped-call]  # [Q, G, n / G]
        likely = groups.amax(1) > floor[:, None]
        if int(likely.sum()) * GROUP > CROWD * size * self.count:
            return False
        query, group = likely.nonzero(as_tuple=True)
        found = groups[query, :, group]  # [S, G]
        place, within = (found > floor[query, None]).nonzero(as_tuple=True)
        self._let_wait(query[place], found[place, within], within * (whole // GROUP) + group[place])
        query, within = (scores[:, whole:] > floor[:, None]).nonzero(as_tuple=True)
        self._let_wait(query, scores[query, whole + within], whole + within)
        if self._wait > size * self.count // 2:
            self._merge()
        return True

    def _let_wait(self, queries: Tensor, scores: Tensor, columns: Tensor) -> None:
        if len(queries):
            self._waiting.append((queries, scores, columns + self.seen))
            self._wait += len(queries)

    def _merge(self) -> None:
        if not self._waiting:
            return
        queries, scores, rows = (torch.cat(parts) for parts in zip(*self._waiting, strict=True))
        order = torch.argsort(queries, stable=True)
        queries, scores, rows = queries[order], scores[order], rows[order]
        counts = torch.bincount(queries, minlength=len(self.queries))
        within = torch.arange(len(queries), device=queries.device) - (counts.cumsum(0) - counts)[queries]
        size = (len(self.queries), int(counts.max()))
        more = torch.full(size, -torch.inf, dtype=scores.dtype, device=queries.device)
        more_rows = torch.full(size, -1, dtype=torch.int64, device=queries.device)
        more[queries, within], more_rows[queries, within] = scores, rows
        self._keep(more, more_rows)
        self._waiting, self._wait = [], 0

    def _keep(self, scores: Tensor, rows: Tensor) -> None:
        scores, rows = torch.cat([self.scores, scores], 1), torch.cat([self.rows, rows], 1)
        self.scores, places = scores.topk(self.count, dim=1)
        self.rows = rows.gather(1, places)


def exact_scores(queries: Tensor, vectors: Tensor) -> Tensor:
    """Inner products of pairs, [P, D] twice -> [P]: exact products, added in float64 in one fixed order, as float32.

    The second half of the products is added to the first, number by number, until one is left: only additions that
    every device does alike.
    """
    sums = queries.double() * vectors.double()
    while (width := sums.shape[1]) > 1:
        half = (width + 1) // 2
        sums[:, : width - half] += sums[:, half:]
        sums = sums[:, :half]
    return sums[:, 0].float()


def error_bound(queries: Tensor, longest: float) -> Tensor:
    """How far a float32 inner product can be from the exact one, doubled, [Q, D] -> [Q] (Higham 2002, section 3.1).

    On a GPU that was allowed TensorFloat-32 a factor has 10 bits, not 23.
    """
    coarse = queries.device.type == "cuda" and torch.get_float32_matmul_precision() != "highest"
    unit, width = 2.0**-24, queries.shape[1] + 2
    relative = 2 * width * unit / (1 - width * unit) + coarse * 2.0**-9
    norms: Tensor = torch.linalg.vector_norm(queries.double(), dim=1)
    return relative * longest * norms
