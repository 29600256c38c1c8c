"""Cameras and files as processes that may hang or die, and the frames that they give."""
