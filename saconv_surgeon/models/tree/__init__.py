"""The module tree of a model: paths, copies, wrappers, modules that layers have absorbed."""
