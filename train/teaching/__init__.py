"""Learning from other models and from unlabelled video."""
