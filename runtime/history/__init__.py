"""Who was seen lately, for searching back: visits on disk, off by default, forgotten in time."""
