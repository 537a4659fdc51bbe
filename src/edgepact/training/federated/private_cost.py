r"""What work costs a client. It lives where the client lives; no message has a field for it."""

from dataclasses import dataclass

from edgepact.credits import MICRO
from edgepact.errors import InputError, shown
from edgepact.mechanisms.contract.quality import COST_FORMS, CostForm, cost_of


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivateCost:
    r"""What an amount costs a client, $\psi\,c(\text{amount})$ and a fixed part.

    Attributes:
        psi: credits per unit of c: of a rate where rates are priced, of an epoch where local work
            is.
        form: of c.
        participation_credits: for taking part at all.

    Raises:
        InputError: a value that cannot be.
    """

    psi: float = 0.0
    form: CostForm = "linear"
    participation_credits: float = 0.0

    def __post_init__(self) -> None:
        for name in ("psi", "participation_credits"):
            if not 0.0 <= getattr(self, name) < 1e9:
                raise InputError("client", name, "0 to 1e9", getattr(self, name))
        if self.form not in COST_FORMS:
            raise InputError("client", "form", f"one of {', '.join(COST_FORMS)}", shown(self.form))

    def microcredits(self, amount: float) -> float:
        """Cost of an update at an amount."""
        return MICRO * (self.psi * float(cost_of(self.form, amount)) + self.participation_credits)
