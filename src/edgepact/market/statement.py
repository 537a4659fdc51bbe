"""A ledger told to people: balances, payments, and whether the books balance."""

from dataclasses import dataclass

from edgepact.credits import in_credits
from edgepact.framework import Json, Sheet
from edgepact.market.ledger import Ledger, Payment, RoundRecord
from edgepact.tables import Shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement(Shown):
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

    def to_dict(self) -> dict[str, Json]:
        """For `edgepact ledger --json`."""
        return {
            "balances_microcredits": self.balances,
            "debits_microcredits": self.debits,
            "credits_microcredits": self.credits,
            "balanced": self.balanced,
            "jobs": self.jobs,
            "paid_microcredits_by_round": self.paid_by_round(),
        }

    @property
    def sheets(self) -> tuple[Sheet, ...]:
        """Balances, and payments by round."""
        verdict = "balance" if self.balanced else "DO NOT BALANCE"
        accounts = Sheet(
            title="Accounts",
            head=("account", "credits"),
            rows=tuple(
                (account, f"{in_credits(balance):.6f}")
                for account, balance in sorted(self.balances.items())
            ),
            notes=(
                f"The books {verdict}; {_jobs_told(self.jobs)}.",
                *(() if self.payments else ("No payments yet.",)),
            ),
        )
        if not self.payments:
            return (accounts,)
        devices = sorted({payment.device for payment in self.payments})
        rounds = Sheet(
            title="Paid by round, credits",
            head=("round", *devices),
            rows=tuple(
                (f"{number}", *(f"{in_credits(paid.get(name, 0)):.6f}" for name in devices))
                for number, paid in sorted(self.paid_by_round().items())
            ),
        )
        return accounts, rounds


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
