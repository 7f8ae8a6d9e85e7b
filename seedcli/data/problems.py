"""What is wrong with data that can be read all the same: counted, the first three named, and settled by an option."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any, Literal, Self

from seedcli.base.counts import amount
from seedcli.base.errors import DataError
from seedcli.base.progress import Progress

Policy = Literal["report", "stop"]
NAMED = 3


class Problems:
    """Counts by kind, such as "ids that stand twice", with the names of the first of each."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.names: defaultdict[str, list[str]] = defaultdict(list)

    def add(self, kind: str, name: str, count: int = 1) -> None:
        self.counts[kind] += count
        if len(self.names[kind]) < NAMED and name and name not in self.names[kind]:
            self.names[kind].append(name)

    def plain(self) -> dict[str, Any]:
        """What a JSON file holds of them."""
        return {kind: {"count": count, "names": self.names[kind]} for kind, count in self.counts.items()}

    @classmethod
    def of(cls, plain: dict[str, Any]) -> Self:
        problems = cls()
        for kind, found in plain.items():
            problems.counts[kind], problems.names[kind] = found["count"], found["names"]
        return problems

    def __iter__(self) -> Iterator[str]:
        """A line a kind: "1,204 ids that stand twice (a, b, c, ...)"."""
        for kind, count in self.counts.items():
            names = [f"{name:.60}" for name in self.names[kind]]
            more = ", ..." if count > len(names) else ""
            yield amount(count, kind) + (f" ({', '.join(names)}{more})" if names else "")

    def settle(self, source: str, policy: Policy, progress: Progress) -> None:
        """Tell each kind, or stop at them: raises DataError under the policy "stop"."""
        if lines := list(self):
            if policy == "stop":
                raise DataError(f"{source}: {'; '.join(lines)}\n--problems report tells of them and goes on")
            for line in lines:
                progress.say(f"{source}: {line}")
