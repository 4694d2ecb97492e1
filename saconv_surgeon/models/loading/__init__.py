"""From what a user types to a module with weights and inputs. No code of a file runs without ``--trust``."""
