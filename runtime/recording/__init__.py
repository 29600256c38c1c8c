"""Video, only when asked for: of everything or of sightings, in a thread that may lag but holds nothing up."""
