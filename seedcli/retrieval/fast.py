"""The fast pass of exact search: float32 scores of all vectors, of which each query's best are kept.

Letters: Q queries, n vectors of a block, D their width, c candidates a query, S scores that get in, G a group.
"""

import torch
from torch import Tensor

GROUP = 64  # scores that are looked at together
DENSE = 8  # where more than one in so many may get in, all are sorted


class Best:
    """The best `count` scores of each query so far with their rows, [Q, c]; where there are fewer, -inf and -1."""

    def __init__(self, queries: Tensor, count: int):
        self.queries = queries  # [Q, D]
        size = (len(queries), count)
        self.scores = torch.full(size, -torch.inf, device=queries.device)
        self.rows = torch.full(size, -1, dtype=torch.int64, device=queries.device)
        self.seen = 0
        self._waiting: list[tuple[Tensor, Tensor, Tensor]] = []  # queries, scores and rows, [S] each
        self._wait = 0

    @property
    def count(self) -> int:
        return self.scores.shape[1]

    def add(self, vectors: Tensor, begin: int, room: Tensor) -> None:
        """Take the scores of a block [n, D], whose first row is `begin`; `room` has place for Q x n of them."""
        shape = len(self.queries), len(vectors)
        scores = room[: shape[0] * shape[1]].view(shape)
        if shape[0] == 1:
            torch.mv(vectors, self.queries[0], out=scores[0])
        else:
            torch.mm(self.queries, vectors.T, out=scores)
        likely = self.count / max(1, self.seen)  # that a score gets in, were they in random order
        self.seen += shape[1]
        if DENSE * likely > 1 or not self._sift(scores, begin):
            self._merge_all(scores, begin)

    def finish(self) -> None:
        """Take in what waits."""
        if self._waiting:
            queries, scores, rows = (torch.cat(parts) for parts in zip(*self._waiting, strict=True))
            order = torch.argsort(queries, stable=True)
            queries, scores, rows = queries[order], scores[order], rows[order]
            counts = torch.bincount(queries, minlength=len(self.queries))
            within = torch.arange(len(queries), device=queries.device) - (counts.cumsum(0) - counts)[queries]
            size = (len(self.queries), int(counts.max()))
            more = torch.full(size, -torch.inf, device=queries.device)
            more_rows = torch.full(size, -1, dtype=torch.int64, device=queries.device)
            more[queries, within], more_rows[queries, within] = scores, rows
            self._keep(more, more_rows)
            self._waiting, self._wait = [], 0

    def _sift(self, scores: Tensor, begin: int) -> bool:
        """Let those wait that beat the worst of the best; whether there were few enough to be worth it."""
        floor = self.scores[:, -1]
        size, whole = len(floor), scores.shape[1] // GROUP * GROUP
        groups = scores[:, :whole].reshape(size, -1, GROUP)  # [Q, n / G, G]
        query, group = (groups.amax(2) > floor[:, None]).nonzero(as_tuple=True)
        if DENSE * len(group) * GROUP > size * whole and whole:
            return False
        found = groups[query, group]  # [S, G]
        place, within = (found > floor[query, None]).nonzero(as_tuple=True)
        self._let_wait(query[place], found[place, within], group[place] * GROUP + within + begin)
        query, within = (scores[:, whole:] > floor[:, None]).nonzero(as_tuple=True)
        self._let_wait(query, scores[query, whole + within], whole + within + begin)
        if 2 * self._wait > self.scores.numel():
            self.finish()
        return True

    def _let_wait(self, queries: Tensor, scores: Tensor, rows: Tensor) -> None:
        if len(queries):
            self._waiting.append((queries, scores, rows))
            self._wait += len(queries)

    def _merge_all(self, scores: Tensor, begin: int) -> None:
        self.finish()
        best, places = scores.topk(min(self.count, scores.shape[1]), dim=1)
        self._keep(best, places + begin)

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
