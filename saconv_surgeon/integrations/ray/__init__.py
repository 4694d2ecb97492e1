"""Many trainings and many candidates on Ray: ``sweep`` over plans, recipes and seeds, ``profile_all`` over models."""

from saconv_surgeon.integrations.ray.profiles import profile_all, write_profiles
from saconv_surgeon.integrations.ray.sweeps import Case, sweep, write

__all__ = ["Case", "profile_all", "sweep", "write", "write_profiles"]
