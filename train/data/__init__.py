"""Data sets on disk, and the samples that a network sees of them."""
