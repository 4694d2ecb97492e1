"""Exported programs (``.pt2``): checked, read as modules, written again."""
