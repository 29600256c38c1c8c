"""Takes events from the hub, once each."""
