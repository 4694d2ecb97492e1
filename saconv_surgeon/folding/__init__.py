"""A trained converted model made the fastest equal one for inference, and written for deployment."""
