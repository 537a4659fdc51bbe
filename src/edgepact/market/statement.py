"""A ledger told to people: balances, payments, and whether the books balance."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgepact.credits import in_credits
from edgepact.market.ledger import Ledger, Payment, RoundRecord

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What a ledger holds, in integer micro-credits.

    Attributes:
        balances: by account.
        debits, credits: sums over all entries; equal unless the books are broken.
        jobs: number of jobs by state.
        payments: every paid job.
        rounds: as offered, committed to and closed.
    """

    balances: dict[str, int]
    debits: int
    credits: int
    jobs: dict[str, int]
    payments: tuple[Payment, ...]
    rounds: tuple[RoundRecord, ...]

    @property
    def balanced(self) -> bool:
        """Whether debits equal credits."""
        return self.debits == self.credits

    def paid_by_round(self) -> dict[int, dict[str, int]]:
        """Micro-credits by round and device."""
        rounds: dict[int, dict[str, int]] = {}
        for payment in self.payments:
            devices = rounds.setdefault(payment.round, {})
            devices[payment.device] = devices.get(payment.device, 0) + payment.microcredits
        return rounds

    def as_json(self) -> dict[str, Any]:
        """For `edgepact ledger --json`."""
        return {
            "balances_microcredits": self.balances,
            "debits_microcredits": self.debits,
            "credits_microcredits": self.credits,
            "balanced": self.balanced,
            "jobs": self.jobs,
            "paid_microcredits_by_round": self.paid_by_round(),
        }

    def tables(self) -> "list[Table | str]":
        """Balances, and payments by round."""
        from rich.table import Table

        verdict = "balance" if self.balanced else "DO NOT BALANCE"
        accounts = Table(title="Accounts", title_justify="left")
        accounts.add_column("account")
        accounts.add_column("credits", justify="right")
        for account, balance in sorted(self.balances.items()):
            accounts.add_row(account, f"{in_credits(balance):.6f}")
        told = f"The books {verdict}; {_jobs_told(self.jobs)}."
        if not self.payments:
            return [accounts, told, "No payments yet."]
        rounds = Table(title="Paid by round, credits", title_justify="left")
        rounds.add_column("round", justify="right")
        devices = sorted({payment.device for payment in self.payments})
        for name in devices:
            rounds.add_column(name, justify="right")
        for number, paid in sorted(self.paid_by_round().items()):
            rounds.add_row(str(number), *(f"{in_credits(paid.get(n, 0)):.6f}" for n in devices))
        return [accounts, told, rounds]


def read_statement(url: str) -> Statement:
    """Reads a ledger that exists.

    Raises:
        InputError: there is none at this URL.
    """
    with Ledger(url, create=False) as books:
        debits, credits = books.totals()
        return Statement(
            balances=books.balances(),
            debits=debits,
            credits=credits,
            jobs=books.jobs_by_state(),
            payments=tuple(books.payments()),
            rounds=tuple(books.rounds()),
        )


def _jobs_told(jobs: dict[str, int]) -> str:
    told = ", ".join(f"{count} {state}" for state, count in sorted(jobs.items()))
    return f"jobs: {told or 'none'}"
