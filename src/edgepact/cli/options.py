"""Options of a command from its settings object: one each, with the field's words and default.

A command says of which class it is, and is called with the object, whose own checks are all that
is asked of a value: what the command line is told is refused in the words in which a file, a
process or Python is refused, with the field spelt as its option. `--config FILE` states the same
fields in TOML, where a command takes one; options win over it.
"""

import inspect
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING
from pathlib import Path
from typing import Annotated, Any

import typer

from edgepact.errors import InputError, shown
from edgepact.settings import (
    Setting,
    flags_of,
    from_environment,
    keys_of,
    read,
    settings_of,
    source_of,
    spelt,
    stated,
)

Command = Callable[..., None]

CONFIG = "config"


def whole(source: str, flag: str) -> Callable[[str | int], int]:
    """Reads an option that no settings object has: a whole number, or what came is named."""

    def read_whole(given: str | int) -> int:  # Typer reads defaults too
        try:
            return int(given)
        except ValueError:
            raise InputError(source, flag, "a whole number", shown(given)) from None

    return read_whole


def options_of(
    cls: type, *, file: bool = False, own_first: bool = False
) -> Callable[[Command], Command]:
    """Gives a command the options of a settings class.

    The command is called with the object first, and with its own parameters by name.

    Args:
        cls: the settings class.
        file: whether `--config FILE` states settings too.
        own_first: whether what the class adds to another stands first in help.
    """

    def of(command: Command) -> Command:
        def called(said: dict[str, Any], **own: Any) -> None:
            command(cls(**from_environment(cls) | said), **own)

        return _with_options(cls, command, called, file=file, own_first=own_first)

    return of


def said_of(cls: type) -> Callable[[Command], Command]:
    """Gives a command the options of a settings class, to be called with what was said of them.

    For a command whose arguments decide what its options are about: it gets a dictionary, by field,
    of what is not left to its default.
    """

    def of(command: Command) -> Command:
        return _with_options(cls, command, command)

    return of


def _with_options(
    cls: type, command: Command, called: Command, *, file: bool = False, own_first: bool = False
) -> Command:
    """A command for Typer."""
    flags, keys = flags_of(cls), keys_of(cls)
    own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]

    def run(ctx: Any, **given: Any) -> None:
        source = source_of(cls)
        beside = {each.name: given.pop(each.name) for each in own}
        path: Path | None = given.pop(CONFIG, None)
        said = {
            each.name: _value(source, each, given[each.name])
            for each in settings_of(cls)
            if each.name in given and _is_said(ctx, each.name)
        }
        of_file = {} if path is None else _of_file(cls, path)
        of_file = {name: of_file[name] for name in of_file.keys() - _replaced(cls, said)}

        def spell(name: str) -> tuple[object, str]:
            by_file = name in of_file and name not in said
            return (path, keys[name]) if by_file else (source, flags.get(name, name))

        with spelt(cls, spell):
            called(of_file | said, **beside)

    inherited = {name for base in cls.__mro__[1:] for name in getattr(base, "__annotations__", ())}
    fields = sorted(settings_of(cls), key=lambda each: own_first and each.name in inherited)
    options = [_parameter(each) for each in fields if each.flag]
    if file:
        options.append(_config_parameter())
    # Arguments stand first in help, and in the order of the command's signature.
    context = inspect.Parameter(
        "ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context
    )
    every = [context, *(each.replace(kind=each.KEYWORD_ONLY) for each in (*options, *own))]
    run.__name__, run.__doc__, run.__module__ = (
        command.__name__,
        command.__doc__,
        command.__module__,
    )
    run.__signature__ = inspect.Signature(every)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in every}
    return run


def _parameter(each: Setting) -> inspect.Parameter:
    """The option of a field."""
    names = (
        [f"{each.flag}/--no-{each.flag.removeprefix('--')}"] if each.type is bool else [each.flag]
    )
    words: dict[str, Any] = {"help": _help(each)}
    if each.env and each.secret:
        words["envvar"] = each.env
    kind: Any = str
    if each.type is bool:
        kind = bool
    elif each.type is Path:
        kind = Path | None if each.default is None else Path
        words["metavar"] = each.metavar or "<path>"
    elif each.type is tuple:  # said once for each
        kind = list[str]
        words["metavar"] = each.metavar or "<str>"
    else:
        words["metavar"] = each.metavar or f"<{_KINDS[each.type]}>"
        kind = str | None if each.default is None else str
    if each.choices:
        words["autocompletion"] = lambda: list(each.words)
    # Where the words state the default themselves, it is not what the object would show.
    words["show_default"] = "[default:" not in each.about
    default = inspect.Parameter.empty if each.default is MISSING else _shown(each)
    return inspect.Parameter(
        each.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[kind, typer.Option(*names, **words)],
    )


def _config_parameter() -> inspect.Parameter:
    about = (
        "File of these settings in TOML, named as the options are, with underscores; options win "
        "over it. Tokens go by a file of their own."
    )
    return inspect.Parameter(
        CONFIG,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[Path | None, typer.Option(metavar="FILE", help=about)],
    )


def _help(each: Setting) -> str:
    """Its words, and the limits that they need not repeat."""
    low, more = (each.least, ">=") if each.above is None else (each.above, ">")
    if low is None and each.most is None:
        return each.about
    if each.most is None:
        return f"{each.about}  [x{more}{low:.12g}]"
    from_low = "" if low is None else f"{low:.12g}{more.replace('>', '<')}"
    return f"{each.about}  [{from_low}x<={each.most:.12g}]"


def _shown(each: Setting) -> Any:
    """A default as a command line spells it."""
    if each.default is None or each.type in (bool, Path):
        return each.default
    if each.type is tuple:
        return list(each.default)
    return json.dumps(each.default) if each.type is dict else str(each.default)


def _is_said(ctx: Any, name: str) -> bool:
    """Whether an option was given, or its environment variable, in a `typer.Context`."""
    source = ctx.get_parameter_source(name)
    return source is not None and source.name in ("COMMANDLINE", "ENVIRONMENT")


def _value(source: object, each: Setting, given: Any) -> Any:
    if each.type is tuple:
        return tuple(given)
    return read(source, each.flag, given, each) if isinstance(given, str) else given


def _of_file(cls: type, path: Path) -> dict[str, Any]:
    """What a file states, by field; its paths, those in SQLite URLs too, are relative to its
    folder."""
    from edgepact.fields import load

    values = stated(cls, path, load(path))
    return {name: _beside(path.parent, value) for name, value in values.items()}


def _beside(folder: Path, value: Any) -> Any:
    """A value of a file in this folder, as it is called from the working directory."""
    if isinstance(value, Path):
        return folder / value
    url = _SQLITE.fullmatch(value) if isinstance(value, str) else None
    if url is None or url["file"] == ":memory:":
        return value
    return f"{url['scheme']}{folder / url['file']}{url['query']}"


def _replaced(cls: type, said: Mapping[str, Any]) -> set[str]:
    """Fields of a file that no longer hold, since an option says one of their alternatives."""
    alternatives: Mapping[str, Sequence[str]] = getattr(cls, "ALTERNATIVES", {})
    chosen = alternatives.keys() & said.keys()
    if not chosen:
        return set()
    every, kept = (
        {each for name in names for each in (name, *alternatives[name])}
        for names in (alternatives, chosen)
    )
    return every - kept


_SQLITE = re.compile(r"(?P<scheme>sqlite(\+\w+)?:///)(?P<file>[^?]+)(?P<query>(\?.*)?)", re.DOTALL)

_KINDS: dict[type, str] = {str: "str", int: "int", float: "float", dict: "json"}
