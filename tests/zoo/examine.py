"""Everything that is asked of one real model; the answers are a row of the table in ``docs/zoo.md``."""

import json
import time
import warnings
from collections import Counter

import torch
from click.testing import CliRunner
from torch import nn
from torch.nn.modules.conv import _ConvNd
from torch.utils import _pytree as pytree

import saconv_surgeon as surgeon
from saconv_surgeon.cli import cli
from saconv_surgeon.models.loading.input_spec import make_inputs, offered_inputs
from saconv_surgeon.models.loading.model_spec import load_model
from saconv_surgeon.models.running import output_leaves as outputs
from saconv_surgeon.models.running.inputs import Inputs
from tests import oracle

ORACLE_MACS = 8e8
"""Multiply-accumulates of a model's layers that the float64 oracle, which is slow on purpose, is asked about."""
SHAKE = 0.1
NO_VALUE = 1e6


def open_entry(entry):
    torch.manual_seed(0)
    loaded = load_model(entry.spec)
    inputs = make_inputs((entry.size,), seed=0) if entry.size else offered_inputs(loaded)
    model = loaded.module.eval()
    if "(min_size=" in entry.spec:
        inputs = Inputs(args=([torch.rand(3, 192, 224, generator=torch.Generator().manual_seed(0))],))
    randomise(model)
    return model, inputs


def randomise(model):
    """Statistics and parameters as training leaves them, so that an error in one place shows at the end: heads and gates that
    begin at zero would hide it.
    """
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if (
                parameter.dim() == 4
                and parameter.numel()
                and float(parameter.std()) < 0.3 * (2 / parameter[0].numel()) ** 0.5
            ):
                nn.init.kaiming_normal_(
                    parameter, nonlinearity="relu", generator=generator
                )  # a signal that does not fade
            if (
                parameter.is_floating_point()
                and parameter.numel() > 1
                and bool((parameter == parameter.flatten()[0]).all())
            ):
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._NormBase):
            with torch.no_grad():
                if module.running_mean is not None:
                    module.running_mean.copy_(torch.randn(module.running_mean.shape, generator=generator) * 0.1)
                    module.running_var.copy_(torch.rand(module.running_var.shape, generator=generator) + 0.5)
                if module.weight is not None:
                    module.weight.copy_(torch.rand(module.weight.shape, generator=generator) + 0.5)
                    module.bias.copy_(torch.randn(module.bias.shape, generator=generator) * 0.1)


def examine(entry, deep=False):
    """Converts a model and checks by other means than the tool's own what it says of it."""
    start = time.perf_counter()
    model, inputs = open_entry(entry)
    before = {key: value.clone() for key, value in model.state_dict().items() if isinstance(value, torch.Tensor)}
    seen = executed_convolutions(model, inputs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", surgeon.NoEffectWarning)
        conversion = surgeon.convert(model, inputs, trials=2)
    plan, e = conversion.plan, conversion.equivalence
    check_ledger(plan, model, seen)
    assert {site.path for site in plan.sites if site.converts} == converted_paths(conversion.model)
    assert all(
        torch.equal(value, before[key]) or value.isnan().any()
        for key, value in model.state_dict().items()
        if key in before
    )
    assert e.passed, f"{e.max_rel} {e.first_moved} {e.problems}"
    if e.bit_equal and e.deterministic:
        check_outputs_equal(model, conversion.model, inputs)
    assert says_something(model, inputs), "no output holds finite values that differ: equality would prove nothing"
    row = {
        "library": entry.library,
        "family": entry.family,
        "model": entry.spec.partition(":")[2] + (f" at {entry.size}" if entry.size else ""),
        "executed": plan.ledger.executed,
        "never_ran": plan.ledger.never_ran,
        "converted": plan.ledger.converted,
        "refused": dict(Counter(s.reason_code for s in plan.sites if not s.converts)),
        "found_by_fx": sum(s.found_by.startswith("fx") for s in plan.sites),
        "bit_equal": e.bit_equal,
        "deterministic": e.deterministic,
        "max_rel": e.max_rel,
        "noise_max_rel": e.noise_max_rel,
    }
    if deep and plan.ledger.converted:
        row |= look_deeper(model, conversion, inputs)
    return row | {"seconds": round(time.perf_counter() - start, 1)}


def examine_program(entry, folder):
    """Exports a model with a dynamic batch, converts the file by the command line, and runs what that wrote."""
    start = time.perf_counter()
    model, inputs = open_entry(entry)
    x, others = doubled(inputs), doubled(inputs.redrawn(7))
    called = executed_convolutions(model, x)
    # taken before the export, which leaves its placeholders behind in some models
    wanted = [outputs.tensors(batch.run(model)) for batch in (x, others)]
    sides = torch.export.Dim("batch", min=1, max=8)
    try:
        program = exported(model, x, ({0: sides},) if len(x.args) == 1 else None)
    except Exception:  # a batch that the model does not leave open
        program = exported(model, x, None)
    torch.export.save(program, folder / "model.pt2")
    arguments = [
        "convert",
        folder / "model.pt2",
        "-o",
        folder / "out.pt2",
        "--no-latency",
        "--json",
        folder / "report.json",
    ]
    result = CliRunner().invoke(cli, [*map(str, arguments)])
    assert result.exit_code == 0, result.output
    report = json.loads((folder / "report.json").read_text())
    rows = {site["path"] for site in report["sites"]}
    shown = {id(m) for name, m in model.named_modules(remove_duplicate=False) if name in rows}
    assert {id(m) for m in model.modules() if type(m) is nn.Conv2d and id(m) in called} <= shown
    again = torch.export.load(folder / "out.pt2").module()
    for batch, tensors in zip((x, others), wanted):
        pairs = zip(tensors, outputs.tensors(batch.run(again)), strict=True)
        assert all(bool(((a == b) | ((a != a) & (b != b))).all()) for a, b in pairs)
    open_sizes = sum(isinstance(side, torch.SymInt) for t in program_inputs(folder / "out.pt2") for side in t.shape)
    return {
        "library": entry.library,
        "model": entry.spec.partition(":")[2] + (f" at {entry.size}" if entry.size else ""),
        "executed": report["executed"],
        "converted": report["converted"],
        "bit_equal": report["equivalence"]["bit_equal"],
        "open_sizes": open_sizes,
        "seconds": round(time.perf_counter() - start, 1),
    }


def exported(model, inputs, shapes):
    return torch.export.export(model, inputs.args, dict(inputs.kwargs), dynamic_shapes=shapes)


def program_inputs(path):
    program = torch.export.load(path)
    names = program.graph_signature.user_inputs
    return [node.meta["val"] for node in program.graph.nodes if node.op == "placeholder" and node.name in names]


def executed_convolutions(model, inputs):
    """Calls of every convolution module, counted by nothing but forward hooks."""
    calls = Counter()
    handles = [
        module.register_forward_hook(lambda m, a, o: calls.update([id(m)]))
        for module in model.modules()
        if isinstance(module, _ConvNd)
    ]
    try:
        inputs.run(model)
    finally:
        for handle in handles:
            handle.remove()
    return calls


def check_ledger(plan, model, seen):
    """Every convolution has a row, with the calls that hooks counted, and every refusal a reason."""
    rows = {id(model.get_submodule(site.path)): site for site in plan.sites if "::" not in site.path}
    assert len(rows) == sum("::" not in site.path for site in plan.sites)
    assert set(rows) == {id(m) for m in model.modules() if isinstance(m, _ConvNd)}
    assert {key: site.calls for key, site in rows.items() if site.calls} == dict(seen)
    assert all(site.reason and site.reason_code for site in plan.sites if not site.converts)
    ledger = plan.ledger
    assert ledger.converted + ledger.refused == ledger.executed + ledger.never_ran == len(plan.sites)


def converted_paths(model):
    return {name for name, module in model.named_modules() if isinstance(module, surgeon.ConvAWS2d)}


def says_something(model, inputs):
    """Whether an output, or what a part of the model returns, holds finite values that are not all the same."""
    returned = [inputs.run(model)]
    handles = [m.register_forward_hook(lambda m, a, o: returned.append(o)) for m in model.children()]
    inputs.run(model)
    for handle in handles:
        handle.remove()
    tensors = [t for t in outputs.tensors(returned[:1]) if t.numel()] or outputs.tensors(returned)
    floating = [t[t.isfinite()] for t in tensors if t.is_floating_point()]
    return any(t.numel() > 1 and bool((t != t[0]).any()) for t in floating)


def check_outputs_equal(model, converted, inputs):
    found = []
    for net in (model, converted.eval()):
        torch.manual_seed(0)
        found.append([leaf for leaf in pytree.tree_leaves(inputs.run(net)) if isinstance(leaf, torch.Tensor)])
    assert len(found[0]) == len(found[1])
    for a, b in zip(*found):
        assert a.shape == b.shape
        assert bool(((a == b) | ((a != a) & (b != b))).all())


# ------------------------------------------------------------------ with all new parameters moved


def look_deeper(original, conversion, inputs):
    """Shakes every converted layer; compares some with the float64 oracle on what they really see; takes a training step."""
    model = conversion.model
    layers = [module for module in model.modules() if isinstance(module, surgeon.SAConv2d)]
    scales = {key: float(x.abs().max()) for key, (x, _) in watched(model, inputs, layers).items() if x.numel()}
    for i, layer in enumerate(layers):
        shake(layer, i, scales.get(id(layer), 1.0))
    chosen = [model.get_submodule(path) for path in affordable(conversion.plan)]
    seen = watched(model, inputs, chosen)
    assert not unmoved(original, model, inputs), "all that surgery added was moved, and no output noticed"
    errors = [
        oracle.relative_error(seen[id(m)][1], oracle.saconv(m, seen[id(m)][0]))
        for m in chosen
        if seen[id(m)][1].numel()
    ]
    assert all(error < 1e-4 for error in errors), errors
    return {
        "oracle_layers": len(errors),
        "oracle_error": max(errors, default=None),
        "training": training_step(original, model, inputs, layers),
    }


def affordable(plan):
    """The paths of the converted layers, the cheapest first, as far as the oracle's budget goes; one at least."""
    spent = 0
    for i, site in enumerate(sorted((s for s in plan.sites if s.converts), key=lambda s: s.added_macs)):
        spent += site.added_macs
        if i and spent > ORACLE_MACS:
            return
        yield site.path


def unmoved(original, model, inputs):
    """Whether moving the new parameters changes nothing in outputs that hold something."""
    pairs = zip(outputs.tensors([inputs.run(original)]), outputs.tensors([inputs.run(model)]))
    return all(a.shape == b.shape and bool((a == b).all()) for a, b in pairs if a.numel() or b.numel()) and any(
        t.numel() for t in outputs.tensors([inputs.run(original)])
    )


def watched(model, inputs, layers):
    """(input, output) of the first call of each layer, by its id."""
    seen = {}

    def keep(layer, args, output):
        seen.setdefault(id(layer), (args[0].detach().clone(), output.detach().clone()))

    handles = [layer.register_forward_hook(keep) for layer in layers]
    inputs.run(model)
    for handle in handles:
        handle.remove()
    return seen


def shake(layer, seed, largest_input):
    """Moves all that surgery added, by little enough that a hundred layers in a row do not overflow: the switch, with which the
    input is multiplied, would square it."""
    generator = torch.Generator().manual_seed(seed)
    fan_in = layer.weight[0].numel()
    sizes = {"weight_gamma": 0.1, "weight_beta": 1 / fan_in, "weight_diff": 1 / fan_in**0.5}
    with torch.no_grad():
        for name, tensor in [*layer.named_parameters(), *layer.named_buffers()]:
            if name not in ("weight", "bias"):
                size = sizes.get(name, 1 / tensor[0].numel() ** 0.5 if tensor.dim() == 4 else 1.0)
                size /= max(largest_input, 1.0) if name == "switch.weight" else 1.0
                noise = torch.randn(tensor.shape, generator=generator) * size * SHAKE
                tensor.copy_(tensor * (1 + noise) if name == "weight_gamma" else tensor + noise)


def training_step(original, model, inputs, layers):
    """Backward through the outputs: every new parameter that ran has a gradient, and no gradient is broken by surgery."""
    mode, broken = gradients(model, inputs)
    assert not broken or set(broken) <= set(gradients(original, inputs)[1]), broken[:3]
    reached = [layer for layer in layers if layer.weight.grad is not None]
    assert reached
    assert all(p.grad is not None for layer in reached for p in layer.parameters())
    assert not any(bool((~p.grad.isfinite()).any()) for layer in reached for p in layer.parameters())
    return mode


def gradients(model, inputs):
    """The mode in which backward went through, and the parameters whose gradients are not finite."""
    try:
        output, mode = forward_with_gradients(model.train(), doubled(inputs)), "train"
        loss = loss_of(output)
    except Exception:  # some models want targets in training, or have no gradient there
        output, mode = parts_with_gradients(model.eval(), inputs), "eval"
        loss = loss_of(output)
    loss.backward()
    return mode, [n for n, p in model.named_parameters() if p.grad is not None and not bool(p.grad.isfinite().all())]


def forward_with_gradients(model, inputs):
    model.zero_grad()
    clean = inputs.mapped(torch.clone)
    return model(*clean.args, **clean.kwargs)


def parts_with_gradients(model, inputs):
    """The output, and what the parts of the model return: a detector that finds nothing has no gradient in its output."""
    returned = []
    handles = [m.register_forward_hook(lambda m, a, o: returned.append(o)) for m in model.children()]
    output = forward_with_gradients(model, inputs)
    for handle in handles:
        handle.remove()
    return [output, *returned]


def doubled(inputs):
    return inputs.mapped(lambda t: torch.cat([t, t.flip(0) * 0.9]) if t.dim() >= 4 and t.is_floating_point() else t)


def loss_of(output):
    leaves = [t for t in pytree.tree_leaves(output) if isinstance(t, torch.Tensor) and t.requires_grad and t.numel()]
    tensors = leaves or [t for _, t in outputs.leaves(output) if isinstance(t, torch.Tensor) and t.requires_grad]
    if not tensors:
        raise ValueError("no output depends on the parameters")
    # detectors mark what is no box by infinity, or by the largest number
    meant = [torch.where(t.abs() < NO_VALUE, t, 0).float() for t in tensors]
    return sum(t.square().mean() for t in meant) / len(meant)
