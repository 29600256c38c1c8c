"""The training loop: optimiser, progress, evaluation in between, and the summary at the end."""
