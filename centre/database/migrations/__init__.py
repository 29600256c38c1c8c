"""Changes of the schema, in order; each runs once, in one transaction."""
