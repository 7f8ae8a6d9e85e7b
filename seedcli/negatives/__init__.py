"""Where hard negatives come from, and how they are drawn."""
