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
from numpy.lib import format as npy

from edgepact.errors import InputError, shown
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

HISTORY_BYTES_MAX = 1 << 30
"""Most bytes of all rounds in a checkpoint that is read."""

ARRAY_BYTES_MORE = 4096
"""Most bytes that an array takes in a checkpoint beside its numbers: the header."""

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

    Args:
        folder: of the run.
        size: number of weights of the model.

    Raises:
        InputError: the file is damaged, larger than a checkpoint can be, or of another model.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            model = Model(
                weights=_numbers(path, archive, "weights", "float32", size),
                first=_numbers(path, archive, "first", "float32", size),
                second=_numbers(path, archive, "second", "float32", size),
            )
            history = _numbers(path, archive, "history", "uint8", HISTORY_BYTES_MAX)
        rounds = tuple(Round.from_json(each) for each in json.loads(history.tobytes()))
    except InputError:
        raise
    except Exception as error:  # what zipfile raises at strange bytes shares no base
        raise InputError(path, "", "a checkpoint", shown(f"{error}")) from None
    if model.weights.shape != (size,):
        raise InputError(path, "weights", f"shape ({size},)", f"{model.weights.shape}")
    moments = {model.first.size, model.second.size}
    if moments not in ({0}, {size}):
        expected = f"as many moments as weights, {size}, or none"
        raise InputError(path, "first, second", expected, sorted(moments))
    if [each.number for each in rounds] != list(range(len(rounds))):
        raise InputError(path, "history", "rounds 0, 1, ... in order", "others")
    return Progress(model=model, history=rounds)


def _numbers(path: Path, archive: zipfile.ZipFile, name: str, dtype: str, most: int) -> np.ndarray:
    """A row of numbers, of which no more is unpacked or allotted than there may be.

    Raises:
        InputError: there are more, or they are no row of this type.
    """
    wanted = np.dtype(dtype)
    limit = most * wanted.itemsize + ARRAY_BYTES_MORE
    with archive.open(f"{name}.npy") as file:
        content = file.read(limit + 1)  # whatever the entry says of its size
    if len(content) > limit:
        raise InputError(path, name, f"at most {most} numbers of {dtype}", "more")
    stream = io.BytesIO(content)
    if npy.read_magic(stream) != (1, 0):
        raise ValueError(f"another version of an array in {name}")
    shape, _, found = npy.read_array_header_1_0(stream)
    rest = content[stream.tell() :]
    # Of a shape that promises more than there are bytes NumPy would allot all.
    if len(shape) != 1 or found != wanted or shape[0] * wanted.itemsize != len(rest):
        expected = f"a row of numbers of {dtype}"
        raise InputError(path, name, expected, f"{len(rest)} bytes of {found}, shape {shape}")
    return np.frombuffer(rest, wanted).copy()


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
