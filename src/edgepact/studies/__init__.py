"""One file per figure or benchmark, each headed by its Config."""

import os
import sys
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType

from edgepact.compiled import VARIABLE, keep_compiled
from edgepact.errors import InputError
from edgepact.studies.asked import Asked, check_sizes, sized
from edgepact.studies.durations import how_long, reckoned

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""Variables that numerical libraries read when they are loaded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """A study by the module that holds it, which is loaded when it is needed: it loads JAX.

    Attributes:
        module: of this package, with `Config`, `config_for`, `run` and, where it trains something,
            `train`; and `seconds`, where it is recorded how long it takes.
        one_thread: whether it consists of small sums, which threads slow down, or compares times.
        times_compiling: whether seconds that it reports include compiling, which then must not
            depend on what was run before.
        spreads: whether its work can be shared among processes.
        draws_again: whether it can draw from the data of a study that was run before.
    """

    module: str
    one_thread: bool = False
    times_compiling: bool = False
    spreads: bool = False
    draws_again: bool = False

    def load(self) -> ModuleType:
        """The module, in a process that is prepared for it."""
        if self.one_thread:
            os.environ.update(dict.fromkeys(THREADS, "1"))
        if self.times_compiling:
            os.environ[VARIABLE] = "off"
        keep_compiled()
        return import_module(f"edgepact.studies.{self.module}")

    def check(self, name: str, asked: Asked) -> None:
        """Refuses data, processes and sizes that it makes nothing of.

        Args:
            name: that it is called by.
            asked: what was asked for.

        Raises:
            InputError: names the option, and what can be had instead.
        """
        if asked.data is not None and not self.draws_again:
            able = ", ".join(each for each, of in STUDIES.items() if of.draws_again)
            raise InputError("study", "--data", f"only with {able}", f"{asked.data}")
        if asked.workers > 1 and not self.spreads:
            able = ", ".join(each for each, of in STUDIES.items() if of.spreads)
            expected = f"1, or one of the studies {able}"
            raise InputError("study", "--workers", expected, f"{asked.workers}")
        if asked.sizes:
            check_sizes(name, self.load().Config, asked)

    def __call__(self, folder: Path, asked: Asked) -> None:
        """Runs it; results go into the folder. How long it takes is told on standard error."""
        module = self.load()
        if asked.data is None:
            config = sized(module.config_for(asked.smoke), asked)
            told = how_long(self.module.replace("_", "-"), reckoned(module, config), asked)
            print(told, file=sys.stderr, flush=True)
        module.run(folder, asked)

    def train(self, folder: Path, smoke: bool) -> None:
        """Trains what it compares, into the folder."""
        self.load().train(folder, smoke)


STUDIES: dict[str, Study] = {
    "fig4": Study(module="fig4", times_compiling=True, draws_again=True),
    "fig5": Study(module="fig5", times_compiling=True, draws_again=True),
    "quoting": Study(module="quoting", one_thread=True, spreads=True),
    "robustness": Study(module="robustness", one_thread=True, spreads=True),
    "dynamics": Study(module="dynamics", one_thread=True, spreads=True),
    "ablation": Study(module="ablation", one_thread=True, spreads=True),
    "contract": Study(module="contract", one_thread=True, spreads=True),
    "speed": Study(module="speed", one_thread=True),
    "selection": Study(module="selection", spreads=True),
    "auctions": Study(module="auctions", one_thread=True, spreads=True),
    "cheating": Study(module="cheating", one_thread=True),
    "capacity": Study(module="capacity", one_thread=True),
    "pictures": Study(module="pictures", one_thread=True),
    "best-of": Study(module="best_of", one_thread=True),
}
"""What `edgepact study NAME` runs."""

TRAININGS = ("quoting", "robustness", "ablation", "contract", "auctions")
"""Studies for which `edgepact study NAME --train` trains policies first, into the folder."""
