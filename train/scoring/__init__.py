"""What evaluation adds to the protocol: re-ranking and pictures."""
