"""The report of each command, put together from sections."""
