"""Types are checked in the tests, in functions inside functions too, and a checker is made once."""

from collections.abc import Callable

import beartype
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float, TypeCheckError, jaxtyped

from edgepact.mechanisms.stackelberg.responses import layers_cap
from tests import typechecks
from tests.typechecks import beartype_once


def doubling(kind: type) -> Callable[..., object]:
    @jaxtyped(typechecker=beartype_once)
    def double(one: Float[kind, " n"], other: Float[kind, " n"]) -> Float[kind, " n"]:
        return one + other

    return double


def test_the_package_is_checked() -> None:
    with pytest.raises(TypeCheckError):
        layers_cap("no game")  # type: ignore[arg-type]


def test_one_checker_serves_equal_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    checker = beartype.beartype

    def counted(function: Callable[..., object]) -> Callable[..., object]:
        made.append(function)
        return checker(function)

    monkeypatch.setattr(typechecks, "_kept", type(typechecks._kept)())
    monkeypatch.setattr(beartype, "beartype", counted)
    first, again, other = doubling(np.ndarray), doubling(np.ndarray), doubling(Array)
    assert len(made) == 4, "parameters alone and with the result, of each of two kinds"
    for each in (first, again):
        assert np.array_equal(each(np.ones(2), np.ones(2)), [2.0, 2.0])
        with pytest.raises(TypeCheckError):
            each(np.ones(2), np.ones(3))
        with pytest.raises(TypeCheckError):
            each(jnp.ones(2), jnp.ones(2))
    with pytest.raises(TypeCheckError):
        other(np.ones(2), np.ones(2))
