"""Short codes of all stays in memory, which a search without a narrow filter goes through."""
