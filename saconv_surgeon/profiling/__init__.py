"""Counting and timing."""
