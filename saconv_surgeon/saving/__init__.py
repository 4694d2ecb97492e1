"""Writing conversions and folded models to files, and reading conversions again."""
