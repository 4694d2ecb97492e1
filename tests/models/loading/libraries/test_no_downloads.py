"""A model is made without asking other machines for anything, unless the user does."""

import socket
import urllib.request

import pytest
import torch
from torch import nn

from saconv_surgeon.errors import ModelError
from saconv_surgeon.models.loading.libraries import known_libraries as registry
from saconv_surgeon.models.loading.libraries.library import Library
from saconv_surgeon.models.loading.libraries.no_downloads import no_downloads
from saconv_surgeon.models.loading.model_spec import load_model

FAR = "http://192.0.2.1:9/weights.pth"  # an address that is no machine's


def by_hub(place):
    torch.hub.load_state_dict_from_url(FAR, model_dir=str(place), progress=False)


def by_name(place):
    urllib.request.urlopen("http://weights.invalid/w.pth", timeout=5)


def by_address(place):
    socket.create_connection(("192.0.2.1", 9), timeout=5)


def swallowing(place):
    """As libraries do that try again, or say something else."""
    try:
        by_address(place)
    except Exception:
        raise RuntimeError("weights not found") from None


WAYS = pytest.mark.parametrize("ask", [by_hub, by_name, by_address, swallowing])


@WAYS
def test_nothing_is_asked_for(tmp_path, ask):
    with pytest.raises(ModelError, match=r"lib:x would download something.*--pretrained"), no_downloads("lib:x"):
        ask(tmp_path)


def test_afterwards_all_is_as_before():
    before = (socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo)
    with pytest.raises(ZeroDivisionError), no_downloads("x"):
        1 / 0  # noqa: B018
    assert (socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo) == before
    assert "connect" not in vars(socket.socket)


def test_this_machine_can_be_asked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as asking:
        listening.bind("s")
        listening.listen()
        with no_downloads("x"):
            asking.connect("s")


@pytest.fixture
def library(monkeypatch):
    """A library whose models want weights from elsewhere if they are asked for."""
    asked = []

    def make(module, request):
        if request.options.get("weights") == "DEFAULT" or request.pretrained or "/" in request.name:
            asked.append(request.name)
            by_address(None)
        return nn.Conv2d(3, 4, 3)

    monkeypatch.setitem(registry.LIBRARIES, "lib", Library("json", "json", make, lambda model, request: None))
    return asked


@pytest.mark.parametrize("spec", ["lib:resnet18(weights='DEFAULT')", "lib:resnet18(3, weights='DEFAULT')"])
def test_a_weights_argument_is_not_pretrained(library, spec):
    with pytest.raises(ModelError, match="--pretrained was not given"):
        load_model(spec)


@pytest.mark.parametrize(("spec", "pretrained"), [("lib:resnet18", True), ("lib:org/model", False)])
def test_what_is_asked_for_is_fetched(library, monkeypatch, spec, pretrained):
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: None)
    load_model(spec, pretrained=pretrained)
    assert library


def test_models_without_weights(library):
    assert isinstance(load_model("lib:resnet18").module, nn.Conv2d)


@pytest.mark.zoo
def test_torchvisions_default_weights(tmp_path, monkeypatch):
    pytest.importorskip("torchvision")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(ModelError, match="--pretrained was not given"):
        load_model("torchvision:resnet18(weights='DEFAULT')")
