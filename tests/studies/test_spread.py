"""Processes of a study end with it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.market.harness import PATIENCE_S, wait_until

pytestmark = [
    pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs Linux"),
    pytest.mark.usefixtures("ctrl_c"),
]

ROOT = Path(__file__).resolve().parents[2]

NAPPING = """
import sys
from edgepact.studies.spread import spread
from tests.studies.napping import nap

print("begun", flush=True)
try:
    spread(nap, [sys.argv[1]] * 4, workers=2)
except KeyboardInterrupt:
    sys.exit(130)
"""


def running(process: str) -> bool:
    """Whether there is such a process, and it is no zombie that nobody has asked after."""
    try:
        return Path("/proc", process, "cmdline").read_bytes() != b""
    except (FileNotFoundError, ProcessLookupError):
        return False


@contextmanager
def napping(folder: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", NAPPING, str(folder)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as study:
        try:
            assert study.stdout is not None
            assert study.stdout.readline() == "begun\n"
            yield study
        finally:
            if study.poll() is None:
                os.killpg(study.pid, signal.SIGKILL)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_they_end_when_it_is_ended(tmp_path: Path, how: signal.Signals) -> None:
    with napping(tmp_path) as study:
        wait_until(lambda: len(list(tmp_path.iterdir())) == 2)
        study.send_signal(how)
        assert study.wait(PATIENCE_S) == -how
        wait_until(lambda: not any(running(each.name) for each in tmp_path.iterdir()))


@pytest.mark.parametrize("begun", [0, 2])
def test_an_interrupt_ends_them_in_silence(tmp_path: Path, begun: int) -> None:
    """From the keyboard it goes to all of them; some may only just have been started."""
    with napping(tmp_path) as study:
        wait_until(lambda: len(list(tmp_path.iterdir())) == begun)
        if not begun:
            # A process more than the study itself: one of those that share its work.
            wait_until(lambda: len(_children(study.pid)) > 1)
        os.killpg(study.pid, signal.SIGINT)
        _, said = study.communicate(timeout=PATIENCE_S)
        assert (study.returncode, said) == (130, "")


def test_an_interrupt_of_it_alone_ends_the_others(tmp_path: Path) -> None:
    with napping(tmp_path) as study:
        wait_until(lambda: len(list(tmp_path.iterdir())) == 2)
        study.send_signal(signal.SIGINT)
        _, said = study.communicate(timeout=PATIENCE_S)
        assert (study.returncode, said) == (130, "")
        assert not any(running(each.name) for each in tmp_path.iterdir())


def _children(process: int) -> list[str]:
    return Path("/proc", str(process), "task", str(process), "children").read_text().split()
