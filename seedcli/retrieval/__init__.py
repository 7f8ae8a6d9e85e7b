"""From text to a run: encoding, vectors, exact search, BM25, fusion."""
