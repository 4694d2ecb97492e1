"""What each convolution is offered, and plans made of choices."""

import pytest
import torch
from torch import nn

import saconv_surgeon as surgeon
from saconv_surgeon.errors import UsageError
from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.planning.candidates import candidates_of_targets, everywhere, offer, with_choices
from saconv_surgeon.planning.variants import Variants, move
from saconv_surgeon.records.budgeted_plan import Candidate
from saconv_surgeon.surgery.decisions import Selection
from saconv_surgeon.surgery.rewriting import new_parameters
from tests import nets

X = torch.randn(1, 4, 12, 12, generator=torch.Generator().manual_seed(0))


class Mixed(nn.Module):
    """A plain 3×3, a 1×1, a depthwise 3×3, and one that never runs."""

    def __init__(self):
        super().__init__()
        self.plain, self.norm = nn.Conv2d(4, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.pointwise = nn.Conv2d(6, 6, 1)
        self.depthwise = nn.Conv2d(6, 6, 3, padding=1, groups=6)
        self.idle = nn.Conv2d(4, 4, 3)

    def forward(self, x):
        return self.depthwise(self.pointwise(torch.relu(self.norm(self.plain(x)))))


def offered_for(*targets, options=None, model=None, x=X, **selection):
    model = (model or Mixed()).eval()
    return model, offer(model, Inputs.of(x), candidates_of_targets(targets, options), selection=Selection(**selection))


def names(offered):
    return {path: [c.name for c in own] for path, own in offered.candidates.items()}


def test_parts_of_saconv():
    _, offered = offered_for("saconv")
    assert names(offered) == {"plain": ["contexts", "branches", "all"], "depthwise": ["branches"]}
    reasons = {site.path: site.reason_code for site in offered.plan.sites}
    assert reasons == {"plain": None, "pointwise": "kernel-1x1", "depthwise": None, "idle": "never-ran"}
    assert [c.name for c in offered.names] == ["contexts", "branches", "all"]


def test_other_targets_only_where_they_accept():
    _, offered = offered_for("saconv", "aws")
    assert names(offered)["plain"] == ["contexts", "branches", "all", "aws"]
    assert names(offered)["pointwise"] == ["aws"]
    assert offered_for("saconv", allow_depthwise=True)[1].candidates["depthwise"][0].name == "contexts"


def test_options_and_their_restrictions():
    assert candidates_of_targets(["saconv"], {"parts": "contexts"}) == (
        Candidate("contexts", "saconv", {"parts": "contexts"}),
    )
    assert [c.name for c in candidates_of_targets(["aws", "saconv"])] == ["aws", "contexts", "branches", "all"]


@pytest.mark.parametrize(
    ("targets", "options", "words"),
    [
        (["nonsense"], {}, "nonsense"),
        (["saconv", "saconv"], {}, "listed twice"),
        (["spconv"], {}, "do not equal their convolutions"),
        (["saconv"], {"parts": "none"}, "none"),
        (["saconv", "aws"], {"ratio": "1/2"}, "has an option 'ratio'"),
    ],
)
def test_what_cannot_be_listed(targets, options, words):
    with pytest.raises(UsageError, match=words):
        candidates_of_targets(targets, options)


def test_selection_leaves_out():
    _, offered = offered_for("saconv", exclude=("plain",))
    assert list(offered.candidates) == ["depthwise"]
    with pytest.raises(UsageError, match="matches none"):
        offered_for("saconv", include=("nothing.*",))


def test_a_plan_of_choices_is_carried_out_by_convert():
    model, offered = offered_for("saconv", "aws")
    by_name = {c.name: c for c in offered.names}
    choices = {"plain": by_name["contexts"], "pointwise": by_name["aws"]}
    plan = with_choices(offered.plan, choices)
    rows = {site.path: (site.decision, site.target, site.reason_code) for site in plan.sites}
    assert rows == {
        "plain": ("convert", "saconv", None),
        "pointwise": ("convert", "aws", None),
        "depthwise": ("refuse", None, "not-chosen"),
        "idle": ("refuse", None, "never-ran"),
    }
    contexts = 4**2 + 4 + 6**2 + 6
    assert {s.path: s.added_parameters for s in plan.sites if s.converts} == {"plain": contexts, "pointwise": 0}
    conversion = surgeon.convert(model, X, plan=plan)
    assert conversion.equivalence.bit_equal
    assert conversion.plan.converted_paths == ("plain", "pointwise")
    assert type(conversion.model.plain).__name__ == "SAConv2d"
    assert sum(p.numel() for p in new_parameters(conversion.model)) == contexts
    assert {s.path: s.reason_code for s in conversion.plan.sites}["depthwise"] == "not-chosen"


def test_choices_can_be_made_anew():
    _, offered = offered_for("saconv")
    both = {path: own[-1] for path, own in offered.candidates.items()}
    one = with_choices(with_choices(offered.plan, both), {"plain": offered.candidates["plain"][0]})
    again = with_choices(one, both)
    assert again.sites == with_choices(offered.plan, both).sites
    assert one.target == "saconv"
    assert dict(one.options) == {"parts": "contexts"}
    assert with_choices(offered.plan, {}).converted_paths == ()


def test_a_choice_for_a_site_that_cannot_be_converted():
    _, offered = offered_for("saconv")
    with pytest.raises(UsageError, match="'idle' is not among"):
        with_choices(offered.plan, {"idle": offered.candidates["plain"][0]})


@pytest.mark.parametrize("name", ["contexts", "branches", "all", "aws"])
def test_moved_layers_fold_to_what_a_trained_model_folds_to(name):
    """A layer at rest would fold to its plain convolution and keep its norm."""
    model, offered = offered_for("saconv", "aws", model=nets.chain(), x=nets.X)
    candidate = next(c for c in offered.names if c.name == name)
    variants = Variants(model, Inputs.of(nets.X), offered)
    made = variants.folding(variants.converted(everywhere(offered, candidate)))
    assert all(row.changed and not row.at_rest for row in made.layers)
    assert made.following["2"].original == ("3",)
    expected = {"aws": {"Conv2d"}}.get(name, {"FoldedSAConv2d"})
    assert {type(made.model[0]).__name__, type(made.model[2]).__name__} == expected
    assert isinstance(made.model[3], nn.Identity)


def test_moving_is_seeded_and_leaves_the_rest_alone():
    model, offered = offered_for("saconv")
    everything = everywhere(offered, offered.candidates["plain"][-1])
    variants = Variants(model, Inputs.of(X), offered)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    a, b = variants.converted(everything), variants.converted(everything)
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))
    assert all(bool(p.any()) for p in new_parameters(a))
    assert torch.equal(a.plain.weight, model.plain.weight)
    assert torch.equal(a.pointwise.weight, model.pointwise.weight)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    move(b, seed=1)
    assert not torch.equal(next(new_parameters(a)), next(new_parameters(b)))
