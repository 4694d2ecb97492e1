import json

import numpy as np
import pytest

from saconv_surgeon.errors import ArtefactError
from saconv_surgeon.planning.scores.overlapping import Effect, OverlappingGains, together


def noise(seed, samples=400):
    return np.random.default_rng(seed).standard_normal(samples)


def gains(effects):
    """Of layers with one part each, given by f and the curvature."""
    return OverlappingGains(
        {path: {"p": Effect(tuple(map(float, f)), curvature)} for path, (f, curvature) in effects.items()},
        {path: {"all": ("p",), "none": ()} for path in effects},
    )


def centred(f, mean):
    return f - f.mean() + mean


FOUND = gains(
    {
        "a": (centred(noise(0), 0.2), 0.5),
        "same": (centred(noise(0), 0.2), 0.5),
        "half": (centred(noise(0) + 3**0.5 * noise(1), 0.2), 0.5),
        "other": (centred(noise(2), 0.3), 0.5),
        "harmful": (centred(noise(3), -0.3), 0.5),
        "nothing": (np.zeros(400), 0.0),
    }
)


def test_one_part_gains_half_its_slope_squared_over_its_curvature():
    assert FOUND.of({"a": "all"}) == pytest.approx(0.5 * 0.2**2 / 0.5)


def test_parts_that_do_the_same_gain_once():
    assert FOUND.beside({"a": "all"}, "same", "all") < 0.01 * FOUND.of({"a": "all"})


def test_parts_that_have_nothing_to_do_with_each_other_add_up():
    both = FOUND.of({"a": "all", "other": "all"})
    assert both == pytest.approx(FOUND.of({"a": "all"}) + FOUND.of({"other": "all"}), rel=0.1)


def test_parts_that_overlap_gain_what_the_two_by_two_system_says():
    f = np.array([FOUND.effects[path]["p"].lowers for path in ("a", "half")])
    kappa = together(f)[0, 1]
    assert 0.4 < kappa < 0.55  # the correlation is 0.5, a twentieth of which is chance
    m = 0.5 * np.array([[1, kappa], [kappa, 1]])
    b = np.array([0.2, 0.2])
    assert FOUND.of({"a": "all", "half": "all"}) == pytest.approx(0.5 * b @ np.linalg.solve(m, b), rel=1e-3)


def test_what_does_harm_is_not_used():
    assert FOUND.of({"harmful": "all"}) == 0.0
    assert FOUND.beside({"a": "all"}, "harmful", "all") == 0.0


def test_nothing_gains_nothing():
    assert FOUND.of({}) == 0.0
    assert FOUND.of({"a": "none", "unknown": "all"}) == 0.0
    assert FOUND.of({"nothing": "all"}) == 0.0


def test_what_is_chosen_at_the_path_itself_is_left_out():
    assert FOUND.beside({"a": "all"}, "a", "all") == FOUND.of({"a": "all"})
    assert FOUND.beside({"a": "all"}, "a", "none") == 0.0


def test_more_never_gains_less():
    chosen, before = {}, 0.0
    for path in ("half", "a", "harmful", "same", "other", "nothing"):
        chosen[path] = "all"
        assert FOUND.of(chosen) >= before - 1e-9
        before = FOUND.of(chosen)


def test_correlations_of_chance_are_none():
    found = together(np.stack([noise(seed) for seed in range(40)]))
    assert np.abs(found - np.eye(40)).mean() < 0.03
    assert np.linalg.eigvalsh(found).min() > 0


def test_survives_json_and_says_the_same():
    again = OverlappingGains.from_dict(json.loads(json.dumps(FOUND.to_dict(), allow_nan=False)))
    assert again == FOUND
    assert again.of({"a": "all", "other": "all"}) == FOUND.of({"a": "all", "other": "all"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data.pop("effects"), "no field 'effects'"),
        (lambda data: data.update(effects={"a": {"p": {"lowers": "x", "curvature": 1.0}}}), "expected a list"),
        (lambda data: data["effects"]["a"]["p"].update(lowers=[0.1]), "differ in their numbers of samples"),
        (lambda data: data["parts"]["a"].update(all=["q"]), "no effect 'q' of 'a'"),
    ],
)
def test_damaged_scores_are_refused(change, message):
    data = json.loads(json.dumps(FOUND.to_dict()))
    change(data)
    with pytest.raises(ArtefactError, match=message):
        OverlappingGains.from_dict(data)
