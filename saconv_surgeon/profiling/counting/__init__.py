"""Counting: parameters, multiply-accumulates, operations, bytes."""
