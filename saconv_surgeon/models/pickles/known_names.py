"""Which functions and classes a checkpoint may name: those of tensors and of what trainers store besides.

A list of what is known, not of what is feared. That a name is on it means that the file is read as data: the function or class
is not looked up, and what it would have made is described or passed over.
"""

from __future__ import annotations

import functools
import re
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from typing import Literal

from saconv_surgeon.models.pickles.dtypes import STORAGES, dtype_of
from saconv_surgeon.models.pickles.stand_ins import Name

Kind = Literal["storage", "constant", "tensor", "container", "setting", "attribute", "module"]

REBUILDERS = frozenset(
    "_rebuild_tensor _rebuild_tensor_v2 _rebuild_tensor_v3 _rebuild_parameter _rebuild_parameter_with_state _rebuild_qtensor "
    "_rebuild_sparse_tensor _rebuild_sparse_csr_tensor _rebuild_meta_tensor_no_storage _rebuild_nested_tensor "
    "_rebuild_device_tensor_from_numpy _rebuild_device_tensor_from_cpu_tensor".split()
)
_TORCH_CONSTANTS = frozenset(
    "strided sparse_coo sparse_csr sparse_csc sparse_bsr sparse_bsc jagged contiguous_format channels_last channels_last_3d "
    "preserve_format per_tensor_affine per_tensor_symmetric per_channel_affine per_channel_symmetric "
    "per_channel_affine_float_qparams".split()
)
_TENSOR_CLASSES = re.compile(r"(Double|Float|Half|BFloat16|Long|Int|Short|Char|Byte|Bool)?Tensor")
_CONTAINERS = {
    "builtins": "list dict set frozenset tuple bytes bytearray str complex slice range",
    "collections": "OrderedDict defaultdict Counter deque",
    "_codecs": "encode",
    "copyreg": "_reconstructor",
    "torch": "Size",
}
_CONSTANTS = {
    "builtins": "int float bool object type NotImplemented Ellipsis NoneType",
    "types": "NoneType",
}
_NUMPY_TYPES = (
    "float16|float32|float64|longdouble|int8|int16|int32|int64|longlong|uint8|uint16|uint32|uint64|ulonglong|bool|bool_|str_|"
    "bytes_|complex64|complex128|void|object_"
)
_CLASS = r"_?[A-Z]\w*(?:\.[A-Z]\w*)*"
"""By the conventions of the libraries below a class; their functions and modules have other names."""
_LIGHTNING = r"(lightning(\.pytorch|\.fabric)?|pytorch_lightning|lightning_fabric)"
_SETTINGS: tuple[tuple[str, str], ...] = (
    (r"argparse", "Namespace"),
    (r"types", "SimpleNamespace"),
    (r"pathlib(\._local)?", r"(Pure)?(Posix|Windows)?Path"),
    (r"datetime", "datetime|date|time|timedelta|timezone"),
    (r"decimal", "Decimal"),
    (r"fractions", "Fraction"),
    (r"uuid", "UUID|SafeUUID"),
    (r"collections", "UserDict|UserList"),
    (r"typing", "Any|Union|Optional|List|Dict|Tuple|Set|Sequence|Mapping|Callable|_GenericAlias|_SpecialForm"),
    (r"numpy(\.core|\._core)?\.multiarray", r"_reconstruct|scalar"),
    (r"numpy(\.core|\._core)?\.numeric", "_frombuffer"),
    (r"numpy", rf"ndarray|dtype|dtypes\.\w+DType|{_NUMPY_TYPES}"),
    (r"numpy\.dtypes", r"\w+DType"),
    (r"numpy\.ma(\.core)?", "MaskedArray|_mareconstruct"),
    (r"numpy\.random\._pickle", "__randomstate_ctor|__generator_ctor|__bit_generator_ctor"),
    (r"numpy\.random\._(mt19937|pcg64|philox|sfc64)", "MT19937|PCG64|PCG64DXSM|Philox|SFC64"),
    (
        r"numpy\.random(\.mtrand|\.bit_generator|\._generator)?",
        "RandomState|Generator|SeedSequence|__pyx_unpickle_SeedSequence",
    ),
    (r"torch", r"device|Generator"),
    (r"torch\.torch_version", "TorchVersion"),
    (r"torch\.serialization", "_get_layout"),
    (r"torch\.optim(\.\w+)*", _CLASS),
    (r"torch\.(cuda\.)?amp\.grad_scaler", _CLASS),
    (r"torch\.nn\.modules\.(loss|activation)", _CLASS),
    (r"torchvision\.transforms(\.\w+)*", _CLASS),
    (r"torchvision\.models(\.\w+)*", r"\w+_Weights"),
    (r"(addict(\.addict)?)", "Dict"),
    (r"easydict", "EasyDict"),
    (r"munch", "Munch|DefaultMunch"),
    (r"box(\.box)?", "Box"),
    (r"(yacs|fvcore\.common|detectron2\.config)\.config", "CfgNode"),
    (r"ml_collections\.config_dict(\.config_dict)?", r"\w*ConfigDict|FieldReference"),
    (r"omegaconf\.(dictconfig|listconfig|base|nodes)", _CLASS),
    (r"(mmengine|mmcv)(\.(config|utils|logging|structures|hub|runner))(\.\w+)*", _CLASS),
    (r"detectron2\.(config|structures)(\.\w+)*", _CLASS),
    (rf"{_LIGHTNING}\.(callbacks|loops|loggers|plugins|profilers|strategies|trainer|tuner|utilities)(\.\w+)*", _CLASS),
    (rf"{_LIGHTNING}\.(accelerators|core\.mixins|wrappers)(\.\w+)*", _CLASS),
    (r"torchmetrics(\.\w+)*", _CLASS),
    (
        r"transformers\.(training_args\w*|trainer_\w+|debug_utils|optimization|deepspeed|integrations\.deepspeed)",
        _CLASS,
    ),
    (r"transformers\.(generation\.)?configuration_utils|transformers\.utils\.quantization_config", _CLASS),
    (r"transformers\.models(\.\w+)+\.configuration_\w+", _CLASS),
    (r"accelerate\.(state|utils\.(dataclasses|deepspeed))", _CLASS),
    (r"peft\.(utils|tuners)(\.\w+)*", r"\w+(Config|Type)"),
    (r"diffusers\.configuration_utils", "FrozenDict"),
    (r"timm\.(data|utils|optim|scheduler)(\.\w+)*", _CLASS),
    (r"ultralytics\.(utils|cfg)(\.\w+)*", r"IterableSimpleNamespace"),
    (r"(fairseq|hydra)\.(dataclass|data|conf|optim)(\.\w+)*", _CLASS),
    (r"deepspeed\.runtime\.(fp16\.loss_scaler|zero\.config)", _CLASS),
    (r"deepspeed\.utils\.tensor_fragment", "fragment_address"),
)
"""Modules, and names in them, of settings and statistics that trainers store; of their whole packages only what is stored."""
_MODULES = (
    (r"torch\.nn\.modules(\.\w+)*", _CLASS),
    (r"torchvision\.(models|ops)(\.\w+)*", _CLASS),
    (r"timm\.(models|layers)(\.\w+)*", _CLASS),
    (r"ultralytics(\.yolo)?\.(nn|utils)(\.\w+)*", rf"{_CLASS}|v10Detect"),
    (r"models\.(yolo|common|experimental)", _CLASS),
)
"""Those of whole models, of which the weights can be read where a checkpoint keeps a model among other things, as YOLO does."""
_KNOWN_MODULES = tuple((re.compile(module), re.compile(name)) for module, name in _MODULES)
_KNOWN_SETTINGS = tuple((re.compile(module), re.compile(name)) for module, name in _SETTINGS)


def modern(module: str, name: str) -> Name:
    """A name as Python 3 has it; pickles of protocol 2, which torch writes, hold those of Python 2."""
    if (module, name) in NAME_MAPPING:
        module, name = NAME_MAPPING[module, name]
    elif module in IMPORT_MAPPING:
        module = IMPORT_MAPPING[module]
    return Name(module, name)


@functools.lru_cache(maxsize=4096)
def kind_of(name: Name) -> Kind | None:
    """What a name stands for in a checkpoint; None if it is not known to belong there."""
    module, own = name.module, name.name
    if module in ("torch", "torch.cuda", "torch.storage") and (
        own in STORAGES or own in ("TypedStorage", "_UntypedStorage")
    ):
        return "storage"
    if module == "torch" and (own in _TORCH_CONSTANTS or dtype_of(own)):
        return "constant"
    if _is_tensor(module, own):
        return "tensor"
    if own in _CONTAINERS.get(module, "").split():
        return "container"
    if own in _CONSTANTS.get(module, "").split():
        return "constant"
    if (module, own) == ("builtins", "getattr"):
        return "attribute"
    if any(m.fullmatch(module) and n.fullmatch(own) for m, n in _KNOWN_SETTINGS):
        return "setting"
    if any(m.fullmatch(module) and n.fullmatch(own) for m, n in _KNOWN_MODULES):
        return "module"
    return None


def _is_tensor(module: str, own: str) -> bool:
    if module == "torch._utils":
        return own in REBUILDERS
    if module in ("torch", "torch.cuda"):
        return _TENSOR_CLASSES.fullmatch(own) is not None
    return (module, own) in (
        ("torch._tensor", "_rebuild_from_type_v2"),
        ("torch._tensor", "Tensor"),
        ("torch.tensor", "_rebuild_from_type_v2"),
        ("torch.nn.parameter", "Parameter"),
        ("torch.nn.parameter", "Buffer"),
    )
