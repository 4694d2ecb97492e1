"""Deciding, rewriting, proving, saving."""
