"""What a file of training examples brings: ids or texts, answers, and a teacher's scores; what lacks is told early."""

from collections.abc import Callable, Iterator
from itertools import islice

from seedcli.base.errors import ConfigError
from seedcli.configs.finetune import FinetuneConfig
from seedcli.data.records import Example, Query
from seedcli.negatives.filters import Margins, without_answers
from seedcli.training.objectives import TAUGHT

HOW = "a teacher's scores (pos_scores and neg_scores in JSONL, or two columns of them before a triple)"
LOOKED = 100  # examples by which it is told what all of them bring


class Answers:
    """Leaves out negatives that hold an answer, of examples that bring their texts, and counts them."""

    def __init__(self, wanted: bool):
        self.wanted, self.dropped, self.answered = wanted, 0, 0

    def without(self, example: Example) -> Example:
        if not self.wanted or not isinstance(example.query, Query):
            return example
        kept = without_answers(example, example.query.answers)
        self.dropped += len(example.negatives) - len(kept.negatives)
        self.answered += bool(example.query.answers)
        return kept

    def told(self, source: str) -> dict[str, int]:
        """What was dropped. Raises ConfigError when there was nothing to go by."""
        if self.wanted and not self.answered:
            raise ConfigError(f"--set negatives.drop_answers: the examples of {source} bring no answers")
        return {"answer": self.dropped} if self.wanted else {}


def looked_at(given: Callable[[], Iterator[Example]]) -> tuple[bool, bool]:
    """Whether examples name ids, and whether they bring scores, by the first of them."""
    first = list(islice(given(), LOOKED))
    scored = any(example.positive_scores or example.negative_scores for example in first)
    return bool(first) and isinstance(first[0].query, str), scored


def check_scores(config: FinetuneConfig, scored: bool, source: str) -> None:
    """Raises ConfigError when scores are asked for that the examples of a source lack."""
    options = config.negatives
    if config.loss.loss in TAUGHT and not scored:
        raise ConfigError(f"--loss {config.loss.loss}: needs {HOW}; {source} brings none")
    if options.hard and Margins(options.absolute_margin, options.relative_margin).any and not scored:
        name = "absolute_margin" if options.absolute_margin is not None else "relative_margin"
        raise ConfigError(
            f"--set negatives.{name}: the examples of {source} have no scores; give a run, or examples with {HOW}"
        )
