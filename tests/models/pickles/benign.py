"""Checkpoints as trainers write them.

Classes of libraries that are not here are stand-ins of the same name and shape, there while the file is written only.
"""

import argparse
import collections
import datetime
import decimal
import enum
import functools
import pathlib
import pickle
import random
import sys
import types
import uuid
import warnings
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

FOREIGN = {}
"""By dotted name, the classes of libraries."""
REPLACED = {}
"""By name, the modules in whose place stand-ins are; None if there was none."""


def foreign(dotted, base=object, **members):
    """A class that pickles by ``dotted``, and can be imported by it until the file is written."""
    module, _, own = dotted.rpartition(".")
    if dotted not in FOREIGN:
        if isinstance(base, enum.EnumMeta):
            FOREIGN[dotted] = base(own, members, module=module, qualname=own)
        else:
            FOREIGN[dotted] = type(own, (base,), {"__module__": module, "__qualname__": own, **members})
    parts = module.split(".")
    for i in range(1, len(parts) + 1):
        path = ".".join(parts[:i])
        if path not in REPLACED:
            REPLACED[path] = sys.modules.get(path)
            sys.modules[path] = types.ModuleType(path)
    setattr(sys.modules[module], own, FOREIGN[dotted])
    return FOREIGN[dotted]


@contextmanager
def written_here():
    """After it, stand-ins cannot be imported any more."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # kinds of tensors that torch calls unfinished or deprecated
            yield
    finally:
        for path, module in REPLACED.items():
            if module is None:
                del sys.modules[path]
            else:
                sys.modules[path] = module
        REPLACED.clear()


def made(dotted, base=object, **attributes):
    """An object of a stand-in, with attributes."""
    cls = foreign(dotted, base)
    one = cls.__new__(cls)
    one.__dict__.update(attributes)
    return one


def filled(dotted, **items):
    """A dict of a library's own kind."""
    one = foreign(dotted, dict)()
    one.update(items)
    return one


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1))


def trained(kind=torch.optim.AdamW, **options):
    """A model and its optimizer after a step."""
    model = net()
    optimizer = kind(model.parameters(), lr=0.1, **options)
    model(torch.randn(2, 3, 8, 8)).square().mean().backward()
    optimizer.step()
    return model, optimizer


def state():
    return trained()[0].state_dict()


def scheduler_state():
    _, optimizer = trained()
    return torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 5]).state_dict()


def random_states():
    return {
        "random_state": random.getstate(),
        "numpy_random_seed": np.random.get_state(),
        "torch_manual_seed": torch.get_rng_state(),
    }


def timm():
    model, optimizer = trained()
    args = argparse.Namespace(
        lr=0.1, data_dir="x", mean=None, aug_splits=0, opt_betas=[0.9, 0.95], amp_dtype="bfloat16"
    )
    return {
        "epoch": 3,
        "arch": "resnet18",
        "state_dict": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "version": 2,
        "args": args,
        "amp_scaler": {"scale": 65536.0, "growth_tracker": 3},
        "state_dict_ema": model.state_dict(),
        "metric": 71.2,
    }


def lightning(prefix="lightning.pytorch", **more):
    model, optimizer = trained()
    fabric = "lightning.fabric" if prefix.startswith("lightning.") else "lightning_fabric"
    return {
        "epoch": 1,
        "global_step": 10,
        "pytorch-lightning_version": "2.5.0",
        "state_dict": {f"model.{k}": v for k, v in model.state_dict().items()},
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 2}, "current": {"ready": 2}}}},
        "callbacks": {
            "ModelCheckpoint{'monitor': 'val_loss', 'mode': 'min'}": {
                "best_model_score": torch.tensor(0.3),
                "best_model_path": "/a/b.ckpt",
                "kth_value": torch.tensor(0.3),
            },
            "EarlyStopping{'monitor': 'val_loss'}": {"wait_count": 0, "best_score": torch.tensor(0.3)},
        },
        "optimizer_states": [optimizer.state_dict()],
        "lr_schedulers": [scheduler_state()],
        "hparams_name": "kwargs",
        "hyper_parameters": filled(f"{fabric}.utilities.data.AttributeDict", lr=0.1, layers=[1, 2]),
        "datamodule_hyper_parameters": {"root": pathlib.PosixPath("/data")},
        **more,
    }


def lightning_of_old():
    """Before 1.5, the states of callbacks stood under their classes."""
    content = lightning("pytorch_lightning")
    content["callbacks"] = {
        foreign("pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint"): {"best_model_path": "x"}
    }
    content["hyper_parameters"] = filled("pytorch_lightning.utilities.parsing.AttributeDict", lr=0.1)
    return content


def lightning_with_states():
    status = foreign("pytorch_lightning.trainer.states.TrainerFn", enum.Enum, FITTING="fit")
    return lightning(
        "pytorch_lightning", hyper_parameters={"stage": status.FITTING, "args": argparse.Namespace(gpus=1)}
    )


def lightning_with_omegaconf():
    return lightning(hyper_parameters={"cfg": omegaconf()})


def lightning_with_a_loss():
    return lightning(
        hyper_parameters={"criterion": nn.CrossEntropyLoss(torch.ones(3)), "act": nn.ReLU, "opt": torch.optim.SGD}
    )


def omegaconf():
    any_node = made(
        "omegaconf.nodes.AnyNode",
        _metadata=made("omegaconf.base.Metadata", ref_type=object, object_type=None, key="lr"),
        _val=0.1,
    )
    meta = made(
        "omegaconf.base.ContainerMetadata", key_type=str, element_type=float, ref_type=dict, flags={"struct": True}
    )
    return made("omegaconf.dictconfig.DictConfig", _metadata=meta, _content={"lr": any_node}, _parent=None)


def mmengine():
    model, optimizer = trained(torch.optim.SGD, momentum=0.9)
    history = [
        made(
            "mmengine.logging.history_buffer.HistoryBuffer",
            _max_length=10000,
            _log_history=np.arange(3.0),
            _count_history=np.ones(3, dtype=np.int64),
            _statistics_methods={},
        )
        for _ in range(2)
    ]
    return {
        "meta": {
            "epoch": 3,
            "iter": 90,
            "cfg": "model = dict()",
            "seed": 0,
            "experiment_name": "x",
            "mmengine_version": "0.10.7",
            "time": "20250101_000000",
            "hook_msgs": {"best_score": np.float64(0.5)},
            "dataset_meta": {"CLASSES": ("a",)},
        },
        "state_dict": collections.OrderedDict(model.state_dict()),
        "optimizer": optimizer.state_dict(),
        "param_schedulers": [{"param_name": "lr", "last_step": 3, "_global_step": 4}],
        "message_hub": {
            "log_scalars": collections.OrderedDict(zip(("train/lr", "train/loss"), history)),
            "runtime_info": collections.OrderedDict(epoch=3),
            "resumed_keys": collections.OrderedDict(a=True),
        },
    }


def mmcv():
    return {
        "meta": {"config": filled("mmcv.utils.config.ConfigDict", lr=0.1), "PALETTE": [[0, 0, 0]]},
        "state_dict": state(),
    }


def accelerate_rng():
    return {"step": 3, **random_states(), "torch_cuda_manual_seed": [torch.get_rng_state()]}


def transformers_rng():
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        "cpu": torch.get_rng_state(),
        "cuda": [torch.get_rng_state()],
    }


def training_args():
    """``training_args.bin`` has no weights."""
    strategy = foreign("transformers.trainer_utils.IntervalStrategy", enum.Enum, NO="no", STEPS="steps")
    scheduler = foreign("transformers.trainer_utils.SchedulerType", enum.Enum, LINEAR="linear")
    distributed = foreign("accelerate.utils.dataclasses.DistributedType", enum.Enum, NO="NO")
    config = made("transformers.trainer_pt_utils.AcceleratorConfig", split_batches=False)
    partial = made(
        "accelerate.state.PartialState", _cpu=True, device=torch.device("cpu"), distributed_type=distributed.NO
    )
    return made(
        "transformers.training_args.TrainingArguments",
        output_dir="out",
        eval_strategy=strategy.NO,
        lr_scheduler_type=scheduler.LINEAR,
        accelerator_config=config,
        distributed_state=partial,
        _n_gpu=0,
        learning_rate=5e-5,
        report_to=[],
        label_names=None,
    )


def torchvision_reference():
    model, optimizer = trained(torch.optim.SGD, momentum=0.9)
    return {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "lr_scheduler": scheduler_state(),
        "epoch": 3,
        "args": argparse.Namespace(data_path="x", weights=None),
        "scaler": {"scale": 1.0},
        "model_ema": {"n_averaged": torch.tensor(3), **{f"module.{k}": v for k, v in model.state_dict().items()}},
    }


def detectron2():
    return {
        "model": {k: v.numpy() for k, v in state().items()},
        "__author__": "Detectron2 Model Zoo",
        "matching_heuristics": True,
    }


def detectron2_trainer():
    model, optimizer = trained(torch.optim.SGD)
    return {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scheduler": scheduler_state(),
        "iteration": 7,
    }


def yolov5_state():
    return {
        "epoch": -1,
        "best_fitness": np.array([0.5]),
        "model": state(),
        "opt": {"lr0": 0.01, "imgsz": 640},
        "date": "2024-01-01",
    }


def ultralytics_settings():
    return {
        "model": state(),
        "train_args": {"lr0": 0.01},
        "train_metrics": {"fitness": np.float32(0.1)},
        "args": made("ultralytics.utils.IterableSimpleNamespace", task="detect", imgsz=640),
        "date": "2025",
        "version": "8.3.0",
    }


def deepspeed():
    return {
        "module": state(),
        "loss_scaler": made("deepspeed.runtime.fp16.loss_scaler.LossScaler", cur_scale=1.0),
        "param_shapes": [collections.OrderedDict({"0.weight": torch.Size([4, 3, 3, 3])})],
        "dp_world_size": 2,
    }


def fairseq():
    return {
        "args": argparse.Namespace(arch="x"),
        "model": state(),
        "cfg": filled("fairseq.dataclass.configs.FairseqConfig", a=1),
    }


def all_dtypes():
    kinds = [
        torch.float16,
        torch.bfloat16,
        torch.float32,
        torch.float64,
        torch.int8,
        torch.uint8,
        torch.int16,
        torch.int32,
        torch.int64,
        torch.bool,
        torch.complex64,
        torch.complex128,
        torch.float8_e4m3fn,
        torch.float8_e5m2,
        torch.uint16,
        torch.uint32,
    ]
    return {str(kind): torch.ones(2, 3).to(kind) for kind in kinds}


def quantized():
    scales, zeros = torch.tensor([0.1, 0.2]), torch.tensor([0, 1])
    return {
        "tensor": torch.quantize_per_tensor(torch.ones(2, 3), 0.1, 3, torch.qint8),
        "channel": torch.quantize_per_channel(torch.ones(2, 3), scales.double(), zeros, 0, torch.quint8),
        "scale": torch.tensor(0.1),
    }


def sparse():
    dense = torch.eye(4) * 3
    return {"coo": dense.to_sparse(), "csr": dense.to_sparse_csr(), "bsr": dense.to_sparse_bsr(2), "w": torch.ones(1)}


def views():
    base = torch.arange(24.0)
    return {
        "whole": base,
        "part": base[3:9].reshape(2, 3),
        "transposed": base.reshape(4, 6).t(),
        "last": base.reshape(2, 3, 4)[..., -1],
        "channels_last": torch.ones(2, 3, 4, 4).contiguous(memory_format=torch.channels_last),
        "expanded": torch.ones(1).expand(5),
    }


def conjugate():
    value = torch.tensor([1 + 2j, 3 - 1j])
    return {"conj": value.conj(), "neg": torch._neg_view(torch.ones(3)), "plain": torch.ones(2)}


def averaged():
    return torch.optim.swa_utils.AveragedModel(net()).state_dict()


def with_objects():
    return {
        "state_dict": state(),
        "path": pathlib.PurePosixPath("a/b"),
        "when": datetime.datetime(2025, 1, 1, tzinfo=datetime.UTC),
        "took": datetime.timedelta(3),
        "counts": collections.Counter("aab"),
        "default": collections.defaultdict(list, {"a": [1]}),
        "recent": collections.deque([1, 2], maxlen=4),
        "names": {"a", "b"},
        "frozen": frozenset([1]),
        "z": 1 + 2j,
        "raw": b"ab",
        "more": bytearray(b"ab"),
        "dtype": torch.float16,
        "device": torch.device("cuda", 0),
        "size": torch.Size([1, 2]),
        "layout": torch.strided,
        "version": torch.__version__,
        "id": uuid.UUID(int=3),
        "money": decimal.Decimal("1.5"),
        "none": None,
        "slice": slice(1, 2),
        "large": 2**127,
        "range": range(3),
        "space": types.SimpleNamespace(a=1),
        "nested": {"a": ({"b": [(1, {"c": (2,)})]},)},
        "nan": float("nan"),
    }


def with_arrays():
    return {
        "state_dict": state(),
        "array": np.arange(6.0).reshape(2, 3),
        "fortran": np.asfortranarray(np.ones((2, 3))),
        "half": np.float16(1),
        "integer": np.int64(3),
        "flag": np.bool_(True),
        "text": np.array(["a", "b"]),
        "objects": np.array([None, {"a": 1}], dtype=object),
        "record": np.zeros(2, dtype=[("a", "f4"), ("b", "i8")]),
        "dtype": np.dtype("float32"),
        "kind": np.float32,
        "masked": np.ma.array([1, 2], mask=[0, 1]),
        "generator": np.random.default_rng(0),
        "state": np.random.RandomState(0),
        "when": np.array(["2025-01-01"], dtype="datetime64[D]"),
    }


def settings_of(make):
    return lambda: {"state_dict": state(), "cfg": make()}


def parameters():
    return {k: nn.Parameter(v) for k, v in net().named_parameters()}


def metadata():
    content = net().state_dict()
    assert content._metadata
    return content


def zero_elements():
    return {"empty": torch.empty(0), "no rows": torch.empty(0, 3), "scalar": torch.tensor(3.0)}


def meta():
    return {"w": torch.empty(3, 4, device="meta"), "b": torch.ones(2)}


def whole_optimizer():
    model, optimizer = trained()
    return {
        "state_dict": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scheduler": scheduler_state(),
        "gen": torch.get_rng_state(),
    }


def peft():
    kind = foreign("peft.utils.peft_types.PeftType", enum.Enum, LORA="LORA")
    return {"state_dict": state(), "config": made("peft.tuners.lora.config.LoraConfig", peft_type=kind.LORA, r=8)}


def torchmetrics():
    return {
        "state_dict": state(),
        "metric": made("torchmetrics.classification.accuracy.MulticlassAccuracy", correct=torch.tensor(3)),
    }


BENIGN = {
    "state dict": state,
    "state dict with its versions": metadata,
    "parameters": parameters,
    "averaged model": averaged,
    "timm": timm,
    "torchvision references": torchvision_reference,
    "segmentation-models-pytorch": lambda: {f"encoder.{k}": v for k, v in state().items()},
    "lightning": lightning,
    "lightning 1.x": lambda: lightning("pytorch_lightning"),
    "lightning before 1.5": lightning_of_old,
    "lightning with states of the trainer": lightning_with_states,
    "lightning with omegaconf": lightning_with_omegaconf,
    "lightning with a loss": lightning_with_a_loss,
    "lightning with optimizer classes": lambda: lightning(hyper_parameters={"optimizer": torch.optim.AdamW}),
    "lightning with paths and dates": lambda: lightning(
        hyper_parameters={"p": pathlib.Path("x"), "d": datetime.date(2025, 1, 1)}
    ),
    "lightning with metrics": torchmetrics,
    "mmengine": mmengine,
    "mmcv": mmcv,
    "mmengine's settings": settings_of(lambda: filled("mmengine.config.config.ConfigDict", lr=0.1)),
    "accelerate, random states": accelerate_rng,
    "accelerate, a model": state,
    "accelerate, an optimizer": lambda: trained()[1].state_dict(),
    "accelerate, a scheduler": scheduler_state,
    "transformers, pytorch_model.bin": state,
    "transformers, training_args.bin": training_args,
    "transformers, optimizer.pt": lambda: trained()[1].state_dict(),
    "transformers, scheduler.pt": scheduler_state,
    "transformers, rng_state.pth": transformers_rng,
    "detectron2, trained": detectron2_trainer,
    "yolov5, a state dict": yolov5_state,
    "ultralytics, a state dict with settings": ultralytics_settings,
    "deepspeed": deepspeed,
    "fairseq": fairseq,
    "basicsr": lambda: {"params": state(), "params_ema": state()},
    "peft": peft,
    "moco and others": lambda: {
        "epoch": 1,
        "arch": "r",
        "state_dict": {f"module.{k}": v for k, v in state().items()},
        "best_acc1": torch.tensor(3.0),
    },
    "SGD": lambda: {
        "model": state(),
        "optimizer": trained(torch.optim.SGD, momentum=0.9, nesterov=True)[1].state_dict(),
    },
    "Adam with amsgrad": lambda: {
        "model": state(),
        "optimizer": trained(torch.optim.Adam, amsgrad=True)[1].state_dict(),
    },
    "RMSprop": lambda: {"model": state(), "optimizer": trained(torch.optim.RMSprop)[1].state_dict()},
    "an optimizer with all": whole_optimizer,
    "dtypes": all_dtypes,
    "quantized": quantized,
    "sparse": sparse,
    "views": views,
    "conjugate": conjugate,
    "no elements": zero_elements,
    "without storage": meta,
    "objects": with_objects,
    "arrays": with_arrays,
    "arrays alone": detectron2,
    "omegaconf": settings_of(omegaconf),
    "yacs": settings_of(lambda: filled("yacs.config.CfgNode", lr=0.1, inner=filled("yacs.config.CfgNode", a=1))),
    "fvcore": settings_of(lambda: filled("fvcore.common.config.CfgNode", lr=0.1)),
    "detectron2's settings": settings_of(lambda: filled("detectron2.config.config.CfgNode", lr=0.1)),
    "addict": settings_of(lambda: filled("addict.addict.Dict", lr=0.1)),
    "easydict": settings_of(lambda: filled("easydict.EasyDict", lr=0.1)),
    "munch": settings_of(lambda: filled("munch.Munch", lr=0.1)),
    "ml_collections": settings_of(
        lambda: made("ml_collections.config_dict.config_dict.ConfigDict", _fields={"lr": 0.1})
    ),
    "a state dict in a dict of settings": lambda: filled("easydict.EasyDict", state_dict=state(), lr=0.1),
    "a state dict alone in a dict of settings": lambda: filled("addict.addict.Dict", **state()),
    "python 2's strings": lambda: {"state_dict": state(), "raw": b"\xff\x00", "text": "é😀"},
    "long lists": lambda: {
        "state_dict": state(),
        "losses": [i / 7 for i in range(20000)],
        "names": [str(i) for i in range(20000)],
    },
    "the same tensor twice": lambda: (lambda w: {"a": w, "b": w, "c": w.view(-1)})(torch.randn(3, 4)),
}
"""What is given to ``torch.save``."""


def pickled(content, protocol):
    return lambda path: path.write_bytes(pickle.dumps(content(), protocol))


def saved(content, **options):
    return lambda path: torch.save(content(), path, **options)


WRITERS = {
    **{name: saved(make) for name, make in BENIGN.items()},
    **{
        f"{name}, before 1.6": saved(BENIGN[name], _use_new_zipfile_serialization=False)
        for name in (
            "state dict",
            "timm",
            "lightning",
            "mmengine",
            "views",
            "quantized",
            "sparse",
            "arrays",
            "no elements",
        )
    },
    **{f"timm, protocol {n}": saved(timm, pickle_protocol=n) for n in (3, 4, 5)},
    **{
        f"lightning with states of the trainer, protocol {n}": saved(lightning_with_states, pickle_protocol=n)
        for n in (3, 4, 5)
    },
    **{f"detectron2 pkl, protocol {n}": pickled(detectron2, n) for n in (2, 3, 4, 5)},
    **{
        f"arrays and settings, pickled by protocol {n}": pickled(
            lambda: {**detectron2(), "cfg": argparse.Namespace(a=1)}, n
        )
        for n in (0, 1, 2, 4)
    },
}
"""By name, what writes a file of data."""


def ultralytics(dotted="ultralytics.nn.tasks.DetectionModel", conv="ultralytics.nn.modules.conv.Conv"):
    """A checkpoint of YOLO: a whole model, with its settings, and the averaged one."""

    def model():
        inner = net()
        inner.extra = made(conv, nn.Module, **nn.Sequential(nn.Conv2d(2, 2, 1), nn.SiLU()).__dict__)
        inner.register_buffer("anchors", torch.arange(4.0))
        inner.register_buffer("passing", torch.arange(4.0), persistent=False)
        whole = made(dotted, nn.Sequential, **inner.half().__dict__)
        whole.yaml, whole.names, whole.stride = {"nc": 2}, {0: "a"}, torch.tensor([8.0])
        whole.args = made("ultralytics.utils.IterableSimpleNamespace", task="detect")
        return whole

    return {
        "epoch": -1,
        "best_fitness": None,
        "model": model(),
        "ema": None,
        "updates": None,
        "optimizer": None,
        "train_args": {"lr0": 0.01, "project": pathlib.PosixPath("runs")},
        "train_metrics": {"fitness": np.float64(0.1)},
        "train_results": {"epoch": [1, 2], "time": [0.5, 0.7]},
        "date": "2025-01-01T00:00:00",
        "version": "8.3.0",
    }


MODELS = {
    "Ultralytics 8": ultralytics,
    "Ultralytics 8.0, in its first folders": lambda: ultralytics(
        "ultralytics.nn.tasks.DetectionModel", "ultralytics.nn.modules.Conv"
    ),
    "Ultralytics 8, classification": lambda: ultralytics("ultralytics.nn.tasks.ClassificationModel"),
    "Ultralytics 11, segmentation": lambda: ultralytics(
        "ultralytics.nn.tasks.SegmentationModel", "ultralytics.nn.modules.block.C3k2"
    ),
    "YOLOv5": lambda: ultralytics("models.yolo.DetectionModel", "models.common.Conv"),
    "a plain model in a checkpoint": lambda: {"epoch": 3, "model": net(), "args": argparse.Namespace(a=1)},
}
"""Checkpoints with a whole model: its weights are data."""
WRITERS |= {name: saved(make) for name, make in MODELS.items()}
WRITERS["Ultralytics 8, protocol 4"] = saved(ultralytics, pickle_protocol=4)


class Own(nn.Module):
    """Of the user's own code."""


CODE = {
    "a whole model": saved(net),
    "a whole model of torchvision's or one's own": saved(lambda: nn.ModuleList([Own()])),
    "one's own model in a checkpoint": saved(lambda: {"epoch": 3, "model": nn.Sequential(Own(), nn.Conv2d(1, 1, 1))}),
    "functools.partial in settings": saved(
        lambda: {"state_dict": state(), "norm": functools.partial(nn.BatchNorm2d, eps=1e-3)}
    ),
}
"""What is refused without ``--trust``."""
