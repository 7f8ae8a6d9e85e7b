"""Text and tokens: collections, blocks, batches, masking."""
