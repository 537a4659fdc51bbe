"""The market's books, and the records that give them their meaning.

`double_entry` moves amounts between accounts and knows nothing of work. `records` keeps devices,
rounds, answers, assignments and pieces. `database` opens the database and keeps transactions
whole. `Ledger` joins them: what is recorded and what is paid for it stand in one transaction.
"""

from edgepact.market.ledger.database import LedgerError
from edgepact.market.ledger.double_entry import Entry
from edgepact.market.ledger.ledger import SERVER, Ledger, account_of
from edgepact.market.ledger.records import (
    Payment,
    Piece,
    PieceState,
    RoundRecord,
    Settlement,
    Work,
    token_hash,
)

__all__ = [
    "SERVER",
    "Entry",
    "Ledger",
    "LedgerError",
    "Payment",
    "Piece",
    "PieceState",
    "RoundRecord",
    "Settlement",
    "Work",
    "account_of",
    "token_hash",
]
