"""Swap the convolutions of a trained PyTorch model for switchable atrous ones without losing a prediction."""
