"""What fine-tuning holds, by its options, and what to lower when that is too much."""

import dataclasses
import math

from seedcli.base.runtime import Runtime
from seedcli.configs.finetune import FinetuneConfig
from seedcli.models.towers import Towers
from seedcli.stages.estimates import device_memory, lower, training_memory, weights
from seedcli.training.objectives import TRIPLES


def memory_held(config: FinetuneConfig, towers: Towers, world: int) -> int:
    """About how many bytes a process holds."""
    built, settings = towers.query.backbone.config, towers.settings
    hard = 1 if config.loss.loss in TRIPLES else config.negatives.hard
    queries = math.ceil(config.optimize.batch_size / world)
    tokens = queries * (settings.query_length + (1 + hard) * settings.segments * settings.passage_length)
    if config.optimize.chunk:
        tokens = min(tokens, config.optimize.chunk * settings.passage_length)
    return training_memory(weights(towers), tokens, int(built.hidden_size), int(built.num_hidden_layers))


def smaller_chunk(config: FinetuneConfig, towers: Towers, here: Runtime) -> str:
    """What to do where memory doesn't suffice."""
    hard = 1 if config.loss.loss in TRIPLES else config.negatives.hard
    texts = math.ceil(config.optimize.batch_size / here.world) * (1 + hard) * towers.settings.segments
    now = config.optimize.chunk or texts

    def holds(chunk: int) -> int:
        smaller = dataclasses.replace(config, optimize=dataclasses.replace(config.optimize, chunk=chunk))
        return memory_held(smaller, towers, here.world)

    return lower("--chunk", now, holds, device_memory(here))
