import json

import numpy as np
import pytest

from saconv_surgeon.errors import ArtefactError
from saconv_surgeon.planning.scores.held_out import RIDGES, HeldOutGains, fitted_step, halves, held_out_gain, packed, unpacked

RNG = np.random.default_rng(0)


def gains(parts, *, batches=None, candidates=None):
    """Of layers given by their rows of gradients, (n, parameters), one part each."""
    n = len(next(iter(parts.values())))
    return HeldOutGains(
        tuple(range(n)) if batches is None else batches,
        {path: {"p": packed(rows @ rows.T)} for path, rows in parts.items()},
        candidates or {path: {"all": ("p",)} for path in parts},
    )


def test_is_the_gain_of_a_newton_step_known_in_closed_form():
    """Gradients with mean g and second moments F: the gain of one Newton step is ½ gᵀF⁻¹g."""
    root = np.array([[1.0, 0, 0], [0.5, 1, 0], [0.2, 0.3, 2]])
    rows = [0.6, -0.4, 0.2] + np.random.default_rng(1).standard_normal((600, 3)) @ root.T
    mean = rows.mean(0)
    wanted = 0.5 * mean @ np.linalg.solve(rows.T @ rows / 600, mean)
    assert wanted > 0.2
    assert gains({"a": rows}).of({"a": "all"}) == pytest.approx(wanted, rel=0.05)


def test_the_matrices_say_the_same_as_the_parameters():
    """The ridge regression of 1 on the gradients, written with parameters instead of samples, each left out by fitting again."""
    rows = RNG.standard_normal((10, 3)) + 0.5
    fitted, tried = np.arange(5), np.arange(5, 10)
    a, b = rows[fitted], rows[tried]

    def theta(rows, ridge):
        return np.linalg.solve(rows.T @ rows + ridge * np.eye(3), rows.sum(0))

    def best(ridge):
        left_out = np.array([a[i] @ theta(np.delete(a, i, 0), ridge) for i in range(5)])
        length = min(max(left_out.mean() / np.square(left_out).mean(), 0.0), 1.0)
        f = length * left_out
        return f.mean() - np.square(f).mean() / 2, length * theta(a, ridge)

    step = max((best(ridge) for ridge in RIDGES), key=lambda pair: pair[0])[1]
    assert a.T @ fitted_step(a @ a.T) == pytest.approx(step, rel=1e-9)
    quadratic = b.mean(0) @ step - 0.5 * step @ (b.T @ b / 5) @ step
    assert held_out_gain(rows @ rows.T, [(fitted, tried)]) == pytest.approx(quadratic, rel=1e-9)


def test_noise_promises_nothing_however_many_parameters_it_has():
    for parameters in (3, 300):
        rows = RNG.standard_normal((128, parameters)) / parameters**0.5
        assert -0.02 < gains({"a": rows}).of({"a": "all"}) < 0.01


def test_without_holding_out_noise_would_promise_a_lot():
    """So that the test above can fail."""
    rows = RNG.standard_normal((64, 300)) / 300**0.5
    gram = rows @ rows.T
    f = gram @ np.linalg.solve(gram + np.eye(64), np.ones(64))
    assert f.mean() - np.square(f).mean() / 2 > 0.3


def test_the_same_gradients_add_next_to_nothing_and_others_add_theirs():
    rng = np.random.default_rng(2)
    signal = rng.standard_normal((400, 2)) + [0.5, 0.0]
    other = rng.standard_normal((400, 2)) + [0.0, 0.5]
    found = gains({"a": signal, "same": signal, "other": other})
    alone = found.of({"a": "all"})
    assert found.beside({"a": "all"}, "same", "all") < 0.05 * alone
    assert found.beside({"a": "all"}, "other", "all") > 0.5 * alone
    assert found.of({"a": "all", "same": "all"}) == pytest.approx(
        found.of({"a": "all"}) + found.beside({"a": "all"}, "same", "all")
    )


def test_nothing_chosen_gains_nothing():
    found = gains({"a": RNG.standard_normal((8, 2))})
    assert found.of({}) == 0.0
    assert found.of({"unknown": "all"}) == 0.0


def test_what_is_chosen_at_the_path_itself_is_left_out():
    rows = RNG.standard_normal((40, 2)) + 0.4
    found = gains({"a": rows}, candidates={"a": {"all": ("p",), "none": ()}})
    assert found.beside({"a": "all"}, "a", "all") == found.of({"a": "all"})
    assert found.beside({"a": "all"}, "a", "none") == 0.0


def test_gains_do_not_change_with_the_scale_of_the_loss_if_the_diagonal_is_one():
    rows = RNG.standard_normal((40, 2)) + 0.4
    small, large = (gains({"a": r / np.sqrt((r @ r.T).diagonal().mean())}) for r in (rows, 1e6 * rows))
    assert small.of({"a": "all"}) == pytest.approx(large.of({"a": "all"}), rel=1e-5)


def test_batches_are_never_split():
    batches = (0, 0, 0, 1, 1, 2, 3, 3)
    for first, second in halves(batches, 5, 0):
        assert not {batches[i] for i in first} & {batches[i] for i in second}
        assert sorted([*first, *second]) == list(range(8))
        assert len(first) and len(second)


def test_survives_json_and_says_the_same():
    found = gains({"a": RNG.standard_normal((20, 3)) + 0.3, "b": RNG.standard_normal((20, 3))})
    again = HeldOutGains.from_dict(json.loads(json.dumps(found.to_dict(), allow_nan=False)))
    assert again == found
    assert again.of({"a": "all", "b": "all"}) == found.of({"a": "all", "b": "all"})


@pytest.mark.parametrize("text", ["", "AAAA", "not base64!", packed(np.full((3, 3), np.nan))])
def test_damaged_matrices_are_refused(text):
    with pytest.raises(ArtefactError, match="damaged"):
        unpacked(text, 3)


def test_records_that_are_not_scores_are_refused():
    with pytest.raises(ArtefactError, match="no field 'batches'"):
        HeldOutGains.from_dict({"name": "promise"})


def test_a_matrix_is_packed_and_unpacked():
    a = RNG.standard_normal((5, 5))
    assert np.allclose(unpacked(packed(a + a.T), 5), a + a.T, rtol=1e-6)
