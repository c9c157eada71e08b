"""Search and reward for language models."""
