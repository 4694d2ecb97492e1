"""The former place of :mod:`saconv_surgeon.profiling.timing.verdicts`, for scripts that import ``ratio_of`` from here."""

from saconv_surgeon.profiling.timing.verdicts import ratio_of

__all__ = ["ratio_of"]
