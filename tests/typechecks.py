"""The type checker of the tests: beartype, asked once for each function in the source.

jaxtyping has every function of the package checked. A function inside another is a new object at
each call of the outer one, and beartype would write and compile a checker for it each time: where
an exact search or a trace calls the outer one a thousand times, that takes five times as long as
all the rest. jaxtyping hands over a stand-in, which holds the annotations and does nothing else,
so stand-ins of equal code and equal annotations are as good as one another.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, get_args, get_origin

import beartype
from jaxtyping import AbstractArray, PyTree

KEPT = 4096
"""Checkers kept; the least recently used is dropped first."""

_kept: OrderedDict[Any, tuple[Callable[..., Any], Callable[..., Any]]] = OrderedDict()


def beartype_once(stand_in: Callable[..., Any]) -> Callable[..., Any]:
    """`beartype.beartype`, which gives what it gave for an equal stand-in before."""
    key = _key(stand_in)
    if key is None:
        return beartype.beartype(stand_in)
    found = _kept.get(key)
    if found is None:
        # The stand-in is kept as well: what is named by its identity in the key must live on.
        found = _kept[key] = stand_in, beartype.beartype(stand_in)
        if len(_kept) > KEPT:
            _kept.popitem(last=False)
    else:
        _kept.move_to_end(key)
    return found[1]


def _key(stand_in: Any) -> Any:
    """All that a checker depends on, or None where something cannot be compared."""
    if not hasattr(stand_in, "__code__"):
        return None
    defaults = [*(stand_in.__defaults__ or ()), *(stand_in.__kwdefaults__ or {}).values()]
    key = (
        stand_in.__module__,
        stand_in.__qualname__,
        stand_in.__code__,
        tuple((name, _same(hint)) for name, hint in stand_in.__annotations__.items()),
        tuple(map(id, defaults)),
    )
    try:
        hash(key)
    except TypeError:
        return None
    return key


def _same(hint: Any) -> Any:
    """A stand-in for a hint that equals those of equal hints.

    jaxtyping makes a new class whenever `Float[Array, "..."]` is evaluated.
    """
    if isinstance(hint, type) and issubclass(hint, AbstractArray):
        skipped = hint._skip_instancecheck
        return AbstractArray, hint.dtype, _same(hint.array_type), hint.dim_str, skipped
    if isinstance(hint, type) and issubclass(hint, PyTree) and hint is not PyTree:
        return PyTree, _same(hint.leaftype), hint.structure
    if isinstance(hint, list):  # the arguments of a Callable
        return list, *map(_same, hint)
    if get_origin(hint) is not None:
        return get_origin(hint), *map(_same, get_args(hint))
    return hint
