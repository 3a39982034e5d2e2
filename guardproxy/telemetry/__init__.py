"""Metrics, logs and records: beside the way of an exchange, never on it."""
