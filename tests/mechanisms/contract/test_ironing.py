"""Virtual costs without loops: against SciPy, and in NumPy and JAX alike."""

from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given
from scipy.optimize import isotonic_regression

from edgepact.mechanisms.contract import ordered as exact
from edgepact.mechanisms.contract.ironing import ironed, virtual_cost
from edgepact.mechanisms.contract.terms import Contract
from tests.strategies import contract_terms


@given(contract_terms())
def test_as_the_exact_contract_has_it(terms: dict[str, Any]) -> None:
    contract = Contract(**terms)
    order = np.argsort(-contract.psi, kind="stable")
    psi, p = contract.psi[order], np.asarray(contract.probability)[order]
    phi = virtual_cost(psi, p)
    if np.all(np.diff(psi) != 0.0):  # of equal costs one bears here what they share there
        assert phi == pytest.approx(exact.virtual_cost(contract)[order], rel=1e-12)
    same = ironed(exact.virtual_cost(contract)[order], p)
    assert ironed(phi, p) == pytest.approx(same, rel=1e-9)
    flat = isotonic_regression(phi, weights=p, increasing=False).x
    assert ironed(phi, p) == pytest.approx(flat, rel=1e-9)


def test_batches_and_namespaces() -> None:
    rng = np.random.default_rng(0)
    psi = -np.sort(-rng.uniform(0.5, 5.0, (4, 3, 7)))
    p = rng.dirichlet(np.full(7, 0.5), (4, 3)) * 0.9 + 0.1 / 7
    found = ironed(virtual_cost(psi, p), p)
    assert found.shape == psi.shape
    alone = ironed(virtual_cost(psi[1, 2], p[1, 2]), p[1, 2])
    assert found[1, 2] == pytest.approx(alone)
    in_jax = jax.jit(lambda psi, p: ironed(virtual_cost(psi, p), p))(psi, p)
    assert np.asarray(in_jax) == pytest.approx(found, rel=1e-4)
