"""Every option, one file a verb; nothing here loads torch."""

from seedcli.configs.convert import ConvertConfig
from seedcli.configs.encode import EncodeConfig
from seedcli.configs.evaluate import EvaluateConfig
from seedcli.configs.finetune import FinetuneConfig
from seedcli.configs.index import IndexConfig
from seedcli.configs.inspect import InspectConfig
from seedcli.configs.pretrain import PretrainConfig
from seedcli.configs.search import SearchConfig

VERBS: dict[str, type] = {
    "pretrain": PretrainConfig,
    "finetune": FinetuneConfig,
    "encode": EncodeConfig,
    "index": IndexConfig,
    "search": SearchConfig,
    "evaluate": EvaluateConfig,
    "inspect": InspectConfig,
    "convert": ConvertConfig,
}

EXAMPLES: dict[str, str] = {
    "pretrain": "seed pretrain --text wiki.txt.gz --tokenizer train --size mini --steps 20000 --out encoder",
    "finetune": "seed finetune --model encoder --data scifact --negatives bm25 --steps 500 --out retriever",
    "encode": "seed encode --model retriever --corpus scifact --out vectors",
    "index": "seed index --kind flat --vectors vectors --out flat",
    "search": "seed search --index flat --queries scifact --split test --out found",
    "evaluate": "seed evaluate --runs bm25=words --runs dense=found --qrels scifact --baseline bm25 --out report",
    "inspect": "seed model inspect before=bert-base-uncased after=encoder --texts scifact --out inspection",
    "convert": "seed model convert seed-encoder.pt --out encoder",
}
