"""Causal language models: loading, sampling, scoring, value heads."""
