"""From a checkpoint to a bundle: folding, the static graph, precisions, gates, TensorRT."""

import personsearch.train  # noqa: F401  (before PyTorch: how its threads wait)
