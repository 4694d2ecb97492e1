"""A conversion to save."""

import saconv_surgeon as surgeon
from tests import nets


def converted(model=None, x=nets.X):
    return surgeon.convert(nets.chain() if model is None else model, x)
