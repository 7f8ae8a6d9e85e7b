"""The training loop and what it needs: objectives, losses, schedule, checkpoints."""
