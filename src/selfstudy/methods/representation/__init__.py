"""Encoders trained without labels, and what labels add when they are few."""
