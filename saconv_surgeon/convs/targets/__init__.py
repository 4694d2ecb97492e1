"""What a convolution can be converted to: one file for each target."""
