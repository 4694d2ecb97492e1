"""Running a model on inputs without leaving a trace on it, and comparing what it returns."""
