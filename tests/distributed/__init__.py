"""Converted models on several processes."""
