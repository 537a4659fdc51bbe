"""What is installed, what this machine lets edgepact do, and what is missing for which job.

The answer of `edgepact doctor`. Nothing large is loaded and nothing is left behind: what is asked
is the metadata of packages, a process that loads JAX and ends, a socket that is closed again, a
folder that is removed again. It does the same on the install of a device, of which less is asked.
"""

import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import Distribution
from pathlib import Path

from packaging.specifiers import SpecifierSet

import edgepact
from edgepact.errors import check_choice
from edgepact.framework import Json, Sheet
from edgepact.live.run_config import free_folder
from edgepact.purposes import (
    CONTRIBUTORS,
    DEVICE,
    WHOLE,
    Purpose,
    extras_of,
    lacking,
    own_distribution,
    purposes,
)
from edgepact.registry import installed
from edgepact.tables import Shown

GOOD, NOTE, MISSING = "good", "note", "MISSING"
"""How a finding is: as it should be; worth knowing; in the way of what was asked for."""

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""Variables that bound the threads of the libraries that compute."""

FREE_BYTES_MIN = 200_000_000
"""Free space below which a run may not end: its folder, and what JAX keeps of compiled programs."""


COMPUTES = "import jax; print(jax.__version__, 'computes on', jax.default_backend())"
"""What a process is asked that finds out whether JAX works."""

COMPUTES_S_MAX = 60.0
"""It takes one or two seconds; more than this is as good as never."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: what.
        state: `GOOD`, `NOTE` or `MISSING`.
        found: what was found.
        mend: the command or the words that mend it; empty where nothing has to be mended.
    """

    name: str
    state: str
    found: str
    mend: str = ""

    def to_dict(self) -> dict[str, Json]:
        """For JSON."""
        return {"name": self.name, "state": self.state, "found": self.found, "mend": self.mend}


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis(Shown):
    """All findings.

    Attributes:
        version: of edgepact.
        asked: name of the purpose that the exit status is about.
        named: whether somebody asked for it by name; the tables then show no other.
        machine: the installation, Python, folders, ports, threads.
        purposes: what can be done here; missing for some is nothing but told.
        extras: what each extra is for, and what it lacks.
    """

    version: str
    asked: str
    named: bool
    machine: tuple[Finding, ...]
    purposes: tuple[Finding, ...]
    extras: tuple[Finding, ...]

    @property
    def fit(self) -> bool:
        """Whether what was asked for can be done: nothing of the machine is in the way, and
        nothing that it needs is missing."""
        (asked,) = (each for each in self.purposes if each.name == self.asked)
        return MISSING not in (asked.state, *(each.state for each in self.machine))

    def to_dict(self) -> dict[str, Json]:
        """For `--json`."""
        tables = ("machine", "purposes", "extras")
        told = {name: [each.to_dict() for each in getattr(self, name)] for name in tables}
        return {"version": self.version, "asked": self.asked, "fit": self.fit, **told}

    @property
    def sheets(self) -> tuple[Sheet, ...]:
        """Tables, and below each the commands that mend what is missing."""
        verdict = f"`{self.asked}` " + (
            "can be done here." if self.fit else "CANNOT be done here; see above."
        )
        machine = _sheet(f"edgepact {self.version} on this machine", "what", self.machine)
        if self.named:
            own = tuple(each for each in self.purposes if each.name == self.asked)
            every = "`edgepact doctor` alone shows all purposes."
            return machine, _sheet("What was asked for", "purpose", own, every, verdict)
        # All other extras are told by the purposes that need them.
        others = tuple(each for each in self.extras if each.name in CONTRIBUTORS)
        return (
            machine,
            _sheet("What can be done here", "purpose", self.purposes, verdict),
            *((_sheet("For work on edgepact itself", "extra", others),) if others else ()),
        )


def diagnose(purpose: str | None = None, *, port: int = 8080) -> Diagnosis:
    """Looks at the installation and the machine.

    Args:
        purpose: what is to be done; None for what the installation is for, `run` or `device`.
        port: the one that `edgepact serve` is to listen on, of the loopback interface.

    Raises:
        InputError: nobody knows the purpose.
    """
    own = own_distribution()
    extras = () if own is None else extras_of(own)
    device_alone = own is not None and own.metadata["Name"] == DEVICE
    every = purposes(tuple(installed("jobs")), extras)
    asked = purpose or ("device" if device_alone else "run")
    check_choice("doctor", "PURPOSE", asked, tuple(each.name for each in every))
    lacks = {} if own is None else {extra: lacking(own, extra) for extra in extras}
    return Diagnosis(
        version=edgepact.__version__,
        asked=asked,
        named=purpose is not None,
        machine=(
            _installation(own),
            _python(own),
            *_base(own),
            *(() if device_alone else (_computing(),)),
            *_folders(device_alone=device_alone),
            _port(port),
            _threads(),
        ),
        purposes=tuple(_ability(each, own, lacks, device_alone=device_alone) for each in every),
        extras=tuple(_extra(name, own, lacks[name], every) for name in extras if own is not None),
    )


def _installation(own: Distribution | None) -> Finding:
    place = str(Path(edgepact.__file__).parent)
    if own is None:
        found = f"source alone at {place}: no package tells what it needs"
        return Finding(name="installation", state=MISSING, found=found, mend="pip install -e .")
    name, version = own.metadata["Name"], own.version
    if version != edgepact.__version__:
        found = f"{name} {version}, but the source at {place} is {edgepact.__version__}"
        mend = f"pip install --force-reinstall {name}"
        return Finding(name="installation", state=MISSING, found=found, mend=mend)
    kind = "what a device needs" if name == DEVICE else "the whole"
    return Finding(name="installation", state=GOOD, found=f"{name} {version}, {kind}, at {place}")


def _python(own: Distribution | None) -> Finding:
    wanted = "" if own is None else own.metadata["Requires-Python"] or ""
    version = platform.python_version()
    found = (
        f"{platform.python_implementation()} {version} on {platform.system()} {platform.machine()}"
    )
    if SpecifierSet(wanted).contains(version, prereleases=True):
        return Finding(name="Python", state=GOOD, found=found)
    mend = f"make an environment with a Python {wanted}"
    return Finding(name="Python", state=MISSING, found=found, mend=mend)


def _base(own: Distribution | None) -> tuple[Finding, ...]:
    """What the distribution requires itself."""
    if own is None:
        return ()
    missing = lacking(own)
    if not missing:
        return (Finding(name="requirements", state=GOOD, found="all there, in versions that do"),)
    mend = f"pip install --upgrade {own.metadata['Name']}"
    return (Finding(name="requirements", state=MISSING, found=", ".join(missing), mend=mend),)


def _computing() -> Finding:
    """Whether JAX can be loaded, which packages alone do not tell: a processor may be too old for
    it, a library of the system missing. A process of its own does it, as it may be ended for it."""
    mend = (
        f"pip install --force-reinstall {WHOLE}; where the processor is too old for jaxlib, take "
        "another machine"
    )
    try:
        tried = subprocess.run(
            [sys.executable, "-P", "-c", COMPUTES],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=COMPUTES_S_MAX,
            check=False,
        )
    except subprocess.TimeoutExpired:
        found = f"not loaded within {COMPUTES_S_MAX:g} s"
        return Finding(name="JAX", state=MISSING, found=found, mend=mend)
    except OSError as error:
        found = f"no process can be started: {error.strerror or error}"
        return Finding(name="JAX", state=MISSING, found=found, mend="run it as a user who may")
    if tried.returncode == 0:
        return Finding(name="JAX", state=GOOD, found=tried.stdout.strip())
    said = tried.stderr.strip().splitlines() or [f"ended with status {tried.returncode}"]
    return Finding(name="JAX", state=MISSING, found=f"cannot be loaded: {said[-1]}", mend=mend)


def _folders(*, device_alone: bool) -> tuple[Finding, ...]:
    """Whether results can be written, where a run would write them, and a ledger kept there."""
    here = Path(".")
    try:
        here = Path.cwd()
        with tempfile.TemporaryDirectory(prefix=".edgepact-doctor-", dir=here) as made:
            ledger = _ledger(Path(made))
            free = shutil.disk_usage(made).free
    except OSError as error:
        found = f"cannot be written: {here}, {error.strerror or error}"
        mend = "cd to a folder of yours, or name one with --out"
        return (Finding(name="working folder", state=MISSING, found=found, mend=mend),)
    space = f"can be written: {here}, {free / 1e9:.1f} GB free"
    folder = Finding(name="working folder", state=GOOD, found=space)
    if free < FREE_BYTES_MIN:
        mend = f"make {FREE_BYTES_MIN / 1e6:.0f} MB free, or name a folder elsewhere with --out"
        folder = Finding(name="working folder", state=MISSING, found=space, mend=mend)
    if device_alone:
        return (folder,)
    run = f"the next `edgepact run` writes {free_folder('edgepact-run-0')}"
    return (folder, Finding(name="folder of results", state=GOOD, found=run), ledger)


def _ledger(folder: Path) -> Finding:
    """Network file systems lack the locks that SQLite needs."""
    try:
        import sqlite3
    except ImportError as error:  # a Python that was built without it
        mend = "install a Python with SQLite, or keep the ledger in PostgreSQL (--ledger)"
        return Finding(name="ledger", state=MISSING, found=f"no SQLite: {error}", mend=mend)
    try:
        with closing(sqlite3.connect(folder / "ledger.db")) as database:
            (mode,) = database.execute("PRAGMA journal_mode=WAL").fetchone()
            database.execute("CREATE TABLE tried (one INTEGER)")
    except sqlite3.Error as error:
        mode = str(error)
    if mode == "wal":
        return Finding(name="ledger", state=GOOD, found="SQLite can keep one in this folder")
    mend = "keep it on a local disk (--ledger), or in PostgreSQL"
    return Finding(name="ledger", state=MISSING, found=f"SQLite here: {mode}", mend=mend)


def _port(port: int) -> Finding:
    """A run lets the system choose its port; `serve` has a fixed one, which may be taken."""
    try:
        _listen(0)
    except OSError as error:
        found = f"no port of 127.0.0.1 can be opened: {error.strerror or error}"
        mend = "allow connections to 127.0.0.1: server and devices speak over it"
        return Finding(name="port", state=MISSING, found=found, mend=mend)
    try:
        _listen(port)
    except OSError as error:
        found = f"not to be had: {port} of 127.0.0.1, {error.strerror or error}; others are"
        mend = "`edgepact serve --port` with another one, or 0 for any"
        return Finding(name="port", state=NOTE, found=found, mend=mend)
    return Finding(name="port", state=GOOD, found=f"free: {port} of 127.0.0.1")


def _listen(port: int) -> None:
    """Listens on a port for a moment."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tried:
        if os.name == "posix":  # as a server does, after one that has just ended
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        tried.bind(("127.0.0.1", port))
        tried.listen()


def _threads() -> Finding:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    said = [f"{name}={os.environ[name]}" for name in THREADS if os.environ.get(name)]
    found = f"cores for this process: {cores}" + "".join(f", {each}" for each in said)
    if len(said) == len(THREADS) or cores == 1:
        return Finding(name="threads", state=GOOD, found=found)
    # Six processes of a run with as many threads each as there are cores wait for one another.
    mend = f"for several processes on one machine: export {' '.join(f'{n}=1' for n in THREADS)}"
    return Finding(name="threads", state=NOTE, found=found, mend=mend)


def _ability(
    purpose: Purpose,
    own: Distribution | None,
    lacks: dict[str, tuple[str, ...]],
    *,
    device_alone: bool,
) -> Finding:
    """Whether a purpose can be served here."""
    if device_alone and not purpose.on_device:
        mend = f"pip uninstall {DEVICE}, then pip install {WHOLE}"
        found = f"{purpose.about}: not part of the install of a device"
        return Finding(name=purpose.name, state=MISSING, found=found, mend=mend)
    name = WHOLE if own is None else own.metadata["Name"]
    missing: list[str] = []
    mends: list[str] = []
    for extra in purpose.extras:
        if own is None or extra not in lacks or lacks[extra]:
            missing += lacks.get(extra) or [f"the extra {extra}"]
            mends.append(f"pip install '{name}[{extra}]'")
    absent = [each for each in purpose.beside if not each.there]
    missing += [each.name for each in absent if not each.or_else]
    mends += [each.mend for each in absent if not each.or_else]
    unneeded = [each for each in absent if each.or_else]
    mends += [f"{each.mend} (or else: {each.or_else})" for each in unneeded]
    without = [*missing, *(each.name for each in unneeded)]
    return Finding(
        name=purpose.name,
        state=MISSING if missing else NOTE if unneeded else GOOD,
        found=purpose.about + (f"; without {', '.join(without)}" if without else ""),
        mend="; ".join(mends),
    )


def _extra(
    name: str, own: Distribution, missing: Sequence[str], every: tuple[Purpose, ...]
) -> Finding:
    """An extra that is not there is nothing to mend until somebody wants what it is for."""
    users = [each.about for each in every if name in each.extras]
    about = "; ".join(users) or CONTRIBUTORS.get(name, "")
    if not missing:
        return Finding(name=name, state=GOOD, found=about)
    mend = f"pip install '{own.metadata['Name']}[{name}]'"
    return Finding(name=name, state="absent", found=about, mend=mend)


def _sheet(title: str, head: str, findings: tuple[Finding, ...], *told: str) -> Sheet:
    rows = tuple((each.name, each.state, each.found) for each in findings)
    mends = [f"{each.name}: {each.mend}" for each in findings if each.mend]
    return Sheet(title=title, head=(head, "state", "found"), rows=rows, notes=(*mends, *told))
