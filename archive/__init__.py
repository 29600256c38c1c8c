"""Indexes archives of recorded video: who was seen in which file and when, as Parquet, on one core or on a cluster."""
