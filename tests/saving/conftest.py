"""Fixtures that several test files here share."""

import pytest
import torch

import saconv_surgeon as surgeon
from tests.folding.models import Pair, X, trained
from tests.models.conftest import place, saved  # noqa: F401 - fixtures


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return trained(Pair())


@pytest.fixture(scope="module")
def folding(model):
    return surgeon.fold(model, X)
