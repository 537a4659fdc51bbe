"""A ledger told to people: balances, payments, strikes, and whether the books balance."""

from collections.abc import Mapping
from dataclasses import dataclass

from edgepact.credits import in_credits
from edgepact.framework import Json, Sheet
from edgepact.market.ledger import Ledger, Member, Payment, RoundRecord, Sale
from edgepact.tables import Shown

ROUNDS_SHOWN = 20
"""Last rounds that a table shows."""

DEVICES_SHOWN = 8
"""Most devices that have a column of their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement(Shown):
    """What a ledger holds, in integer micro-credits.

    Attributes:
        balances: by account.
        debits, credits: what has left accounts, and what others hold of it.
        unbalanced: accounts whose balance is not what their transfers add up to.
        jobs: number of jobs by state: pending, paid, forfeit, expired.
        audited: number of jobs that were picked for an audit.
        paid: by round and device.
        members: enrolled devices, with their strikes.
        payments: every paid job; empty in an overview.
        rounds: as offered, committed to and closed; empty in an overview.
        sales: what was delivered for buyers; empty in an overview.
    """

    balances: dict[str, int]
    debits: int
    credits: int
    unbalanced: tuple[str, ...]
    jobs: dict[str, int]
    audited: int
    paid: Mapping[int, Mapping[str, int]]
    members: tuple[Member, ...]
    payments: tuple[Payment, ...] = ()
    rounds: tuple[RoundRecord, ...] = ()
    sales: tuple[Sale, ...] = ()

    @property
    def balanced(self) -> bool:
        """Whether every account holds what its transfers add up to, and all accounts zero."""
        return not self.unbalanced and self.debits == self.credits

    def paid_by_round(self) -> dict[int, dict[str, int]]:
        """Micro-credits by round and device."""
        return {number: dict(devices) for number, devices in self.paid.items()}

    def to_dict(self) -> dict[str, Json]:
        """For `edgepact ledger --json`."""
        return {
            "balances_microcredits": self.balances,
            "debits_microcredits": self.debits,
            "credits_microcredits": self.credits,
            "balanced": self.balanced,
            "unbalanced_accounts": list(self.unbalanced),
            "jobs": self.jobs,
            "audited_jobs": self.audited,
            "devices": {
                each.name: {
                    "paid_microcredits": each.paid_microcredits,
                    "pending_microcredits": each.pending_microcredits,
                    "strikes": each.strikes,
                    "excluded": each.excluded,
                    "revoked": each.revoked,
                }
                for each in self.members
            },
            "paid_microcredits_by_round": self.paid_by_round(),
        }

    @property
    def sheets(self) -> tuple[Sheet, ...]:
        """Balances, devices, and payments by round."""
        verdict = "balance" if self.balanced else "DO NOT BALANCE"
        wrong = (f"Not what their transfers add up to: {', '.join(self.unbalanced)}.",)
        accounts = Sheet(
            title="Accounts",
            head=("account", "credits"),
            rows=tuple(
                (account, _credits(balance)) for account, balance in sorted(self.balances.items())
            ),
            notes=(
                f"The books {verdict}; {_jobs_told(self.jobs)}; {self.audited} audited.",
                *(wrong if self.unbalanced else ()),
                *(() if self.paid else ("No payments yet.",)),
            ),
        )
        told = (accounts, *self._device_sheet(), *self._round_sheet())
        return told

    def _device_sheet(self) -> tuple[Sheet, ...]:
        if not any(each.strikes or each.excluded or each.revoked for each in self.members):
            return ()
        rows = (
            (
                each.name,
                _credits(each.paid_microcredits),
                _credits(each.pending_microcredits),
                str(each.strikes),
                "excluded" if each.excluded else "revoked" if each.revoked else "",
            )
            for each in self.members
        )
        head = ("device", "paid", "pending", "strikes", "")
        return (Sheet(title="Devices, credits", head=head, rows=tuple(rows)),)

    def _round_sheet(self) -> tuple[Sheet, ...]:
        if not self.paid:
            return ()
        last = sorted(self.paid.items())[-ROUNDS_SHOWN:]
        devices = sorted({name for _, paid in last for name in paid})
        few = len(devices) <= DEVICES_SHOWN
        rows = (
            (
                str(number),
                *(
                    [_credits(paid.get(name, 0)) for name in devices]
                    if few
                    else [str(len(paid)), _credits(sum(paid.values()))]
                ),
            )
            for number, paid in last
        )
        left = len(self.paid) - len(last)
        return (
            Sheet(
                title="Paid by round, credits",
                head=("round", *(devices if few else ("devices", "all of them"))),
                rows=tuple(rows),
                notes=(f"{left} earlier rounds: --json or `edgepact ledger export`.",)
                if left
                else (),
            ),
        )


def read_statement(url: str, *, overview: bool = False) -> Statement:
    """Reads a ledger that exists.

    Args:
        url: where it is.
        overview: whether single payments and rounds are left out: there may be millions.

    Raises:
        InputError: there is none at this URL.
    """
    with Ledger(url, read_only=True) as books, books.one_state():
        debits, credits = books.totals()
        return Statement(
            balances=books.balances(),
            debits=debits,
            credits=credits,
            unbalanced=tuple(books.unbalanced()),
            jobs=books.jobs_by_state(),
            audited=books.audited(),
            paid=books.paid_by_round(),
            members=tuple(books.members()),
            payments=() if overview else tuple(books.payments()),
            rounds=() if overview else tuple(books.rounds()),
            sales=() if overview else tuple(books.sales()),
        )


def _credits(microcredits: int) -> str:
    return f"{in_credits(microcredits):.6f}"


def _jobs_told(jobs: Mapping[str, int]) -> str:
    told = ", ".join(f"{count} {state}" for state, count in sorted(jobs.items()))
    return f"jobs: {told or 'none'}"
