"""What whoever runs a study asks of it: how large, by how many processes, drawn how.

A study's `Config` says itself which sizes it takes: a field whose metadata is `size("fleets")` is
set by `--fleets`. A size that no field of it names is refused by name, before anything is computed.
"""

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from edgepact.errors import InputError
from edgepact.fields import check_whole

Config = TypeVar("Config")

SIZES = ("seeds", "epochs", "fleets")
"""Sizes that can be asked for, if the study has them."""

MOST = 1_000_000
"""Largest size: a slip of the keyboard, not a study."""

FORMATS = ("png", "svg", "pdf")
STYLES = ("page", "article")

SIZE, LEAST = "size", "least"
"""Keys of a field's metadata."""


def size(name: Literal["seeds", "epochs", "fleets"], *, least: int = 1) -> dict[str, object]:
    """Metadata of a field of a study's `Config` that a size sets.

    Args:
        name: of the size.
        least: that the study can make something of; of fewer seeds than two there is no interval.
    """
    return {SIZE: name, LEAST: least}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """How a study is to be run.

    Attributes:
        smoke: in small, to see that everything works.
        seeds, epochs, fleets: sizes; the study's own if None.
        workers: processes that share the work, where the study can be shared.
        format: of the pictures: `png`, `svg` or `pdf`.
        style: of the pictures: `page` for a screen, `article` for a column of print.
        data: folder of a study that was run before, to draw from instead of running it again.
    """

    smoke: bool = False
    seeds: int | None = None
    epochs: int | None = None
    fleets: int | None = None
    workers: int = 1
    format: str = "png"
    style: str = "page"
    data: Path | None = None

    @property
    def sizes(self) -> dict[str, int]:
        """Those that were asked for."""
        return {name: n for name in SIZES if (n := getattr(self, name)) is not None}

    @property
    def words(self) -> str:
        """The sizes as options of a command, each after a space."""
        return "".join(f" --{name} {number}" for name, number in self.sizes.items())

    def record(self, study: str) -> dict[str, object]:
        """What is kept of it in `metrics.json`, beside the settings that were played."""
        return {"study": study, "smoke": self.smoke, "workers": self.workers, "style": self.style}


def sizes_of(config: Any) -> dict[str, int]:
    """The sizes that a study's `Config` takes, each with the least that it can be."""
    taken: dict[str, int] = {}
    for field in fields(config):
        if SIZE in field.metadata:
            name = field.metadata[SIZE]
            taken[name] = max(taken.get(name, 1), field.metadata[LEAST])
    return {name: taken[name] for name in SIZES if name in taken}


def check_size(name: str, number: object) -> int | None:
    """A size, or None; refuses what is no size of any study.

    Raises:
        InputError: names the size.
    """
    return None if number is None else check_whole("study", name, number, least=1, most=MOST)


def check_sizes(study: str, config: Any, asked: Asked) -> None:
    """Refuses sizes that a study does not have, and those it can make nothing of.

    Args:
        study: its name.
        config: its `Config`, or an instance.
        asked: what was asked for.

    Raises:
        InputError: names the size, and those that the study has.
    """
    taken = sizes_of(config)
    has = " and ".join(f"--{name}" for name in taken) or "none"
    for name, number in asked.sizes.items():
        if name not in taken:
            raise InputError(
                "study", f"--{name}", f"a size that {study} has ({has})", f"--{name} {number}"
            )
        check_whole("study", f"--{name}", number, least=taken[name], most=MOST)


def sized(config: Config, asked: Asked) -> Config:
    """A study's settings with the sizes that were asked for in place of its own.

    A field that holds seeds, rather than their number, becomes 0, 1, ... up to the number.
    """
    changes: dict[str, Any] = {}
    for field in fields(config):  # type: ignore[arg-type]
        number = asked.sizes.get(field.metadata.get(SIZE, ""))
        if number is not None:
            several = isinstance(getattr(config, field.name), tuple)
            changes[field.name] = tuple(range(number)) if several else number
    return replace(config, **changes)  # type: ignore[type-var]
