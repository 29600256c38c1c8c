"""Sends the box's numbered events onwards to NATS, MQTT and webhooks, with the journal as the outbox."""
