"""What figure 4 learned in an earlier run: drawn again, and learned only where it is missing.

Figure 5 shows the same training as figure 4, and a picture in another format or style the same
points. Curves are read from the folder of a run of `fig4` (or `fig5`) if its settings are those
that are wanted; a curve that is not in it is learned.
"""

import csv
import json
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from edgepact.errors import InputError
from edgepact.fields import check_table, check_whole
from edgepact.studies.asked import Asked
from edgepact.studies.false_peaks import Learned
from edgepact.studies.place import FACTS, held_in

USUAL = Path("study-fig4")
"""Where `edgepact study fig4` leaves its results, in the folder that the command is called in."""

CURVES, HARD = "curves.csv", "curves-hard.csv"
OF_FLEET = ("fleet_seed", "seed", "seeds", "epochs")
"""Settings that curves of figure 4's fleet depend on."""
OF_HARD = ("seed", "seeds", "hard_epochs", "fleets", "seeds_of_fleets")
"""Settings that curves of the hard games depend on."""


SIZE_MOST = 2**31 - 1
"""Largest whole number of a setting."""


class Learning(NamedTuple):
    """One solver's training, `seeds epochs`, and the CPU seconds it took."""

    utility: np.ndarray
    action: np.ndarray
    cpu_seconds: float


class Before(NamedTuple):
    """Curves of an earlier run.

    Attributes:
        folder: they are from; None if there are none.
        config: settings of that run.
        learning: by solver, on figure 4's fleet.
        hard: by hard game and solver.
        source: command, commit and versions of that run.
    """

    folder: Path | None
    config: Mapping[str, Any]
    learning: Mapping[str, Learning]
    hard: Mapping[str, Mapping[str, Learned]]
    source: Mapping[str, Any]

    def record(self) -> dict[str, Any]:
        """Where curves come from, for `metrics.json`; nothing if all are learned now."""
        if self.folder is None:
            return {}
        kept = ("command", "commit", "edgepact", "versions", "machine")
        told = {name: self.source.get(name) for name in kept}
        return {"drawn_from": {"folder": str(self.folder), **told}}


Settings = TypeVar("Settings")


NOTHING = Before(None, {}, {}, {}, {})


def read(folder: Path) -> Before:
    """Reads the curves of a run of fig4 or fig5.

    Raises:
        InputError: there are none in the folder.
    """
    if held_in(folder) not in ("fig4", "fig5"):
        found = held_in(folder) or "none of them"
        raise InputError("study", "--data", "a folder with results of fig4", f"{folder}: {found}")
    try:
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        source = facts["provenance"]
        config = check_table(folder / FACTS, "provenance.config", source["config"])
        solvers = check_table(folder / FACTS, "solvers", facts["solvers"])
        seconds = {name: each["cpu_seconds_with_compilation"] for name, each in solvers.items()}
        learning = {
            name: Learning(columns["utility"], columns["action"], seconds[name])
            for (name,), columns in _columns(
                folder / CURVES, ("solver",), ("seed", "epoch"), ("utility", "action")
            ).items()
        }
        hard: dict[str, dict[str, Learned]] = {}
        if (folder / HARD).is_file():
            keys = (("game", "solver"), ("learner", "epoch"), ("gain_share", "share"))
            for (game, name), columns in _columns(folder / HARD, *keys).items():
                shares = Learned(columns["gain_share"], columns["share"])
                hard.setdefault(game, {})[name] = shares
        return Before(folder, config, learning, hard, source)
    except (OSError, ValueError, LookupError, TypeError, csv.Error) as error:
        raise InputError("study", "--data", "the curves of fig4", f"{folder}: {error}") from error


def _columns(
    path: Path, names: tuple[str, ...], places: tuple[str, str], values: tuple[str, ...]
) -> dict[tuple[str, ...], dict[str, np.ndarray]]:
    """Tables `first second` of the values, by the names."""
    rows: dict[tuple[str, ...], list[dict[str, str]]] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            rows.setdefault(tuple(row[name] for name in names), []).append(row)
    found = {}
    for key, of_key in rows.items():
        first, second = ({row[place] for row in of_key} for place in places)
        shape = (len(first), len(second))
        found[key] = {
            value: np.array([float(row[value]) for row in of_key]).reshape(shape)
            for value in values
        }
    return found


def fitting(before: Before, config: Any) -> Before:
    """Those curves of an earlier run that settings would give again."""

    def alike(names: tuple[str, ...]) -> bool:
        mine = {name: getattr(config, name, None) for name in names}
        return mine == {name: before.config.get(name) for name in names}

    learning = before.learning if alike(OF_FLEET) else {}
    hard = before.hard if alike(OF_HARD) else {}
    return before._replace(learning=learning, hard=hard) if learning or hard else NOTHING


def settle(
    asked: Asked, config: Settings, *, usual: Path | None = None
) -> tuple[Asked, Settings, Before]:
    """What is drawn from where.

    Args:
        asked: a folder that it names must fit; if no sizes are asked for, its settings are taken.
        config: what is wanted.
        usual: a folder whose curves are taken if it is there and fits, where none is named.

    Returns:
        What is asked for, with which settings, and what an earlier run has of it.

    Raises:
        InputError: the folder that was named holds no curves of these settings.
    """
    if asked.data is None:
        try:
            before = NOTHING if usual is None else fitting(read(usual), config)
        except InputError:
            before = NOTHING
        return asked, config, before
    held = read(asked.data)
    if not asked.sizes:
        there: Any = config
        known = {each.name for each in fields(there)} & set(held.config)
        taken = {name: _frozen(held.config[name]) for name in known}
        for name, value in taken.items():
            if type(getattr(config, name)) is int:
                place = held.folder / FACTS if held.folder else FACTS
                check_whole(place, f"provenance.config.{name}", value, least=0, most=SIZE_MOST)
        config = replace(there, **taken)
    before = fitting(held, config)
    if before is NOTHING:
        wanted = {name: getattr(config, name) for name in OF_FLEET}
        found = {name: held.config.get(name) for name in OF_FLEET}
        raise InputError("study", "--data", f"curves with {_said(wanted)}", _said(found))
    # Curves of a smoke run mean as little when they are drawn again.
    smoke = asked.smoke or bool(held.source.get("smoke", False))
    return replace(asked, smoke=smoke), config, before


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _said(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in settings.items())
