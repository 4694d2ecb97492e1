"""What is used of fvcore, imported without its warnings.

Importing any of fvcore's counters compiles a loss function with TorchScript, and torch 2.14 warns of that on stderr.
"""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from fvcore.nn.flop_count import _DEFAULT_SUPPORTED_OPS as PLAIN_FORMULAS
    from fvcore.nn.jit_analysis import JitModelAnalysis
    from fvcore.nn.jit_handles import get_shape

__all__ = ["PLAIN_FORMULAS", "JitModelAnalysis", "get_shape"]
