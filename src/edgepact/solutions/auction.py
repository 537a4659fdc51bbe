"""An auction, solved: who wins and is paid what for the bids in hand, and the audit of the rule."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from edgepact.errors import InputError
from edgepact.fields import check_kind
from edgepact.files.auction import AuctionFile, auction_of
from edgepact.framework import Document, Json, Sheet
from edgepact.mechanisms.auction.audit import AuctionAudit, audit_auction
from edgepact.tables import NOBODY_LOSES, Shown, audit_sheet, figure, yes

BIDDERS_SHOWN = 20
"""Most bidders with a row; the JSON has all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuctionSolution(Shown):
    """The award of an auction; bidders in the order of the file.

    Attributes:
        names: of the bidders.
        bids: credits.
        wins: who won.
        payments: to each bidder, or by each where the rule sells; 0 for losers; credits.
        unit_price: credits a unit of value, of rules that have one price.
        sells: whether bidders pay.
        audit: whether the promises of the rule are kept.
    """

    names: tuple[str, ...]
    bids: Float[np.ndarray, " bidders"]
    wins: Bool[np.ndarray, " bidders"]
    payments: Float[np.ndarray, " bidders"]
    unit_price: float | None
    sells: bool
    audit: AuctionAudit

    @property
    def winners(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(self.names[at] for at in np.flatnonzero(self.wins))

    @property
    def broken(self) -> tuple[str, ...]:
        """Promises that the award does not keep."""
        return self.audit.broken

    def to_dict(self) -> dict[str, Json]:
        """For `edgepact solve --json`."""
        answer: dict[str, Json] = {
            "winners": list(self.winners),
            "payments": dict(zip(self.names, self.payments.tolist(), strict=True)),
        }
        if self.unit_price is not None:
            answer["unit_price"] = self.unit_price
        audit = self.audit
        answer["audit"] = audit.as_json() | {
            "monotone": audit.monotone,
            "lies_tried": audit.lies_tried,
            "bidders_searched": audit.bidders_searched,
        }
        return answer | {
            "bids": dict(zip(self.names, self.bids.tolist(), strict=True)),
            "total_payments": float(np.sum(self.payments)),
            "gains": dict(zip(self.names, self.gains.tolist(), strict=True)),
        }

    @property
    def gains(self) -> Float[np.ndarray, " bidders"]:
        """What each winner is paid beyond its bid, or pays below it; 0 for losers; credits."""
        sign = -1.0 if self.sells else 1.0
        return np.where(self.wins, sign * (self.payments - self.bids), 0.0)

    @property
    def sheets(self) -> tuple[Sheet, ...]:
        """The bidders, or the first winners of many; the audit."""
        return self._bidders(), self._audit()

    def _bidders(self) -> Sheet:
        winners, few = np.flatnonzero(self.wins), len(self.names) <= BIDDERS_SHOWN
        shown = np.arange(len(self.names)) if few else winners[:BIDDERS_SHOWN]
        title = (
            f"{len(winners)} of {len(self.names)} bidders win and "
            f"{'pay' if self.sells else 'are paid'} {float(np.sum(self.payments)):.6g} credits"
        )
        if self.unit_price is not None and len(winners):
            title += f", {self.unit_price:.6g} a unit of value"
        return Sheet(
            title=title,
            head=(
                *("bidder", "bid", "wins"),
                *(("pays", "below its bid") if self.sells else ("is paid", "beyond its bid")),
            ),
            rows=tuple(
                (
                    self.names[at],
                    f"{self.bids[at]:.4g}",
                    "yes" if self.wins[at] else "",
                    f"{self.payments[at]:.4f}",
                    f"{self.gains[at]:.4f}",
                )
                for at in shown
            ),
            notes=() if few else (_first(len(shown), len(winners), len(self.names)),),
        )

    def _audit(self) -> Sheet:
        audit = self.audit
        limit = "cover what is sold" if self.sells else "stay within the budget or the value bought"
        lies = f"{audit.lies_tried:,} lies of {audit.bidders_searched} bidders"
        return audit_sheet(
            (NOBODY_LOSES, yes(audit.individually_rational)),
            (f"payments {limit}", yes(audit.budget_balanced)),
            ("a better bid never loses what a worse one wins", yes(audit.monotone)),
            (
                f"largest gain from lying ({lies})",
                f"{figure(audit.largest_gain_from_lying, 1.0, 4)} credits",
            ),
        )


def _first(shown: int, winners: int, bidders: int) -> str:
    return f"Shown are {shown} of {winners} winners, of {bidders} bidders; --json has each."


def solve_auction(read: AuctionFile) -> AuctionSolution:
    """Who wins, for which payments, audited with the bids taken for the truth.

    Raises:
        InputError: payments are not finite in float64.
    """
    with np.errstate(all="ignore"):  # what is not finite is refused below, in words
        award = read.auction.award(read.bids)
    if not np.isfinite(award.payments).all():
        expected = "numbers whose sizes lie closer together"
        found = "an auction without finite payments in float64"
        raise InputError(read.source, "", expected, found)
    return AuctionSolution(
        names=tuple(read.names),
        bids=read.bids,
        wins=award.wins,
        payments=award.payments,
        unit_price=None if award.unit_price is None else float(award.unit_price),
        sells=read.auction.sells,
        audit=audit_auction(read.auction, read.bids),
    )


@dataclass(frozen=True, slots=True)
class AuctionMechanism:
    """The mechanism as a part: bids in, winners and payments out."""

    name: str = "auction"
    about: str = "Bidders say what they want, and a rule says who wins and is paid what."

    def read(self, source: Path, document: Document) -> AuctionFile:
        """The auction that a file states, and its bids."""
        return auction_of(source, document)

    def solve(self, terms: Any) -> AuctionSolution:
        """The award and its audit.

        Raises:
            InputError: these are no terms of an auction.
        """
        check_kind("solve", "terms", terms, AuctionFile, "an auction: an AuctionFile")
        return solve_auction(terms)


AUCTION = AuctionMechanism()
