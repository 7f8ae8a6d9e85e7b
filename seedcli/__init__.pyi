"""Made by scripts/stub.py from the options in seedcli/configs."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from seedcli.api import ConfigError as ConfigError
from seedcli.api import DataError as DataError
from seedcli.api import FolderError as FolderError
from seedcli.api import Fusion as Fusion
from seedcli.api import Hit as Hit
from seedcli.api import Index as Index
from seedcli.api import Inspection as Inspection
from seedcli.api import Model as Model
from seedcli.api import Progress as Progress
from seedcli.api import Ranking as Ranking
from seedcli.api import Report as Report
from seedcli.api import Result as Result
from seedcli.api import Run as Run
from seedcli.api import SeedError as SeedError
from seedcli.api import Silent as Silent
from seedcli.api import StrPath as StrPath
from seedcli.api import Text as Text
from seedcli.api import Vectors as Vectors
from seedcli.api import fuse as fuse
from seedcli.api import index_texts as index_texts
from seedcli.api import open_index as open_index
from seedcli.api import open_model as open_model
from seedcli.api import open_report as open_report
from seedcli.api import open_run as open_run
from seedcli.api import open_vectors as open_vectors
from seedcli.api import run as run

__version__: str

def pretrain(
    *,
    out: StrPath,
    text: StrPath | Sequence[StrPath],
    size: Literal["tiny", "mini", "small", "base"] | None = None,
    init: StrPath | None = None,
    decoder: Literal["weak", "none"] = "weak",
    decoder_layers: int = 3,
    window: int | Literal["none"] = 2,
    keep_decoder: bool = False,
    tokenizer: StrPath | None = None,
    vocabulary: int | None = None,
    field: str = "text",
    length: int = 512,
    pack: bool = True,
    steps: int = 1000000,
    batch_size: int = 256,
    micro_batch: int = 32,
    lr: float = 0.0001,
    warmup: int | None = None,
    clip: float = 1.0,
    seed: int = 0,
    held_out: StrPath | None = None,
    held_out_share: float = 0.0,
    watch_every: int = 1000,
    log_every: int = 50,
    save_every: int = 500,
    keep_last: int = 1,
    tensorboard: bool = False,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    precision: Literal["fp32", "bf16", "fp16"] = "fp32",
    threads: int | None = None,
    options: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Model:
    """Pre-train an encoder on plain text: masked words, and a weak decoder that sees the text through [CLS] alone.

    A finished folder of the same options and inputs is left as it is; an interrupted one goes on. Raises
    ConfigError for wrong options, DataError for wrong inputs, FolderError for a folder of anything else.

    - out: The folder to leave the model in.
    - text: Text files and folders (.txt, .jsonl, .gz, .zst), or collections, whose passages are read.
    - size: A new BERT: tiny 2 layers x 128, mini 4 x 256, small 4 x 512, base 12 x 768; left out: base.
    - init: Go on from this model instead: a folder, or a name of the Hugging Face hub.
    - decoder: The decoder that reads the text through h0; none: masked words alone (BERT).
    - decoder_layers: Layers of the decoder.
    - window: Tokens back that the decoder attends to; none: all of them.
    - keep_decoder: Leave the decoder too, in the model's folder: for seed model inspect, and to go on with by init.
    - tokenizer: train: a new WordPiece one from the text; else that of a model folder or hub name, or a vocab.txt.
    - vocabulary: Entries of a trained tokenizer; left out: 32,768.
    - field: The field of JSONL records that holds the text.
    - length: Tokens of a block: [CLS], whole lines or sentences, [SEP] after each.
    - pack: Fill blocks across documents; off: a block ends where its document does.
    - steps: Steps of the optimiser; 0 leaves a model of random weights.
    - batch_size: Blocks a step, over all processes.
    - micro_batch: Blocks that a process computes at a time; gradients add up.
    - lr: Peak rate of AdamW; it falls linearly to zero.
    - warmup: Steps in which the rate rises; left out: a tenth of all, at most the paper's 10,000.
    - clip: Largest norm of the gradient.
    - seed: Of weights, order, masks and dropout.
    - held_out: Text that is not trained on, named as text is: to watch the losses there, and a retrieval probe.
    - held_out_share: Or a share of the text's blocks to set aside for it, evenly spread; at most 512 are looked at.
    - watch_every: Steps between looks at the held-out text.
    - log_every: Steps between records in log.jsonl.
    - save_every: Steps between checkpoints to resume from.
    - keep_last: Checkpoints kept until the end, the newest.
    - tensorboard: Write the log for TensorBoard, too.
    - device: Where to compute; auto takes a GPU if there is one.
    - precision: Autocast to this type; fp16 scales the loss, and needs a GPU.
    - threads: CPU threads, and processes that tokenise; left out: all cores, shared by the processes.
    - options: Rarer options by their whole keys, such as {'optimize.beta2': 0.98}.
    - overwrite: Lose what the folder holds, if seed made it.
    - progress: Where to tell of the work; left out: the screen when stderr is a terminal. Silent() tells nothing.

    In `options`, with what they are when left out:

    - model.dropout (0.1): Dropout of a new model and of the decoder.
    - model.std (0.02): Of a new model's weights; 0.02 suits base, 0.02 x (768 / width)^0.5 what is smaller.
    - words.lowercase (True): Whether a trained tokenizer lower-cases and strips accents.
    - words.mask (0.15): Share of the tokens that are masked words.
    - optimize.weight_decay (0.01): Decoupled decay of matrices.
    - optimize.beta1 (0.9): AdamW: decay of the first moment.
    - optimize.beta2 (0.999): AdamW: decay of the second moment.
    - optimize.eps (1e-06): AdamW: added to the denominator.
    """

def finetune(
    *,
    out: StrPath,
    model: StrPath,
    data: StrPath,
    split: str = "train",
    fraction: float = 1.0,
    max_queries: int | None = None,
    problems: Literal["report", "stop"] = "report",
    pooling: Literal["cls", "mean", "last"] | None = None,
    similarity: Literal["dot", "cosine"] | None = None,
    head: Literal["linear", "none"] | None = None,
    query_length: int | None = None,
    passage_length: int | None = None,
    negatives: StrPath = "bm25",
    negative_depth: int | str = 100,
    hard: int = 1,
    refresh: int = 5000,
    ance: Literal["in-turn", "async"] = "in-turn",
    role: Literal["both", "trainer", "refresher"] = "both",
    ance_compat: bool = False,
    loss: Literal["in-batch", "triplet", "pairwise", "margin-mse", "kl"] = "in-batch",
    temperature: float = 1.0,
    steps: int | None = None,
    batch_size: int = 128,
    chunk: int | None = None,
    lr: float = 2e-05,
    warmup: int | None = None,
    seed: int = 0,
    dev: str | None = None,
    watch_every: int = 500,
    log_every: int = 50,
    save_every: int = 500,
    keep_last: int = 1,
    tensorboard: bool = False,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    precision: Literal["fp32", "bf16", "fp16"] = "fp32",
    threads: int | None = None,
    options: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Model:
    """Fine-tune an encoder into a retriever: each query is told from its negatives and from the batch's (DPR).

    A finished folder of the same options and inputs is left as it is; an interrupted one goes on. Raises
    ConfigError for wrong options, DataError for wrong inputs, FolderError for a folder of anything else.

    - out: The folder to leave the model in.
    - model: The model to start from: a folder, or a name of the Hugging Face hub.
    - data: Passages, queries and qrels: a collection; or a file of examples (triples, DPR's JSON).
    - split: The qrels to train on.
    - fraction: The share of the training queries to use; a larger share holds the smaller.
    - max_queries: Training queries at most, drawn in the same way.
    - problems: Ids that stand twice or that the corpus lacks, empty texts, queries without positives: report them
      and go on, or stop.
    - pooling: The vector of a text: of [CLS], the tokens' mean, or of the last token (decoders).
    - similarity: What compares two vectors.
    - head: What stands after pooling: a linear layer and a layer norm, as in the MS MARCO runs, or nothing.
    - query_length: Tokens of a query; longer ones are cut.
    - passage_length: Tokens of a passage; longer ones are cut.
    - negatives: Where hard negatives come from: bm25 (searched here), ance (what the model in training ranks
      first), a run (a file, or a folder of seed search), file (those that the examples of data bring), or a file of
      triples of ids, which are the examples then.
    - negative_depth: Which passages of a ranking, or of an example's negatives, are candidates: the first 100, or
      10:200 for the 11th to the 200th.
    - hard: Hard negatives a query; the other queries' passages come on top. With a loss of triples, a triple each.
    - refresh: ance: steps from one search for negatives to the next; async: at most so many between checkpoints.
    - ance: Whether training waits while negatives are searched for (the same result each time), or goes on (as
      published): a second process searches with the newest weights.
    - role: async: do both, or one alone; then start the other with the same options, in the same out.
    - ance_compat: ance, as released: one positive of a query is known, the others and equal texts may be negatives.
    - loss: in-batch: the positive among all passages of the batch (DPR). triplet, pairwise: above one negative by a
      margin, or in likelihood. margin-mse, kl: as a teacher scored them, in the examples' file.
    - temperature: What scores are divided by; 0.05 is usual for cosine.
    - steps: Steps of the optimiser; left out: optimize.epochs (40) decide.
    - batch_size: Queries (or triples) a step, over all processes. Each query is told from all passages of the batch
      at once; adding up gradients of smaller batches would not be the same.
    - chunk: Texts encoded at a time; the rest of a batch holds its vectors alone, and is computed once more for the
      same gradient (but for dropout's draws): less memory, a third more operations.
    - lr: Peak rate.
    - warmup: Steps in which the rate rises; left out: a tenth of all, at most DPR's 1,237.
    - seed: Of order, negatives, dropout and new weights.
    - dev: A split, such as dev: search now and then for the queries that its qrels judge (MRR@10 in 10,000
      passages); leaves the best model, and the last in last/.
    - watch_every: Steps between looks.
    - log_every: Steps between records in log.jsonl.
    - save_every: Steps between checkpoints to resume from.
    - keep_last: Checkpoints kept until the end, the newest.
    - tensorboard: Write the log for TensorBoard, too.
    - device: Where to compute; auto takes a GPU if there is one.
    - precision: Autocast to this type; fp16 scales the loss, and needs a GPU.
    - threads: CPU threads, and processes that tokenise; left out: all cores, shared by the processes.
    - options: Rarer options by their whole keys, such as {'optimize.beta2': 0.98}.
    - overwrite: Lose what the folder holds, if seed made it.
    - progress: Where to tell of the work; left out: the screen when stderr is a terminal. Silent() tells nothing.

    In `options`, with what they are when left out:

    - tower.untied (None): An encoder of its own for queries and for passages, as in the Natural Questions runs.
    - tower.segments (None): MaxP: cut a passage into at most so many segments of passage_length tokens; the best
      one scores it. 1: its first tokens alone (FirstP).
    - tower.segment_overlap (None): Tokens that neighbouring segments share.
    - tower.token_vectors (None): Vectors of a passage, or of each segment: those of its first tokens; the best one
      scores it (ME-BERT).
    - tower.dimensions (None): Widths that vectors may later be cut to (Matryoshka), such as [64, 128], beside the
      whole. []: none.
    - tower.query_template (None): How a query is written, such as 'query: {text}'.
    - tower.passage_template (None): How a passage is written, such as '{title} [SEP] {text}', or a name: beir,
      msmarco-document, nq, mind.
    - negatives.take ('random'): Which candidates become negatives: drawn ones, or the first of the ranking.
    - negatives.refresh_share (1.0): ance: the share of the queries that one search covers, and the next steps train
      on.
    - negatives.staleness (None): async: training waits while its negatives are older than so many steps.
    - negatives.drop_answers (False): Leave out candidates that hold an answer of the query (NQ).
    - negatives.absolute_margin (None): Leave out candidates that score above the positive's score less this.
    - negatives.relative_margin (None): Leave out candidates that score above the positive's score less this share
      of it, such as 0.05.
    - loss.margin (1.0): triplet: how far the positive is to be above.
    - loss.symmetric (False): in-batch: tell passages from the batch's queries, too; the mean of both.
    - loss.teacher_temperature (1.0): kl: what the teacher's scores are divided by.
    - optimize.epochs (40.0): Passes over the training queries, when steps is left out.
    - optimize.optimizer ('adamw'): adamw (DPR), or lamb without bias correction (the MS MARCO and MIND runs).
    - optimize.schedule ('linear'): How the rate falls to nothing after warm-up.
    - optimize.schedule_steps (None): Steps in which the rate would come to nothing, where training ends before;
      left out: all steps.
    - optimize.clip (2.0): Largest norm of the gradient.
    - optimize.weight_decay (0.0): Decoupled decay; AdamW's of matrices alone.
    - optimize.beta1 (0.9): Decay of the first moment.
    - optimize.beta2 (0.999): Decay of the second moment.
    - optimize.eps (1e-08): Added to the denominator.
    - watch.dev_data (None): The collection of dev; left out: data.
    - watch.dev_queries (500): Queries looked at, drawn by the seed; none: all.
    - watch.dev_passages (10000): Passages they are searched in: those that are right, and more by the seed; none:
      all.
    - watch.patience (None): End after so many looks without a better one.
    """

def encode(
    *,
    out: StrPath,
    model: StrPath,
    corpus: StrPath | None = None,
    queries: StrPath | None = None,
    split: str | None = None,
    dim: int | None = None,
    problems: Literal["report", "stop"] = "report",
    batch_tokens: int | None = None,
    storage: Literal["float32", "float16", "int8"] = "float32",
    device: Literal["auto", "cpu", "cuda"] = "auto",
    precision: Literal["fp32", "bf16", "fp16", "int8"] = "fp32",
    runtime: Literal["auto", "torch", "onnx"] = "auto",
    threads: int | None = None,
    options: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Vectors:
    """Encode a corpus, or queries, into vectors on disk. For texts in memory there is Model.encode.

    A finished folder of the same options and inputs is left as it is; an interrupted one goes on. Raises
    ConfigError for wrong options, DataError for wrong inputs, FolderError for a folder of anything else.

    - out: The folder to leave the vectors in.
    - model: The encoder: a folder, or a name of the Hugging Face hub.
    - corpus: Encode the passages of this collection (see README: folders, files, irds:ID, hf:NAME, pydocs).
    - queries: Encode the queries of this collection.
    - split: Only the queries that these qrels judge.
    - dim: Cut vectors to their first numbers, as Matryoshka models allow; left out: whole ones.
    - problems: Ids that stand twice or that the corpus lacks, empty texts, queries without positives: report them
      and go on, or stop.
    - batch_tokens: Tokens of a batch, padding included; left out: 1,024 on a CPU (512 by ONNX Runtime), 65,536 on a
      GPU; fewer where a GPU's memory gives out.
    - storage: How numbers are stored; float16 takes half the room, int8 (with a scale a vector) a quarter.
    - device: Where to compute; auto takes a GPU if there is one.
    - precision: Keep the weights as this type; fp16 needs a GPU. int8 is for CPUs and needs the extra onnx; seed
      search encodes its queries in fp32 all the same.
    - runtime: What computes in fp32 on a CPU; auto takes ONNX Runtime (extra onnx) for a large corpus, where it is
      quicker and gives the same vectors.
    - threads: CPU threads, and processes that tokenise; left out: all cores, shared by the processes.
    - options: Rarer options by their whole keys, such as {'optimize.beta2': 0.98}.
    - overwrite: Lose what the folder holds, if seed made it.
    - progress: Where to tell of the work; left out: the screen when stderr is a terminal. Silent() tells nothing.

    In `options`, with what they are when left out:

    - shard_size (20000): Texts a shard; what a killed run may lose.
    """

def index(
    *,
    out: StrPath,
    kind: str = "flat",
    vectors: StrPath | None = None,
    queries: StrPath | None = None,
    compare: Sequence[str] = [],
    corpus: StrPath | None = None,
    store: str | None = None,
    problems: Literal["report", "stop"] = "report",
    memory: str | None = None,
    metric: Literal["ip", "cosine"] = "ip",
    probes: int | None = None,
    ef_search: int | None = None,
    refine: int = 0,
    target_recall: float | None = None,
    measure: bool = True,
    language: str = "en",
    stemmer: Literal["porter", "krovetz", "none"] = "porter",
    stop_words: StrPath = "default",
    title_boost: float | None = None,
    text_boost: float | None = None,
    rm3: bool = False,
    expansions: StrPath | None = None,
    expander: StrPath | None = None,
    tune: StrPath | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    threads: int | None = None,
    options: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Index:
    """Build an index: flat over encoded vectors (exact search), or bm25 over a corpus.

    A finished folder of the same options and inputs is left as it is; an interrupted one goes on. Raises
    ConfigError for wrong options, DataError for wrong inputs, FolderError for a folder of anything else.

    - out: The folder to leave the index in.
    - kind: flat: every vector is compared; bm25: words; approximate, by faiss: hnsw, ivf, ivfpq, pq, sq, opq, or a
      factory string of its own, such as IVF4096,PQ48. With store flat, hnsw, ivf and ivfpq are Milvus's.
    - vectors: The folder that seed encode left; for all kinds but bm25.
    - queries: Approximate: measure with these, a collection or encoded queries. Left out: with vectors of the
      corpus, which flatters.
    - compare: Build these kinds side by side (flat,hnsw,ivfpq), and tell recall and time; repeat it for a
      factory's.
    - corpus: bm25: a collection of passages.
    - store: Put the vectors into Milvus: milvus:PATH.db is kept there by milvus-lite, milvus:http://HOST:19530 is a
      server. MILVUS_TOKEN, or MILVUS_USER and MILVUS_PASSWORD, are read from the environment alone.
    - problems: Ids that stand twice or that the corpus lacks, empty texts, queries without positives: report them
      and go on, or stop.
    - memory: The most memory that the finished index may take, such as 2g; sizes follow from it. Left out: from the
      number of vectors and their width.
    - metric: Compare by inner product, or by cosine.
    - probes: Lists that a search looks into; left out: the root of all, or more for many hits.
    - ef_search: hnsw: neighbours that a search follows, or its hits if those are more; left out: 128.
    - refine: Candidates a hit that are scored anew with the exact vectors; 0: faiss's own scores stand.
    - target_recall: Find the fewest probes, or the lowest ef_search, that reach this recall@100, and search so by
      default.
    - measure: Measure recall@10 and @100 against exact search, time and memory, once the index is built.
    - language: The language of the texts, which tells how words are made: en, de, zh, and others.
    - stemmer: What takes endings off English words; other languages have theirs.
    - stop_words: English words that are left out: default (Lucene's 33), none, or a file with one a line.
    - title_boost: What the title's score counts for; given one boost, title and text are scored apart, and added.
    - text_boost: What the text's score counts for beside the title's.
    - rm3: Keep the words of each passage, which seed search rm3 reads.
    - expansions: Queries to append to passages (doc2query): JSONL, {"id": "p1", "queries": ["...", ...]} a passage.
    - expander: A sequence-to-sequence model whose queries are appended to passages: a folder, or a name of the hub.
    - tune: Queries and qrels to choose k1 and b by, and with rm3 its settings: a collection.
    - device: Where to compute; auto takes a GPU if there is one.
    - threads: CPU threads, and processes that tokenise; left out: all cores, shared by the processes.
    - options: Rarer options by their whole keys, such as {'optimize.beta2': 0.98}.
    - overwrite: Lose what the folder holds, if seed made it.
    - progress: Where to tell of the work; left out: the screen when stderr is a terminal. Silent() tells nothing.

    In `options`, with what they are when left out:

    - heap ('2g'): bm25: the largest heap of Java, such as 2g.
    - collection (None): store: the collection's name; left out: one made of the vectors'.
    - patience (60.0): store: seconds to go on asking a server that is away.
    - faiss.sample (1000): Queries to measure with, at most.
    - faiss.train (None): Vectors to train on; left out: 40 a list, 16,384 for codes.
    - faiss.seed (0): What the vectors to train on, and the queries, are drawn by.
    - faiss.nlist (None): Lists; left out: about 4 times the root of all vectors.
    - faiss.m (None): hnsw: links of a vector (M); left out: 16, or 32 of many.
    - faiss.ef_construction (None): hnsw: neighbours followed to link a vector; left out: 64.
    - faiss.code_size (None): pq, ivfpq, opq: bytes of a code; left out: a sixteenth of the vector's.
    - words.k1 (0.9): How soon repeated words count no more.
    - words.b (0.4): How much long passages are held back.
    - expander.written (10): Queries of a passage.
    - expander.sampled (10): Each token is drawn from so many, the likeliest ones; 0: a search by beams.
    - expander.query_length (64): Tokens of a query, at most.
    - expander.passage_length (512): Tokens that are read of a passage, at most.
    - expander.expander_batch (16): Passages at a time.
    - expander.expander_seed (0): The seed of what is drawn.
    - expander.expander_precision ('fp32'): What the model computes in.
    - tuning.tune_split ('dev'): The qrels to tune on.
    - tuning.tune_measure ('mrr@10'): What is to be best.
    - tuning.tune_queries (1000): Queries to tune on, at most; drawn by a seed where there are more.
    - tuning.tune_seed (0): The seed of that.
    - tuning.try_k1 ([0.6, 0.9, 1.2, 1.8, 2.7]): Values of k1 to try.
    - tuning.try_b ([0.2, 0.4, 0.6, 0.8, 1.0]): Values of b to try.
    - tuning.try_documents ([5, 10]): Values of seed search's words.rm3_documents to try.
    - tuning.try_terms ([10, 20]): Values of words.rm3_terms to try.
    - tuning.try_weight ([0.5, 0.7, 0.9]): Values of words.rm3_weight to try.
    """

def search(
    *,
    index: StrPath | Sequence[StrPath],
    out: StrPath,
    queries: StrPath | None = None,
    split: str | None = None,
    candidates: StrPath | None = None,
    predictions: StrPath | None = None,
    depth: int | None = None,
    run_format: Literal["trec", "parquet"] = "trec",
    memory: str | None = None,
    probes: int | None = None,
    ef_search: int | None = None,
    refine: int | None = None,
    problems: Literal["report", "stop"] = "report",
    fusion: Literal["rrf", "min-max", "z-score", "sum"] = "rrf",
    weight: Sequence[float] = [],
    rm3: bool = False,
    tune: StrPath | None = None,
    tune_split: str = "dev",
    tune_measure: str = "mrr@10",
    device: Literal["auto", "cpu", "cuda"] = "auto",
    precision: Literal["fp32", "bf16", "fp16"] = "fp32",
    threads: int | None = None,
    options: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Run:
    """Search one index for many queries, or several and fuse their rankings. For a question there is Index.search.

    A finished folder of the same options and inputs is left as it is; an interrupted one goes on. Raises
    ConfigError for wrong options, DataError for wrong inputs, FolderError for a folder of anything else.

    - index: A folder of seed index, or a run (a file, or a folder of seed search); repeat it to fuse several.
    - out: The folder to leave the run in.
    - queries: A collection, a file of queries, or a folder of queries that seed encode left. Left out: for runs
      alone, all of theirs.
    - split: Only the queries that these qrels judge.
    - candidates: Score these passages alone: a run (a file, or a folder of seed search), or a collection whose
      qrels of split name them for each query, whatever their grade. For one flat index.
    - predictions: A folder of MIND: leave prediction.zip, too, as its leaderboard takes it: the rank of each news
      that an impression showed. It needs no clicks.
    - depth: Hits a query; left out: 1,000, of candidates all.
    - run_format: The run's file: run.trec, or run.parquet (query, document, rank, score), smaller and quicker to
      read.
    - memory: flat: the most memory to hold, such as 2g, that of the libraries included: vectors that don't fit are
      read from the disk for each few thousand queries. Left out: half of what is free.
    - probes: Lists to look into; left out: as the index was built with, or more for many hits.
    - ef_search: hnsw: neighbours to follow, at least the depth; left out: as the index was built with.
    - refine: Approximate: candidates a hit that are scored anew with the exact vectors; left out: as it was built.
    - problems: Ids that stand twice or that the corpus lacks, empty texts, queries without positives: report them
      and go on, or stop.
    - fusion: Several: add reciprocal ranks (rrf), or scores made comparable within each query: min-max (0 to 1),
      z-score, or sum (0 on, all sum to 1). What an index lacks counts as the last of its hits.
    - weight: Several: what each index counts for, in their order; left out: 1 each, or as tuned.
    - rm3: Expand queries by words of what they find first (RM3); for an index that was made with rm3.
    - tune: Queries and qrels to choose the weights by: a collection. Not those that are searched for.
    - tune_split: The qrels to tune on.
    - tune_measure: What is to be best.
    - device: Where to compute; auto takes a GPU if there is one.
    - precision: Autocast to this type; fp16 scales the loss, and needs a GPU.
    - threads: CPU threads, and processes that tokenise; left out: all cores, shared by the processes.
    - options: Rarer options by their whole keys, such as {'optimize.beta2': 0.98}.
    - overwrite: Lose what the folder holds, if seed made it.
    - progress: Where to tell of the work; left out: the screen when stderr is a terminal. Silent() tells nothing.

    In `options`, with what they are when left out:

    - fusion_k (60): rrf: what is added to each rank before its reciprocal.
    - fusion_depth (1000): Fusion: hits taken from each index.
    - heap ('2g'): bm25: the largest heap of Java, such as 2g.
    - patience (60.0): A store: seconds to go on asking a server that is away.
    - accept_deletions (False): A store: search although vectors were deleted in it.
    - words.rm3_documents (None): RM3: hits that words are taken from; left out: as tuned, or 10.
    - words.rm3_terms (None): RM3: words that are taken; left out: as tuned, or 10.
    - words.rm3_weight (None): RM3: what the query's own words count for; left out: as tuned, or 0.5.
    - words.k1 (None): BM25's k1; left out: that of the index.
    - words.b (None): BM25's b; left out: that of the index.
    - tuning.tune_queries (1000): Queries to tune on, at most; drawn by a seed where there are more.
    - tuning.tune_seed (0): The seed of that, and of the folds.
    - tuning.folds (5): Parts of the queries: weights chosen on the others tell what each part is worth.
    """

def evaluate(
    *,
    out: StrPath,
    runs: StrPath | Sequence[StrPath] | Mapping[str, StrPath],
    qrels: StrPath,
    split: str = "test",
    measures: Sequence[str] = ["mrr@10", "recall@100", "ndcg@10"],
    answers: Literal["tokens", "regex"] = "tokens",
    corpus: StrPath | None = None,
    baseline: str | None = None,
    all_pairs: bool = False,
    test: Literal["permutation", "t"] = "permutation",
    correction: Literal["holm", "bonferroni", "bh", "none"] = "holm",
    drop_self: bool = False,
    problems: Literal["report", "stop"] = "report",
    examples: int = 0,
    page: bool = True,
    curve: str | None = None,
    curve_by: str | None = None,
    log: StrPath | None = None,
    leaderboard: StrPath | None = None,
    between: str | None = None,
    options: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Compare runs with relevance judgements: a table, with a permutation test against a baseline.

    A finished folder of the same options and inputs is left as it is; an interrupted one goes on. Raises
    ConfigError for wrong options, DataError for wrong inputs, FolderError for a folder of anything else.

    - out: The folder to leave the report in.
    - runs: A run, as NAME=PATH or PATH: a TREC file, or a folder of seed search. One NAME for several runs makes
      them one system's seeds.
    - qrels: Judgements: a collection, or a file of them (TREC, BEIR). For answers@k: questions with their answers.
    - split: Which qrels of a collection.
    - measures: mrr, recall, ndcg, map, precision, hit_rate or judged, with or without @k, or r-precision; with -l2
      relevant from grade 2 on (recall@100-l2); answers@k: whether one of the first k passages holds an answer
      (open-domain QA); auc, mind-mrr, mind-ndcg@k: as MIND has them.
    - answers: answers@k: answers are whole tokens in a row, as DPR has them, or regular expressions (CuratedTREC).
    - corpus: answers@k: the passages, where the collection of qrels holds none.
    - baseline: The name of the run that the others are tested against.
    - all_pairs: Test all runs against each other rather than against a baseline.
    - test: Of the mean difference, paired: sign-flip permutations, or Student's t. Several seeds: always t.
    - correction: For all tests of the table together. holm keeps the chance of any false mark below 5 %, whatever
      hangs together; bh keeps the expected share of false ones among the marks below 5 %.
    - drop_self: Drop hits whose id is their query's (ArguAna).
    - problems: Ids that stand twice or that the corpus lacks, empty texts, queries without positives: report them
      and go on, or stop.
    - examples: Queries to show with the first three hits of the last run.
    - page: Leave report.html: charts, queries with their texts, lineage; opens without a network.
    - curve: Plot each measure over an option that the runs were made with, such as finetune.fraction or
      model.window; or, where runs are named like bert@30000, over these numbers, which the word given here labels.
    - curve_by: A line for each value of this option; left out: for each name before the @.
    - log: Append a line for each run to this file (JSONL), once for each report.
    - leaderboard: Show all lines of such a file on the same judgements, best first in the first of measures, with
      what they differ in. Without runs it shows those of all judgements; out then names a Markdown file.
    - between: leaderboard: tell all that two lines differ in, by their numbers, such as 1,4. Left out: of each
      line, some of what it differs in from the first.
    - options: Rarer options by their whole keys, such as {'optimize.beta2': 0.98}.
    - overwrite: Lose what the folder holds, if seed made it.
    - progress: Where to tell of the work; left out: the screen when stderr is a terminal. Silent() tells nothing.

    In `options`, with what they are when left out:

    - permutations (10000): Random sign flips of the test, and samples of the intervals.
    - seed (0): Of the tests, the intervals and the examples.
    - showing.cases (10): Of two runs, the queries that gain most and that lose most whose hits stand in the page
      with texts.
    - showing.curve_scale ('auto'): The x axis; auto: log where numbers span a factor of 30.
    """

def inspect(
    *,
    out: StrPath,
    model: StrPath | Sequence[StrPath] | Mapping[str, StrPath],
    texts: StrPath | Sequence[StrPath],
    field: str = "text",
    pooling: Literal["cls", "mean"] | None = None,
    pairs: int = 500,
    seed: int = 0,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    precision: Literal["fp32", "bf16", "fp16"] = "fp32",
    threads: int | None = None,
    options: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Inspection:
    """Compare the vectors of models: how alike random texts look to each, by length, and how the space is filled.

    A finished folder of the same options and inputs is left as it is; an interrupted one goes on. Raises
    ConfigError for wrong options, DataError for wrong inputs, FolderError for a folder of anything else.

    - out: The folder to leave table and plots in.
    - model: A model, as NAME=MODEL or MODEL: a folder, or a name of the Hugging Face hub; one or several.
    - texts: Text files and folders (.txt, .jsonl, .gz, .zst), or collections, whose passages are read.
    - field: The field of JSONL records that holds the text.
    - pooling: The vector of a text, the same for all models; left out: each one's own.
    - pairs: Pairs of random texts at each length.
    - seed: Of the texts that are drawn.
    - device: Where to compute; auto takes a GPU if there is one.
    - precision: Autocast to this type; fp16 scales the loss, and needs a GPU.
    - threads: CPU threads, and processes that tokenise; left out: all cores, shared by the processes.
    - options: Rarer options by their whole keys, such as {'optimize.beta2': 0.98}.
    - overwrite: Lose what the folder holds, if seed made it.
    - progress: Where to tell of the work; left out: the screen when stderr is a terminal. Silent() tells nothing.

    In `options`, with what they are when left out:

    - sample (10000): Texts drawn from all, to choose those pairs from.
    - batch_tokens (8192): Tokens computed at a time, padding included.
    """

def convert(
    *,
    source: StrPath,
    out: StrPath,
    to: Literal["seed", "onnx"] = "seed",
    vocabulary: StrPath | None = None,
    heads: int | None = None,
    options: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Model:
    """Convert a released SEED checkpoint into a model folder, or a model folder into an ONNX graph.

    A finished folder of the same options and inputs is left as it is; an interrupted one goes on. Raises
    ConfigError for wrong options, DataError for wrong inputs, FolderError for a folder of anything else.

    - source: A released checkpoint, or the folder it is in; to onnx: a model folder, or a name of the hub.
    - out: The folder to leave the model in.
    - to: seed: a model folder. onnx: model.onnx, from token ids to vectors.
    - vocabulary: A checkpoint's vocab.txt, or fairseq's dict.txt; left out: the one beside it.
    - heads: A checkpoint's attention heads; left out: as it tells, else one for 64 values.
    - options: Rarer options by their whole keys, such as {'optimize.beta2': 0.98}.
    - overwrite: Lose what the folder holds, if seed made it.
    - progress: Where to tell of the work; left out: the screen when stderr is a terminal. Silent() tells nothing.
    """
