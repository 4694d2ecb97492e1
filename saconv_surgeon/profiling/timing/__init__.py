"""Timing: models in turn, layers, training steps, and verdicts."""
