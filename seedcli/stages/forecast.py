"""What a stage would take: steps, tokens, operations and disk, by arithmetic from its options and from sizes.

Matrix products alone are counted, two operations a weight and token; texts longer than a model reads are cut at their
mean. Letters: Q queries, N vectors, D dimensions.
"""

import math
from typing import NamedTuple

from seedcli.configs.finetune import FinetuneConfig
from seedcli.configs.pretrain import PretrainConfig
from seedcli.models.flops import PASSES, Decoder, Encoder, encoding_operations, pretraining_operations
from seedcli.models.towers import Role
from seedcli.stages.pretrain import TOKEN
from seedcli.stages.search import LINE
from seedcli.training.objectives import TRIPLES

NUMBER = 4  # bytes
ID = 24  # bytes of a text's id, with its offset
POSITIONS = 512  # that a model has an embedding of


class Texts(NamedTuple):
    """How many there are, and their tokens on average before any is cut."""

    number: int
    tokens: float


class Model(NamedTuple):
    """A retriever: its encoder, and how it reads. Of a passage, up to `segments` are read, and leave `vectors` each."""

    encoder: Encoder
    query_length: int
    passage_length: int
    segments: int = 1
    overlap: int = 0
    vectors: int = 1
    towers: int = 1
    head: bool = False


class Reading(NamedTuple):
    """How a model reads a text on average: in so many segments, and so many tokens in all of them."""

    segments: int
    tokens: float


class Part(NamedTuple):
    """Something that a stage does `number` times. `beside`: while the rest of it goes on, on devices of its own."""

    unit: str
    number: int
    tokens: float = 0.0
    operations: float = 0.0
    disk: float = 0.0  # bytes that it leaves
    trained: bool = False  # whether tokens are read backward, too
    beside: bool = False


def weights(model: Model) -> int:
    """How many numbers a retriever has."""
    layers, hidden, intermediate, vocabulary = model.encoder
    layer = 4 * hidden**2 + 2 * hidden * intermediate
    return model.towers * ((vocabulary + POSITIONS) * hidden + layers * layer + model.head * hidden**2)


def query_read(model: Model, queries: Texts) -> Reading:
    return Reading(1, min(queries.tokens, model.query_length))


def passage_read(model: Model, passages: Texts) -> Reading:
    length, overlap = model.passage_length, model.overlap
    segments = min(model.segments, max(1, math.ceil((passages.tokens - overlap) / (length - overlap))))
    return Reading(segments, min(passages.tokens + (segments - 1) * overlap, segments * length))


def forward(model: Model, reading: Reading) -> float:
    """Operations of a text."""
    return reading.tokens * encoding_operations(model.encoder, reading.tokens / reading.segments) / PASSES


def pretraining(config: PretrainConfig, encoder: Encoder) -> Part:
    """Blocks are taken as full."""
    options, length = config.model, config.words.length
    window = None if options.window == "none" else options.window
    decoder = None if options.decoder == "none" else Decoder(options.decoder_layers, window)
    steps = config.optimize.steps
    tokens = steps * config.optimize.batch_size * length
    operations = tokens * pretraining_operations(encoder, decoder, length, config.words.mask)
    disk = NUMBER * weights(Model(encoder, length, length))
    return Part("steps", steps, tokens, operations, disk, trained=True)


def trained(config: FinetuneConfig, queries: Texts) -> Texts:
    """Those of a split's queries that are trained on."""
    used = max(1, round(config.fraction * queries.number))
    return queries._replace(number=used if config.max_queries is None else min(used, config.max_queries))


def training_steps(config: FinetuneConfig, queries: Texts) -> int:
    options = config.optimize
    items = trained(config, queries).number * (config.negatives.hard if config.loss.loss in TRIPLES else 1)
    return options.steps or math.ceil(options.epochs * items / options.batch_size)


def training(config: FinetuneConfig, model: Model, queries: Texts, passages: Texts) -> Part:
    """The steps alone. --chunk computes each text once more."""
    options, hard = config.optimize, 1 if config.loss.loss in TRIPLES else config.negatives.hard
    steps = training_steps(config, queries)
    query, passage = query_read(model, queries), passage_read(model, passages)
    tokens = query.tokens + (1 + hard) * passage.tokens
    operations = forward(model, query) + (1 + hard) * forward(model, passage)
    passes = PASSES + (options.chunk is not None)
    items = steps * options.batch_size
    disk = NUMBER * weights(model) * (1 + (config.watch.dev is not None))  # the best model, and the last
    return Part("steps", steps, items * tokens, items * operations * passes, disk, trained=True)


def mined(config: FinetuneConfig, queries: Texts, depth: int) -> Part:
    """BM25's negatives: a run beside the model."""
    return word_searching(trained(config, queries), depth)


def refreshes(config: FinetuneConfig, model: Model, queries: Texts, passages: Texts) -> Part:
    """ANCE: each set encodes all passages and a share of the queries, and searches.

    Of asynchronous ones there are at most as many, since none is newer than a checkpoint.
    """
    options = config.negatives
    sets = math.ceil(training_steps(config, queries) / options.refresh)
    used = trained(config, queries)
    asked = used._replace(number=round(options.refresh_share * used.number))
    return repeated("refreshes", sets, model, asked, passages)._replace(beside=options.ance == "async")


def looks(config: FinetuneConfig, model: Model, queries: Texts, asked: Texts, passages: Texts) -> Part:
    """--dev: before the first step, now and then, and after the last."""
    watch = config.watch
    times = math.ceil(training_steps(config, queries) / watch.watch_every) + 1
    asked = asked._replace(number=min(watch.dev_queries or asked.number, asked.number))
    searched = passages._replace(number=min(watch.dev_passages or passages.number, passages.number))
    return repeated("looks", times, model, asked, searched)


def repeated(unit: str, times: int, model: Model, queries: Texts, passages: Texts) -> Part:
    """All passages encoded, and searched for all queries, so many times; nothing of it stays."""
    encoded = encoding(model, passages, "passage")
    searched = searching(model, queries, vectors_of(model, passages), 0)
    operations = times * (encoded.operations + searched.operations)
    return Part(unit, times, times * (encoded.tokens + searched.tokens), operations)


def encoding(model: Model, texts: Texts, role: Role) -> Part:
    """Texts of one role into vectors."""
    of_queries = role == "query"
    reading = query_read(model, texts) if of_queries else passage_read(model, texts)
    vectors = texts.number if of_queries else vectors_of(model, texts)
    disk = vectors * (NUMBER * model.encoder.hidden + ID)
    unit, operations = "queries" if of_queries else "passages", texts.number * forward(model, reading)
    return Part(unit, texts.number, texts.number * reading.tokens, operations, disk)


def vectors_of(model: Model, passages: Texts) -> int:
    return passages.number * passage_read(model, passages).segments * model.vectors


def searching(model: Model, queries: Texts, vectors: int, depth: int) -> Part:
    """Exact search: the queries are encoded, and compared with every vector in 2QND operations."""
    asked = encoding(model, queries, "query")
    operations = asked.operations + 2 * queries.number * vectors * model.encoder.hidden
    return asked._replace(operations=operations, disk=LINE["trec"] * queries.number * depth)


def word_searching(queries: Texts, depth: int) -> Part:
    """BM25 multiplies no matrices."""
    return Part("queries", queries.number, disk=LINE["trec"] * queries.number * depth)


def word_index(passages: Texts, words_kept: bool = False) -> Part:
    """BM25: half of the text, which an index and its merging take; all of it where the words are kept for RM3."""
    return Part("passages", passages.number, disk=passages.number * passages.tokens * TOKEN / (1 if words_kept else 2))
