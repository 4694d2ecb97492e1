"""Which versions of torch and of Python the promises hold on."""
