"""The pact of the main job, with the machinery that plays it handed in."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgepact.efficiency.profile import Profile
from edgepact.errors import InputError
from edgepact.files.stackelberg import GameFile
from edgepact.live.findings import Findings
from edgepact.live.run import RunConfig, expect_playable, measure_market, play_market
from edgepact.pact import Json, Run, Sheet
from edgepact.pacts.partition_stackelberg import PartitionStackelberg, PartitionTerms

FIELDS = {"--model": "efficiency.model", "--images-from": "job.images_from"}
"""Where a scenario says what are options of the main job alone."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MarketPlayed:
    """What came of a live market.

    Attributes:
        findings: all of it.
        solver: whose prices were posted.
    """

    findings: Findings
    solver: str

    @property
    def decided(self) -> tuple[Sheet, ...]:
        """The prices of all rounds."""
        findings = self.findings
        rows = [
            (
                f"{each.number}",
                f"{each.price:.5g}",
                f"{sum(each.layers.values())}",
                f"{each.utility:.5g}",
                f"{each.share:.2%}",
            )
            for each in findings.rounds
        ]
        best = findings.best
        layers = f"{int(np.sum(best.layers))}"
        utility = f"{float(best.server_utility):.5g}"
        rows.append(("best", f"{float(best.price):.5g}", layers, utility, f"{1.0:.2%}"))
        return (
            Sheet(
                title=f"{self.solver}: prices posted in live rounds",
                head=(
                    "round",
                    "price",
                    "layers of all",
                    "server's utility",
                    "share of the optimum",
                ),
                rows=tuple(rows),
                notes=("A share of 0 is the mean of random prices.",),
            ),
        )

    @property
    def sheets(self) -> tuple[Sheet, ...]:
        """One table."""
        findings = self.findings
        rows = [
            ("images classified", f"{len(findings.images)}"),
            ("same class as the unsplit model", f"{findings.agreement:.2%}"),
            ("the server's computing saved", f"{findings.server_saved:.2%}"),
            ("bytes sent over JPEG's", f"{findings.bytes_ratio:.2f}"),
            ("jobs computed again before payment", f"{findings.audited}"),
            ("paid price times layers for each image", _yes(findings.paid_as_earned)),
            ("the books balance", _yes(findings.statement.balanced)),
        ]
        if findings.accuracy is not None:
            rows.insert(1, ("classified right", f"{findings.accuracy:.2%}"))
        return (
            Sheet(
                title="split inference by real processes",
                head=("figure", "value"),
                rows=tuple(rows),
            ),
        )

    def to_dict(self) -> dict[str, Json]:
        """As JSON."""
        findings = self.findings
        return {
            "images": len(findings.images),
            "agreement": findings.agreement,
            "accuracy": findings.accuracy,
            "server_saved": findings.server_saved,
            "bytes_ratio": findings.bytes_ratio,
            "audited": findings.audited,
            "paid_as_earned": findings.paid_as_earned,
            "books_balance": findings.statement.balanced,
            "rounds": [
                {
                    "price": each.price,
                    "layers": each.layers,
                    "server_utility": each.utility,
                    "share": each.share,
                }
                for each in findings.rounds
            ],
        }


class LiveMachinery:
    """Processes on this machine."""

    def expect_ready(self, terms: PartitionTerms, out: Path) -> None:
        """Refuses what cannot work before anything is written."""
        try:
            expect_playable(_config(terms, out))
        except InputError as error:
            if error.field not in FIELDS:
                raise
            field = FIELDS[error.field]
            raise InputError(terms.source, field, error.expected, error.found) from None

    def measure(self, terms: PartitionTerms, run: Run) -> tuple[Profile, GameFile]:
        """Profiles the model, and reads or draws the market."""
        return measure_market(_config(terms, run.out))

    def play(
        self, terms: PartitionTerms, profile: Profile, market: GameFile, run: Run
    ) -> MarketPlayed:
        """Plays the market."""
        config = _config(terms, run.out)
        findings, _ = play_market(config, profile, market, on_live=run.on_live)
        return MarketPlayed(findings=findings, solver=terms.solver)


def _config(terms: PartitionTerms, out: Path) -> RunConfig:
    return RunConfig(
        fleet=terms.fleet,
        devices=terms.devices,
        rounds=terms.rounds,
        images=terms.images,
        seed=terms.seed,
        model=terms.model,
        samples=terms.images_from,
        out=out,
        solver=terms.solver,
        smoke=terms.smoke,
    )


def _yes(fact: bool) -> str:
    return "yes" if fact else "NO"


PACT = PartitionStackelberg(machinery=LiveMachinery())
