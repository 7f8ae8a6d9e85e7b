"""Encoders, and the SEED pre-training model."""
