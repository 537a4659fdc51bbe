"""Types are checked in the tests, in functions inside functions too, and a checker is made once."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

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
    def refused() -> bool:
        try:
            layers_cap("no game")  # type: ignore[arg-type]
        except TypeCheckError:
            return True
        except AttributeError:  # it was called often before, and is checked now and then
            return False
        return False

    assert any(refused() for _ in range(typechecks.NOW_AND_THEN))


def test_what_is_called_often_is_checked_now_and_then() -> None:
    @jaxtyped(typechecker=beartype_once)
    def half(number: int) -> int:
        return number // 2

    for _ in range(typechecks.OFTEN):
        with pytest.raises(TypeCheckError):
            half(3.0)  # type: ignore[arg-type]
    refused = 0
    for _ in range(3 * typechecks.NOW_AND_THEN):
        try:
            half(3.0)  # type: ignore[arg-type]
        except TypeCheckError:
            refused += 1
    assert refused == 3


def test_one_checker_serves_equal_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    checker = typechecks._by_beartype

    def counted(function: Callable[..., object]) -> Callable[..., object]:
        made.append(function)
        return checker(function)

    monkeypatch.setattr(typechecks, "_kept", type(typechecks._kept)())
    monkeypatch.setattr(typechecks, "_by_beartype", counted)
    first, again, other = doubling(np.ndarray), doubling(np.ndarray), doubling(Array)
    assert len(made) == 2, "one of each kind"
    for each in (first, again):
        assert np.array_equal(each(np.ones(2), np.ones(2)), [2.0, 2.0])
        with pytest.raises(TypeCheckError):
            each(np.ones(2), np.ones(3))
        with pytest.raises(TypeCheckError):
            each(jnp.ones(2), jnp.ones(2))
    with pytest.raises(TypeCheckError):
        other(np.ones(2), np.ones(2))
    with pytest.raises(TypeError, match=r"double\(\) missing 1 required"):
        first(np.ones(2))
    assert first.__name__ == again.__name__ == "double"


checks = jaxtyped(typechecker=beartype_once)


@checks
@dataclass(frozen=True)
class Pair:
    one: Float[np.ndarray, " n"]
    other: Float[np.ndarray, " n"] | None = None

    @property
    @checks
    def first(self) -> str:
        return self.one[0]

    @checks
    def times(self, factor: int) -> "str":
        return factor  # type: ignore[return-value]

    @checks
    def each(self, most: int) -> Iterator[float]:
        yield from self.one[:most]

    @checks
    def cut(self, size: int) -> Float[np.ndarray, " n"]:
        def as_long(one: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
            return one[:size]

        return checks(as_long)(self.one)


@checks
@dataclass(frozen=True)
class Named(Pair):
    name: str = ""


def test_arguments_results_and_sizes_are_checked() -> None:
    pair = Pair(np.ones(3), np.ones(3))
    assert list(pair.each(2)) == [1.0, 1.0]
    assert len(pair.cut(3)) == 3
    assert Named(np.ones(2), name="a").name == "a"
    wrong: list[Callable[[], object]] = [
        lambda: Pair([1.0]),  # type: ignore[arg-type]
        lambda: Pair(np.ones(3), np.ones(2)),
        lambda: Named(np.ones(3), np.ones(2)),
        lambda: Named(np.ones(3), name=3),  # type: ignore[arg-type]
        lambda: pair.first,
        lambda: pair.times(2),
        lambda: pair.each("all"),  # type: ignore[arg-type]
        lambda: pair.cut(2),
        lambda: pair.cut(2.5),  # type: ignore[arg-type]
    ]
    for each in wrong:
        with pytest.raises(TypeCheckError):
            each()


def test_sizes_are_those_of_one_call() -> None:
    @checks
    def outer(one: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        inner(one[1:])
        return one

    @checks
    def inner(one: Float[np.ndarray, " n"]) -> int:
        return len(one)

    outer(np.ones(3))
    outer(np.ones(4))
