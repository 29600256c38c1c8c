"""What operators need: metrics and health, logs, reload, recording."""
