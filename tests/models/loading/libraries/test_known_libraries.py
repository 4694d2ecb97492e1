"""Models by the name that a library knows them by. The real libraries are asked in the tests that are marked ``zoo``."""

import sys
import textwrap

import pytest
import torch
from click.testing import CliRunner
from torch import nn

from saconv_surgeon.cli import cli
from saconv_surgeon.errors import ModelError, UntrustedError, UsageError, UserCodeError
from saconv_surgeon.models.loading.input_spec import offered_inputs
from saconv_surgeon.models.loading.libraries import known_libraries as registry
from saconv_surgeon.models.loading.libraries.library import Library
from saconv_surgeon.models.loading.model_spec import load_model

zoo = pytest.mark.zoo
quiet = pytest.mark.filterwarnings("ignore")


def library(package, make=None):
    return Library(
        package, "the-extra", make or (lambda module, order: nn.Conv2d(3, 4, 3)), lambda model, order: (model, order)
    )


@pytest.fixture
def known(monkeypatch):
    """Lets a test put a library of its own beside the real ones."""
    return lambda name, entry: monkeypatch.setitem(registry.LIBRARIES, name, entry)


# ------------------------------------------------------------------ without any library


def test_a_missing_library_names_its_extra(known):
    known("lib", library("not_installed_at_all"))
    with pytest.raises(
        ModelError, match=r"lib: models need not_installed_at_all.*pip install 'saconv-surgeon\[the-extra\]'"
    ):
        load_model("lib:resnet18")
    result = CliRunner().invoke(cli, ["inspect", "lib:resnet18"])
    assert result.exit_code == 3


def test_every_library_has_its_extra():
    import tomllib
    from pathlib import Path

    content = tomllib.loads((Path(__file__).parents[4] / "pyproject.toml").read_text())
    extras = content["project"]["optional-dependencies"]
    for entry in registry.LIBRARIES.values():
        assert any(entry.package.replace("_", "-") in need for need in extras[entry.extra])


def test_a_library_that_does_not_import(known, tmp_path, monkeypatch):
    (tmp_path / "half_a_library.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    (tmp_path / "needy_library.py").write_text("import something_else_entirely")
    monkeypatch.syspath_prepend(tmp_path)
    known("half", library("half_a_library"))
    known("needy", library("needy_library"))
    with pytest.raises(
        ModelError, match=r"is installed but cannot be imported .*do its version and torch's belong together"
    ):
        load_model("half:x")
    with pytest.raises(ModelError, match="needy_library cannot be imported: No module named 'something_else_entirely'"):
        load_model("needy:x")


@pytest.mark.parametrize(
    ("spec", "name", "args", "options"),
    [
        ("lib:resnet50.a1_in1k", "resnet50.a1_in1k", (), {}),
        ("lib:org/model-name", "org/model-name", (), {}),
        ("lib:yolov8n-seg.yaml", "yolov8n-seg.yaml", (), {}),
        ("lib:Unet(encoder_name='x', depth=3)", "Unet", (), {"encoder_name": "x", "depth": 3}),
        ("lib:net(1, [2, 3], cfg={'a': None})", "net", (1, [2, 3]), {"cfg": {"a": None}}),
    ],
)
def test_names_and_arguments(known, spec, name, args, options):
    orders = []
    known("lib", library("math", lambda module, order: orders.append(order) or nn.Conv2d(3, 4, 3)))
    load_model(spec, pretrained=True)
    (order,) = orders
    assert (order.name, order.args, order.options, order.pretrained) == (name, args, options, True)


@pytest.mark.parametrize("spec", ["lib:net(open('x'))", "lib:net(", "lib:(3)", "lib:"])
def test_what_is_no_name(known, spec):
    known("lib", library("math"))
    with pytest.raises((UsageError, ModelError)):
        load_model(spec)


def test_what_the_library_raises_keeps_its_traceback(known):
    def broken(module, order):
        raise KeyError("its own fault")

    known("lib", library("math", broken))
    with pytest.raises(UserCodeError, match="raised KeyError: 'its own fault'") as caught:
        load_model("lib:net")
    assert isinstance(caught.value.__cause__, KeyError)


def test_pretrained_is_for_libraries(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plain_net.py").write_text("from torch import nn\ndef build(): return nn.Conv2d(3, 4, 3)")
    with pytest.raises(UsageError, match="--pretrained is for a library's models"):
        load_model("plain_net.py:build", pretrained=True)
    assert CliRunner().invoke(cli, ["inspect", "plain_net.py:build", "--pretrained"]).exit_code == 2


def test_a_file_of_that_name_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(nn.Conv2d(3, 4, 3), tmp_path / "timm:net.pt")
    assert isinstance(load_model("timm:net.pt", trust=True).module, nn.Conv2d)


def test_a_pickled_model_of_a_library_knows_its_size(known, tmp_path, monkeypatch):
    (tmp_path / "my_zoo.py").write_text(
        textwrap.dedent("""
            from torch import nn
            class Net(nn.Conv2d): pass
        """)
    )
    monkeypatch.syspath_prepend(tmp_path)
    import my_zoo

    torch.save(my_zoo.Net(3, 4, 3), tmp_path / "m.pt")
    known("mine", Library("my_zoo", "x", None, lambda model, order: torch.ones(1, 3, 8, 8)))
    assert offered_inputs(load_model(str(tmp_path / "m.pt"), trust=True)).shapes == ((1, 3, 8, 8),)
    del sys.modules["my_zoo"]


# ------------------------------------------------------------------ the real ones

SIZES = [
    ("timm:resnet10t", ((1, 3, 176, 176),)),
    ("timm:resnet10t(in_chans=1)", ((1, 1, 176, 176),)),
    ("timm:tresnet_m", ((1, 3, 224, 224),)),
    ("timm:csatv2_21m", ((1, 3, 640, 640),)),
    ("timm:vit_tiny_patch16_224(img_size=96)", ((1, 3, 96, 96),)),
    ("torchvision:efficientnet_b1", ((1, 3, 240, 240),)),
    ("torchvision:lraspp_mobilenet_v3_large", ((1, 3, 520, 520),)),
    ("torchvision:r3d_18", ((1, 3, 16, 112, 112),)),
    ("torchvision:raft_small", ((1, 3, 128, 128),) * 2),
    ("torchvision:ssdlite320_mobilenet_v3_large", ((3, 320, 320),)),
    ("ultralytics:yolov8n", ((1, 3, 640, 640),)),
    ("ultralytics:yolov8n-cls.yaml", ((1, 3, 224, 224),)),
    ("transformers:segformer", ((1, 3, 224, 224),)),
    ("transformers:ResNetModel(num_channels=4)", ((1, 4, 224, 224),)),
    ("smp:Unet(encoder_name='resnet18', in_channels=2)", ((1, 2, 224, 224),)),
]


def needs(spec):
    package = registry.LIBRARIES[spec.partition(":")[0]].package
    try:
        return __import__(package)
    except Exception as error:
        return pytest.skip(f"{package}: {error}")


@zoo
@quiet
@pytest.mark.parametrize(("spec", "shapes"), SIZES)
def test_the_librarys_own_size(spec, shapes):
    needs(spec)
    assert offered_inputs(load_model(spec)).shapes == shapes


@zoo
@quiet
@pytest.mark.parametrize(
    ("spec", "near"),
    [
        ("timm:resnet1o", "resnet"),
        ("torchvision:resnet81", "resnet18"),
        ("ultralytics:yolov8z9.yaml", "yolov8"),
        ("transformers:segfromer", "segformer"),
        ("smp:Uneet", "Unet"),
    ],
)
def test_unknown_names(spec, near):
    needs(spec)
    with pytest.raises(ModelError, match=rf"has no model .*{near}"):
        load_model(spec)


def same_weights(model, wanted):
    state = model.state_dict()
    return all(torch.equal(state[name], value) for name, value in wanted.items())


@zoo
@quiet
def test_pretrained_timm(tmp_path):
    timm = needs("timm:x")
    source = timm.create_model("resnet10t").state_dict()
    torch.save(source, tmp_path / "w.pth")
    spec = f"timm:resnet10t(pretrained_cfg_overlay={{'file': {str(tmp_path / 'w.pth')!r}}})"
    assert same_weights(load_model(spec, pretrained=True).module, source)
    assert not same_weights(load_model(spec).module, source)


@zoo
@quiet
def test_pretrained_torchvision(tmp_path, monkeypatch):
    torchvision = needs("torchvision:x")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    weights = torchvision.models.get_model_weights("squeezenet1_1").DEFAULT
    source = torchvision.models.squeezenet1_1().state_dict()
    place = tmp_path / "hub" / "checkpoints" / weights.url.rpartition("/")[2]
    place.parent.mkdir(parents=True)
    torch.save(source, place)
    assert same_weights(load_model("torchvision:squeezenet1_1", pretrained=True).module, source)


@zoo
@quiet
def test_pretrained_transformers(tmp_path):
    transformers = needs("transformers:x")
    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1], layer_type="basic")
    source = transformers.ResNetForImageClassification(config)
    source.save_pretrained(tmp_path / "model")
    loaded = load_model(f"transformers:{tmp_path / 'model'}", pretrained=True)
    assert type(loaded.module) is type(source)
    assert same_weights(loaded.module, source.state_dict())
    with pytest.raises(ModelError, match="names an architecture"):
        load_model("transformers:resnet", pretrained=True)


@zoo
@quiet
def test_pretrained_ultralytics(tmp_path, monkeypatch):
    ultralytics = needs("ultralytics:x")
    monkeypatch.chdir(tmp_path)
    source = ultralytics.YOLO("yolov8n.yaml")
    source.save("yolov8n.pt")
    with pytest.raises(UntrustedError, match="pickled models, which run code"):
        load_model("ultralytics:yolov8n", pretrained=True)
    loaded = load_model("ultralytics:yolov8n", pretrained=True, trust=True)
    halved = {
        name: value.half().float() for name, value in source.model.state_dict().items() if value.is_floating_point()
    }
    assert same_weights(loaded.module, halved)


@zoo
@quiet
def test_pretrained_smp(monkeypatch):
    smp = needs("smp:x")
    asked = []
    monkeypatch.setattr(smp, "create_model", lambda *args, **options: asked.append(options) or nn.Conv2d(3, 4, 3))
    load_model("smp:Unet(encoder_name='resnet18')", pretrained=True)
    load_model("smp:Unet(encoder_name='resnet18')")
    assert [options["encoder_weights"] for options in asked] == ["imagenet", None]


# ------------------------------------------------------------------ configurations that run code

CONFIGURATION = """
nc: 2
activation: {activation}
backbone:
  - [-1, 1, Conv, [8, 3, 2]]
  - [-1, 1, {layer}, {arguments}]
head:
  - [-1, 1, Classify, [nc]]
"""


@zoo
@quiet
@pytest.mark.parametrize("activation", ["null", "nn.ReLU()", "torch.nn.LeakyReLU(0.1, inplace=True)"])
@pytest.mark.parametrize(("layer", "arguments"), [("Conv", "[8, 3, 2]"), ("nn.Identity", "[]")])
def test_configurations_of_ones_own(tmp_path, activation, layer, arguments):
    needs("ultralytics:x")
    text = CONFIGURATION.format(activation=activation, layer=layer, arguments=arguments)
    (tmp_path / "own.yaml").write_text(text)
    loaded = load_model(f"ultralytics:{tmp_path / 'own.yaml'}")
    assert loaded.module(torch.ones(1, 3, 32, 32)) is not None


@zoo
@quiet
@pytest.mark.parametrize("name", ["own.yaml", "yolov8n.yaml", "yolov8.yaml"])
@pytest.mark.parametrize(
    ("activation", "layer", "arguments"),
    [
        ("__import__('os').mkdir('mark')", "Conv", "[8, 3, 2]"),
        ("nn.ReLU(__import__('os').mkdir('mark'))", "Conv", "[8, 3, 2]"),
        ("nn.ReLU().__class__", "Conv", "[8, 3, 2]"),
        ("nn.init.os.system('x')", "Conv", "[8, 3, 2]"),
        ("null", "torch_safe_load", "['evil.pt']"),
        ("null", "nn.functional", "[]"),
        ("null", "xnn.Conv2d", "[]"),
        ("null", "Path", "['x']"),
        ("null", "DetectionModel", "[{activation: \"__import__('os').mkdir('mark')\", yaml_file: x}]"),
    ],
)
def test_configurations_that_run_code(tmp_path, monkeypatch, name, activation, layer, arguments):
    needs("ultralytics:x")
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_text(CONFIGURATION.format(activation=activation, layer=layer, arguments=arguments))
    asked = "yolov8n.yaml" if name == "yolov8.yaml" else name
    with pytest.raises(UntrustedError, match="a configuration that would run code"):
        load_model(f"ultralytics:{asked}")
    assert not (tmp_path / "mark").exists()


@zoo
@quiet
def test_a_trusted_configuration_runs_its_code(tmp_path):
    """The control: without the check the code above would have run."""
    needs("ultralytics:x")
    text = CONFIGURATION.format(
        activation=f"__import__('os').mkdir({str(tmp_path / 'mark')!r}) or nn.ReLU()",
        layer="Conv",
        arguments="[8, 3, 2]",
    )
    (tmp_path / "own.yaml").write_text(text)
    load_model(f"ultralytics:{tmp_path / 'own.yaml'}", trust=True)
    assert (tmp_path / "mark").exists()
