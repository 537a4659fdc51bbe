"""Split inference by real processes: checked, measured, started, watched, stopped.

The three pacts of a partitioned model differ in what the server asks of devices; everything
else of a live market on this machine is here.
"""

import secrets
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgepact.compiled import keep_compiled
from edgepact.efficiency.profile import Profile
from edgepact.errors import InputError, shown
from edgepact.framework import Json, Run, Sheet
from edgepact.market.device_config import DeviceConfig
from edgepact.market.play import round_status
from edgepact.market.processes import LiveMarket
from edgepact.market.protocol.messages import check_name
from edgepact.market.serve_config import ServeOptions
from edgepact.market.statement import Statement, read_statement
from edgepact.mechanisms.stackelberg.link import LINK_COLUMNS, Links
from edgepact.pacts.partition_demand import HandedOut, handed_out
from edgepact.pacts.partition_jobs import SplitJob
from edgepact.pacts.partition_results import Played
from edgepact.pacts.partition_settings import DEVICES_MAX
from edgepact.pacts.partition_terms import PrivateDevices, SplitTerms, expect_model
from edgepact.pacts.partition_watching import watching
from edgepact.progress import progress_bar
from edgepact.tables import one

COMMIT_TIMEOUT_S = 20.0
"""Time to answer after the first answer. Bids wait for each other, and one that is late has no
part in the award."""

GATHER_TIMEOUT_S = 30.0
"""How long the server waits for all devices before the first round."""

PROFILE_REPEATS, SMOKE_REPEATS = 30, 5


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LayersMeasured:
    """The model's layers on this machine, and the devices that are about to run them.

    Attributes:
        profile: what layers cost.
        devices: with what only they know.
        split: how its units and steps are called.
    """

    profile: Profile
    devices: PrivateDevices
    split: SplitJob

    @property
    def sheets(self) -> tuple[Sheet, ...]:
        """One table."""
        costs, profile, step = self.profile.costs, self.profile, self.split.step
        rows = (
            (f"{step}s of the model, L_max", f"{costs.layers_max}"),
            (f"A, GMAC of {one(step)}", f"{costs.A:.4g}"),
            (f"B, GMAC of a device besides its {step}s", f"{costs.B:.4g}"),
            (f"milliseconds of {one(step)}", f"{1e3 * profile.fit.A_s:.4g}"),
            ("R2 of milliseconds as A L + B", f"{profile.fit.r_squared:.4f}"),
            (
                f"milliseconds of {one(self.split.unit)}, unsplit",
                f"{1e3 * sum(profile.seconds_per_stage):.4g}",
            ),
        )
        return (
            Sheet(
                title=f"Partition: each device {self.split.device_share}",
                head=("measured on this machine", "value"),
                rows=rows,
            ),
        )

    def to_dict(self) -> dict[str, Json]:
        """As JSON."""
        costs = self.profile.costs
        return {"layers_max": costs.layers_max, "A": costs.A, "B": costs.B}


def expect_ready(terms: SplitTerms, out: Path) -> None:
    """Refuses what cannot work before anything is written.

    Raises:
        InputError: a folder cannot be used.
    """
    if out.exists():
        if not out.is_dir():
            raise InputError("run", "out", "a new or empty folder", f"{out}, a file")
        if any(out.iterdir()):
            raise InputError("run", "out", "a new or empty folder", f"{out}, with files in it")
    expect_folders(terms)
    terms.split.make_ready(terms.model_folder, terms.inputs_place)


def expect_folders(terms: SplitTerms) -> None:
    """Expects the folders that a scenario names.

    Raises:
        InputError: one is not there.
    """
    split = terms.split
    place = terms.inputs_place
    if place is not None and not (place.is_dir() if split.inputs_are_folder else place.is_file()):
        found = f"no such {'folder' if split.inputs_are_folder else 'file'}"
        raise InputError(terms.source, f"job.{split.inputs_field}", split.inputs_words, found)
    expect_model(terms)
    if not terms.model_folder.is_dir():
        raise InputError(terms.source, "efficiency.model", "a model directory", "no such folder")


def expect_fitting(terms: SplitTerms, devices: PrivateDevices, layers_max: int) -> None:
    """Refuses devices that cannot be processes here, and layers that are not the model's.

    Raises:
        InputError: names the field.
    """
    model, step = terms.split.model(terms.model_folder, terms.settings), terms.split.step
    for field, fits, expected, found in (
        (
            "server.layers_max",
            layers_max == model.amount_max,
            f"{model.amount_max}, the {step}s of {model.name}",
            layers_max,
        ),
        (
            "device",
            len(devices.names) <= DEVICES_MAX,
            f"at most {DEVICES_MAX} devices, each a process here",
            len(devices.names),
        ),
    ):
        if not fits:
            raise InputError(terms.source, field, expected, found)
    for name in devices.names:
        check_name(str(terms.source), name)
        if name.casefold() == "server":
            raise InputError(terms.source, "device.name", "names other than 'server'", shown(name))


def layers_profiled(terms: SplitTerms, out: Path) -> Profile:
    """Measures the model's layers; from here on there is a folder, and SIGTERM ends everybody.

    Raises:
        InputError: the folder cannot be made.
    """
    keep_compiled()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError("run", "out", "a folder that can be made", f"{error}") from None
    signal.signal(signal.SIGTERM, _end)
    repeats = SMOKE_REPEATS if terms.smoke else PROFILE_REPEATS
    split = terms.split
    with progress_bar(f"Measure the model's {split.step}s") as advance:
        return split.profile(terms.model_folder, terms.settings, repeats, advance)


def tell_other_sizes(measured: Profile, devices: PrivateDevices, step: str) -> None:
    """A line on standard error where steps of the file are not as large as those measured."""
    ratio = float(np.mean(devices.fleet.A)) / measured.costs.A
    if not 0.5 < ratio < 2.0:
        print(
            f"note: {one(step)} of {measured.model} takes {measured.costs.A:.4g} GMAC, the fleet's "
            f"A is {ratio:.3g} times that; devices decide and are paid by the file",
            file=sys.stderr,
        )


def play(terms: SplitTerms, devices: PrivateDevices, asked: Mapping[str, Any], run: Run) -> Played:
    """Starts everybody, follows the rounds, stops everybody.

    Args:
        terms: how it is done.
        devices: a process each.
        asked: fields of `ServeOptions` that say what is asked of devices.
        run: its folder, and whom to tell that processes are about to start.

    Raises:
        MarketError: the server could not be started, or all devices were lost.
    """
    run.on_live()
    started_s = time.monotonic()
    out, names, fleet = run.out, devices.names, devices.fleet
    url = f"sqlite:///{out.resolve() / 'ledger.db'}"
    tokens = [secrets.token_hex(20) for _ in names]
    rounds = terms.rounds_played
    inputs = terms.split.shared_out(
        terms.inputs_place, names, per_round=terms.units, rounds=rounds, seed=terms.seed
    )
    # Beside a scenario, which states its own job, a server is told none.
    stated: dict[str, Any] = {}
    if "scenario" not in asked:
        stated = {"job": terms.job, "job_settings": terms.settings}
    with (
        inputs as shares,
        _asked_of(terms, names, shares.folders) as orders,
        LiveMarket(out) as live,
        watching(names, rounds, terms.units, terms.split.unit, terms.split.step) as on_status,
    ):
        # The server is not told the seed of the run. Audits would be drawn from it, and devices
        # know it, since it orders their images: one that works out which pieces are audited can
        # cheat on all others. So they are drawn with the ledger's own secret, which costs a run
        # nothing of its repeatability: audits of honest work change no payment. Devices may be
        # drawn from it too, whose private figures it would tell. Menus and awards draw nothing;
        # quotes do, and are given it for that alone.
        live.start_server(
            ServeOptions(
                **asked,
                **stated,
                model=terms.model_folder,
                ledger_url=url,
                port=0,
                enrol_tokens=tuple(tokens),
                rounds=rounds,
                devices_min=len(names),
                units_per_round=terms.units,
                commit_timeout_s=COMMIT_TIMEOUT_S,
                round_timeout_s=terms.round_timeout_s,
                gather_timeout_s=GATHER_TIMEOUT_S,
                audit_probability=terms.audit_probability,
                repeat_rounds=shares.repeat_rounds,
                demand=None if orders is None else orders.demand,
            )
        )
        run.on_served(out, live.page)
        for at, (name, token) in enumerate(zip(names, tokens, strict=True)):
            live.start_device(
                DeviceConfig(
                    server_url=live.url,
                    name=name,
                    job=terms.job,
                    job_settings=terms.settings,
                    model=terms.model_folder,
                    inputs=shares.folders[name] if orders is None else orders.inputs[name],
                    requests=None if orders is None else orders.requests[name],
                    results=out / f"{name}.jsonl",
                    alpha=float(fleet.alpha[at]),
                    capacity=float(fleet.capacity[at]),
                    A=float(fleet.A[at]),
                    B=float(fleet.B[at]),
                    satisfaction=devices.satisfaction,
                    **_link(devices.links, at),
                    codec=terms.codec,
                    away_timeout_s=terms.away_timeout_s,
                    enrol_token=token,
                    seed=terms.seed,
                    show_pieces=True,  # all of it is on this machine, which is its owner's
                )
            )
        try:
            live.watch(on_status)
        except KeyboardInterrupt:
            print(f"\nstopped; what was paid is in {out / 'ledger.db'}", file=sys.stderr)
            raise
        statement = read_statement(url)
        on_status(_last_status(statement))
        if len(statement.rounds) < rounds:
            print(
                f"note: the market has ended after {len(statement.rounds)} of {rounds} rounds; the "
                "report is of these",
                file=sys.stderr,
            )
        lost = live.lost_devices()
    return Played(statement=statement, lost=lost, live_seconds=time.monotonic() - started_s)


@contextmanager
def _asked_of(
    terms: SplitTerms, names: Sequence[str], inputs: Mapping[str, Path | None]
) -> Iterator[HandedOut | None]:
    """What buyers ask of devices; None where devices bring work of their own."""
    if not terms.buyers:
        yield None
        return
    with handed_out(terms, names, inputs) as orders:
        yield orders


def _link(links: Links | None, at: int) -> dict[str, Any]:
    """What a device is told of its own link."""
    if links is None:
        return {}
    return {name: float(getattr(links, name)[at]) for name in LINK_COLUMNS}


def _end(signum: int, frame: object) -> None:
    """On SIGTERM everybody is stopped in the same way as on Ctrl-C."""
    raise SystemExit(128 + signum)


def _last_status(statement: Statement) -> dict[str, Any]:
    """The end of the market as the ledger has it: the server may end between two looks at it."""
    return {"devices_present": [], "rounds": [round_status(each) for each in statement.rounds]}
