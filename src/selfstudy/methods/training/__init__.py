"""Optimisers, schedules, curricula, and how training is measured."""
