"""Events: made, numbered, kept, sent, and replayed."""
