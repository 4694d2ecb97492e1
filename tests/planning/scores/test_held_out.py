import numpy as np
import pytest

from saconv_surgeon.planning.scores.held_out import RIDGES, cross_fitted, fitted_step, halves

RNG = np.random.default_rng(0)


def gain(rows):
    """What the step of one part, with these gradients, promises on held-out samples."""
    f, squares = cross_fitted(rows @ rows.T, halves(range(len(rows))))
    return f.mean() - 0.5 * np.square(f).mean() - 0.5 * squares


def test_is_the_gain_of_a_newton_step_known_in_closed_form():
    """Gradients with mean g and second moments F, and 1 for the positions: the gain of one Newton step is ½ gᵀ(F + 1)⁻¹g."""
    root = np.array([[1.0, 0, 0], [0.5, 1, 0], [0.2, 0.3, 2]])
    rows = [0.6, -0.4, 0.2] + np.random.default_rng(1).standard_normal((600, 3)) @ root.T
    mean = rows.mean(0)
    wanted = 0.5 * mean @ np.linalg.solve(rows.T @ rows / 600 + np.eye(3), mean)
    assert wanted > 0.1
    assert gain(rows) == pytest.approx(wanted, rel=0.05)


def test_the_matrices_say_the_same_as_the_parameters():
    """The ridge regression of 1 on the gradients, written with parameters instead of samples, each left out by fitting again."""
    rows = RNG.standard_normal((10, 3)) + 0.5
    fitted, tried = np.arange(5), np.arange(5, 10)
    a, b = rows[fitted], rows[tried]

    def theta(rows, ridge):
        return np.linalg.solve(rows.T @ rows + 5 * ridge * np.eye(3), rows.sum(0))

    def best(ridge):
        left_out = np.array([a[i] @ theta(np.delete(a, i, 0), ridge) for i in range(5)])
        curvature = np.square(left_out).mean() + theta(a, ridge) @ theta(a, ridge)
        length = min(max(left_out.mean() / curvature, 0.0), 1.0)
        return length * left_out.mean() - length**2 * curvature / 2, length * theta(a, ridge)

    step = max((best(ridge) for ridge in RIDGES), key=lambda pair: pair[0])[1]
    assert a.T @ fitted_step(a @ a.T) == pytest.approx(step, rel=1e-9)
    f = cross_fitted(rows @ rows.T, [(fitted, tried), (tried, fitted)])[0][5:]
    theta_squared = step @ step
    promised = f.mean() - 0.5 * np.square(f).mean() - 0.5 * theta_squared
    quadratic = b.mean(0) @ step - 0.5 * step @ (b.T @ b / 5 + np.eye(3)) @ step
    assert promised == pytest.approx(quadratic, rel=1e-9)


def test_noise_promises_nothing_however_many_parameters_it_has():
    for parameters in (3, 300):
        rows = RNG.standard_normal((128, parameters)) / parameters**0.5
        assert -0.02 < gain(rows) < 0.01


def test_without_holding_out_noise_would_promise_a_lot():
    """So that the test above can fail."""
    rows = RNG.standard_normal((64, 300)) / 300**0.5
    gram = rows @ rows.T
    f = gram @ np.linalg.solve(gram + np.eye(64), np.ones(64))
    assert f.mean() - np.square(f).mean() / 2 > 0.3


def test_batches_are_never_split():
    batches = (0, 0, 0, 1, 1, 2, 3, 3)
    for first, second in halves(batches, 5, 0):
        assert not {batches[i] for i in first} & {batches[i] for i in second}
        assert sorted([*first, *second]) == list(range(8))
        assert len(first) and len(second)
