"""Algorithms that sort arrays: cells that act for themselves, and the classical ones."""
