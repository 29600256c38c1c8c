"""The operator's page: a process of its own that serves it, and what it asks the stream for."""
