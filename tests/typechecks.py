"""The type checker of the tests: beartype, made once for each function of the source.

jaxtyping's import hook decorates every function of the package with `jaxtyping.jaxtyped`, whose
wrapper binds the arguments and checks all of them twice, before the call and with the result after
it: much of the time of a test that calls small functions often. The decorator that stands here in
its place asks beartype to check the function itself, arguments and result, once each, and gives it
what jaxtyping adds: sizes named by one axis are equal throughout a call. The same is checked, and
`jaxtyping.TypeCheckError` says what is wrong.

A function inside another is a new object at each call of the outer one, and beartype would write
and compile a checker for it each time: where an exact search or a trace calls the outer one a
thousand times, that takes five times as long as all the rest. Functions of equal code and equal
annotations share a checker.

A function that has been called often is checked now and then from there on: exact searches call
some of them half a million times in a test, and most of those calls tell nothing new.

What beartype alone cannot do is left to jaxtyping: annotations that are strings, and generators.
"""

import functools
import inspect
from collections import OrderedDict
from collections.abc import Callable
from types import FunctionType
from typing import Any, ForwardRef, Literal, TypeVar, get_args, get_origin

import beartype
import jaxtyping
from jaxtyping import AbstractArray, PyTree, _decorator

KEPT = 4096
"""Checkers kept; the least recently used is dropped first."""

OFTEN = 200
"""Calls of a function that are all checked."""

NOW_AND_THEN = 20
"""Of later calls, every so many-th is."""

CONFIGURED = beartype.BeartypeConf(violation_type=jaxtyping.TypeCheckError)
"""What is wrong is told as jaxtyping tells it."""

CHECKED = "__checked_by_beartype__"
"""Attribute of functions that are."""

_by_jaxtyping: Any = jaxtyping.jaxtyped
_sizes = _by_jaxtyping("context")
_kept: OrderedDict[Any, tuple[Callable[..., Any], Callable[..., Any]]] = OrderedDict()
_called: dict[tuple[str, str, int], list[int]] = {}
"""Number of calls of each function so far, by module, name and line."""


def jaxtyped(*args: Any, **kwargs: Any) -> Any:
    """`jaxtyping.jaxtyped`, whose functions are checked by `beartype_once` if they can be."""
    (function,) = args or (None,)
    if kwargs.get("typechecker") is None or function == "context":
        return _by_jaxtyping(*args, **kwargs)
    if function is None:
        return functools.partial(jaxtyped, **kwargs)
    if inspect.isclass(function):
        # What jaxtyping does with a class comes here again, with its `__init__`.
        is_checked = getattr(function.__init__, CHECKED, False)
        return function if is_checked else _by_jaxtyping(function, **kwargs)
    if type(function) is not FunctionType or inspect.isgeneratorfunction(function):
        return _by_jaxtyping(function, **kwargs)
    hints = function.__annotations__.values()
    if any(map(_is_text, hints)):
        return _by_jaxtyping(function, **kwargs)
    checked = beartype_once(function)
    called = _in_sizes_of_its_own(checked) if any(map(_names_sizes, hints)) else checked
    place = function.__module__, function.__qualname__, function.__code__.co_firstlineno
    calls = _called.setdefault(place, [0])

    @functools.wraps(checked)
    def call(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        calls[0] += 1
        if jaxtyping.config.jaxtyping_disable or (calls[0] > OFTEN and calls[0] % NOW_AND_THEN):
            return function(*args, **kwargs)
        return called(*args, **kwargs)

    setattr(call, CHECKED, True)
    return call


def _in_sizes_of_its_own(checked: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        with _sizes:
            return checked(*args, **kwargs)

    return call


# The hook looks it up in either place.
jaxtyping.jaxtyped = _decorator.jaxtyped = jaxtyped


def beartype_once(function: Callable[..., Any]) -> Callable[..., Any]:
    """`beartype.beartype`, which takes the checker of an equal function if there was one."""
    key = _key(function)
    if key is None:
        return _by_beartype(function)
    found = _kept.get(key)
    if found is None:
        # The function is kept as well: what is named by its identity in the key must live on.
        found = _kept[key] = function, _by_beartype(function)
        if len(_kept) > KEPT:
            _kept.popitem(last=False)
        return found[1]
    _kept.move_to_end(key)
    return _of_another(found[1], function)


def _by_beartype(function: Callable[..., Any]) -> Callable[..., Any]:
    return beartype.beartype(conf=CONFIGURED)(function)


def _of_another(checked: Any, function: Callable[..., Any]) -> Callable[..., Any]:
    """The checker of one function, which calls another that it is as right for.

    beartype hands what its checker calls to it as the default of an argument of that name.
    """
    given = checked.__kwdefaults__
    if not (given and "__beartype_func" in given):
        # There is nothing to check, or beartype does it in another way now.
        return _by_beartype(function)
    code, space, defaults = checked.__code__, checked.__globals__, checked.__defaults__
    other = FunctionType(code, space, checked.__name__, defaults, checked.__closure__)
    other.__kwdefaults__ = {**given, "__beartype_func": function}
    return functools.update_wrapper(other, function)


def _key(function: Any) -> Any:
    """All that a checker depends on, or None where something cannot be compared."""
    if not hasattr(function, "__code__"):
        return None
    defaults = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    key = (
        function.__module__,
        function.__qualname__,
        function.__code__,
        tuple((name, _same(hint)) for name, hint in function.__annotations__.items()),
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


def _parts(hint: Any) -> tuple[Any, ...]:
    """Hints inside a hint."""
    return tuple(hint) if isinstance(hint, list) else get_args(hint)


def _is_text(hint: Any) -> bool:
    """Whether a hint, or one inside it, is written as a string: a name that may not be there."""
    if get_origin(hint) is Literal:
        return False
    return isinstance(hint, str | ForwardRef) or any(map(_is_text, _parts(hint)))


def _names_sizes(hint: Any) -> bool:
    """Whether a hint, or one inside it, may name the size of an axis."""
    if isinstance(hint, TypeVar):
        return True
    if isinstance(hint, type) and get_origin(hint) is None:
        return issubclass(hint, (AbstractArray, PyTree))
    return any(map(_names_sizes, _parts(hint)))
