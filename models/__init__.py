"""The bundle that ships with the project; see README.md beside it."""
