"""A run's folder: what it was started with, where it stands, and what came of it.

=================  =====================================================================
`config.json`      the settings; another run with others is refused
`checkpoint.npz`   weights, moments and all rounds; replaced whole, never half written
`ledger.db`        who was paid what (`edgepact ledger sqlite:///FOLDER/ledger.db`)
`rounds.csv`       a line for each engaged client of each round, rejections with reasons
`metrics.json`     the figures of the run
`accuracy.png`     accuracy by round
`flower.log`       what Flower and Ray say
`lock`             held by the process that plays
=================  =====================================================================
"""

import csv
import fcntl
import io
import json
import os
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from edgepact.errors import InputError
from edgepact.training.federated.aggregate import Model
from edgepact.training.federated.rounds import Progress, Round

CONFIG, CHECKPOINT, LEDGER, ROUNDS, METRICS, FIGURE, LOG, LOCK = (
    "config.json",
    "checkpoint.npz",
    "ledger.db",
    "rounds.csv",
    "metrics.json",
    "accuracy.png",
    "flower.log",
    "lock",
)

CHECKPOINT_BYTES_MAX = 1 << 32
"""Largest checkpoint that is read."""

COLUMNS = (
    "round",
    "accuracy",
    "client",
    "rate",
    "reward_microcredits",
    "paid_microcredits",
    "bytes_up",
    "examples",
    "digest",
    "epochs",
    "rejected",
)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Creates the folder and keeps other processes out of it.

    Raises:
        InputError: another process plays in it, or it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / LOCK).open("w")
    except OSError as error:
        raise InputError(folder, "", "a folder to write to", error.strerror or f"{error}") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            found = "one in which another process is training"
            raise InputError(folder, "", "a folder of its own", found) from None
        yield


def keep_config(folder: Path, config: Mapping[str, Any], *, may_differ: frozenset[str]) -> None:
    """Writes the settings, or compares them with those the folder was started with.

    Args:
        folder: of the run.
        config: JSON values.
        may_differ: names of settings that a resumed run may change.

    Raises:
        InputError: a setting differs, or the folder holds something else.
    """
    path = folder / CONFIG
    if not path.exists():
        others = sorted(each.name for each in folder.iterdir() if each.name not in (LOCK, LOG))
        if others:
            found = f"{others[0]} and no {CONFIG}"
            raise InputError(folder, "", "an empty folder, or one of an earlier run", found)
        write_durably(path, json.dumps(config, indent=2).encode() + b"\n")
        return
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        assert isinstance(known, dict)
    except (OSError, ValueError, AssertionError) as error:
        raise InputError(path, "", "settings of an earlier run", f"{error}") from None
    now = json.loads(json.dumps(config))
    for name in sorted({*known, *now} - may_differ):
        if known.get(name) != now.get(name):
            raise InputError(path, name, f"{known.get(name)!r} as before", now.get(name))


def write_checkpoint(folder: Path, progress: Progress) -> None:
    """Makes a progress durable: once this returns, it survives a crash, and before, the last."""
    history = json.dumps([each.as_json() for each in progress.history]).encode()
    buffer = io.BytesIO()
    np.savez(
        buffer,
        weights=progress.model.weights,
        first=progress.model.first,
        second=progress.model.second,
        history=np.frombuffer(history, np.uint8),
    )
    write_durably(folder / CHECKPOINT, buffer.getvalue())


def read_checkpoint(folder: Path, size: int) -> Progress | None:
    """Where the folder's run stands; None before its first checkpoint.

    Raises:
        InputError: the file is damaged or of another model.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    if path.stat().st_size > CHECKPOINT_BYTES_MAX:
        expected = f"at most {CHECKPOINT_BYTES_MAX} bytes"
        raise InputError(path, "", expected, path.stat().st_size)
    try:
        # From memory: of a damaged file NumPy would leave the handle open.
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
            model = Model(weights=arrays["weights"], first=arrays["first"], second=arrays["second"])
            rounds = json.loads(arrays["history"].tobytes())
        history = tuple(Round.from_json(each) for each in rounds)
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(path, "", "a checkpoint", f"{error}") from None
    if model.weights.shape != (size,) or [each.number for each in history] != list(
        range(len(history))
    ):
        raise InputError(path, "weights", f"shape ({size},)", f"{model.weights.shape}")
    return Progress(model=model, history=history)


def write_rounds(folder: Path, history: tuple[Round, ...]) -> None:
    """Writes `rounds.csv` anew."""
    with (folder / ROUNDS).open("w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file)
        lines.writerow(COLUMNS)
        for each in history:
            for at in each.deliveries:
                lines.writerow(
                    (
                        each.number,
                        f"{each.accuracy:.6f}",
                        at.client,
                        repr(at.rate),
                        at.reward_microcredits,
                        at.paid_microcredits,
                        at.bytes_up,
                        at.examples,
                        at.digest,
                        at.epochs,
                        at.rejected,
                    )
                )


def write_durably(path: Path, data: bytes) -> None:
    """Replaces a file as a whole; it is on the disk when this returns."""
    draft = path.with_name(path.name + ".new")
    with draft.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, path)
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
