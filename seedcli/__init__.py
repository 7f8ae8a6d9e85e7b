"""seed: end-to-end dense retrieval, from raw words to a significance-tested table."""

__version__ = "0.1.0"
