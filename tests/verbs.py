"""Every verb as a function of a model and its inputs, and everything about a model that a verb has to leave alone."""

import torch

import saconv_surgeon as surgeon
from saconv_surgeon import Timing

QUICK = Timing(budget_s=0.02)


def priced(model, x):
    return surgeon.price(surgeon.convert(model, x, trials=1), model, x, timing=None)


VERBS = {
    "inspect": surgeon.inspect,
    "inspect, train": lambda model, x: surgeon.inspect(model, x, mode="train"),
    "convert": lambda model, x: surgeon.convert(model, x, trials=2),
    "price": priced,
    "profile": lambda model, x: surgeon.profile(model, x, timing=None),
    "profile, timed": lambda model, x: surgeon.profile(model, x, timing=QUICK),
    "profile, training": lambda model, x: surgeon.profile(
        model, x, timing=Timing(budget_s=0.02, training=True, per_layer=False)
    ),
    "diff": lambda model, x: surgeon.diff(model, model, x, timing=None),
    "fold": lambda model, x: surgeon.fold(model, x, trials=1),
}
HOOKS = (
    *("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"),
    *("_state_dict_hooks", "_state_dict_pre_hooks", "_load_state_dict_pre_hooks", "_load_state_dict_post_hooks"),
)
PLAIN = (bool, int, float, str, type(None))


def state_of(model):
    """Values, objects, modes, attributes, hooks: equal before and after."""
    found = {"modules": [(name, id(module)) for name, module in model.named_modules()]}
    for name, module in model.named_modules():
        found[name, "mode"] = module.training
        found[name, "attributes"] = {k: v for k, v in vars(module).items() if isinstance(v, PLAIN)}
        found[name, "lists"] = {
            k: len(v) for k, v in vars(module).items() if isinstance(v, (list, dict, set)) and k[0] != "_"
        }
        found[name, "keys"] = list(vars(module))
        found[name, "hooks"] = [list(getattr(module, kind)) for kind in HOOKS]
    for name, t in (*model.named_parameters(), *model.named_buffers()):
        found[name, "tensor"] = id(t), t.requires_grad, t.grad is None, tuple(t.shape)
        found[name, "values"] = t.detach().cpu().numpy().tobytes()
    return found


def changes(before, after):
    return [key for key in {**before, **after} if before.get(key) != after.get(key)]


def assert_left_alone(model, call, *args):
    before, drawn = state_of(model), torch.get_rng_state()
    try:
        return call(model, *args)
    finally:
        assert changes(before, state_of(model)) == []
        assert torch.equal(torch.get_rng_state(), drawn)
