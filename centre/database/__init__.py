"""The centre's Postgres: its schema, days, and what is written and asked."""
