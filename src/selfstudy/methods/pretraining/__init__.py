"""Objectives and data for pre-training."""
