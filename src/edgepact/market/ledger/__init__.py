"""The market's books, and the records that give them their meaning.

`double_entry` moves amounts between accounts and knows nothing of work. `records` keeps devices,
rounds, answers, assignments and pieces. `database` opens the database and keeps transactions
whole. `Ledger` joins them: what is recorded and what is paid for it stand in one transaction.
"""

from edgepact.market.ledger.accounts import FORFEITED, SERVER, account_of, buyer_of, pending_of
from edgepact.market.ledger.database import LedgerError
from edgepact.market.ledger.double_entry import Entry, Head, Seal, Transfer
from edgepact.market.ledger.ledger import (
    LEASE_S,
    LedByAnother,
    Ledger,
    NoBudget,
    RepeatedWork,
    Told,
)
from edgepact.market.ledger.records import (
    Evidence,
    Limits,
    Member,
    OpenAudit,
    Payment,
    Pending,
    Piece,
    PieceState,
    RoundRecord,
    Sale,
    Settlement,
    Stage,
    Token,
    Work,
    token_hash,
)

__all__ = [
    "FORFEITED",
    "LEASE_S",
    "SERVER",
    "Entry",
    "Evidence",
    "Head",
    "LedByAnother",
    "Ledger",
    "LedgerError",
    "Limits",
    "Member",
    "NoBudget",
    "OpenAudit",
    "Payment",
    "Pending",
    "Piece",
    "PieceState",
    "RepeatedWork",
    "RoundRecord",
    "Sale",
    "Seal",
    "Settlement",
    "Stage",
    "Token",
    "Told",
    "Transfer",
    "Work",
    "account_of",
    "buyer_of",
    "pending_of",
    "token_hash",
]
