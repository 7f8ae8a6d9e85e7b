"""How verbs are typed: some stand in a group of sub-commands."""

GROUPS = {"inspect": "model", "convert": "model"}  # verb -> the group that it is in


def typed(verb: str) -> str:
    """A verb as a command: seed encode, seed model inspect."""
    return " ".join(["seed", GROUPS[verb], verb] if verb in GROUPS else ["seed", verb])
