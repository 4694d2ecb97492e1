"""The converted layers and their arithmetic; what a convolution can become."""
