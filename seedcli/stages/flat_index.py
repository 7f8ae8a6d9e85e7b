"""Vectors that are searched exactly."""

from collections.abc import Iterator
from functools import cached_property

from seedcli.base.progress import Progress
from seedcli.retrieval import exact
from seedcli.retrieval.matrix import HELD, ROUGH, Matrix, Room, room_for
from seedcli.retrieval.runs import Ranking
from seedcli.stages.questions import Questions
from seedcli.stages.vector_index import VectorIndex


class FlatIndex(VectorIndex):
    """Every vector is compared."""

    @cached_property
    def matrix(self) -> Matrix:
        """The vectors of this process's shards, with the memory that is left once the queries are encoded."""
        here = self.runtime
        room, own = here.share(self.room), self.shards[here.rank :: here.world]
        return Matrix(own, here.device, *room, width=self.shards[0].width)

    def room(self) -> Room:
        return room_for(self.shards, self.runtime.device, self.granted, self.runtime.world)

    def search(self, questions: Questions, depth: int, progress: Progress) -> Iterator[Ranking]:
        names, vectors = [query.id for query in questions.queries], self.encode(questions)
        return exact.search(names, vectors, self.matrix, depth, progress, self.each, self.runtime)

    def memory(self) -> int:
        """Bytes that a search holds beside the libraries."""
        room, here = self.room(), self.runtime.world
        kept = room.keep * sum(shard.bytes for shard in self.shards) // here
        copies = room.rough * ROUGH * self.size * self.shards[0].width // here
        return HELD * room.floats + kept + copies
