"""Cameras in, match events out. Entries at the top, rooms below; no PyTorch."""
