"""The market's books, and the records that give them their meaning.

`double_entry` moves amounts between accounts and knows nothing of work. `tables` are what is kept
beside it, read and written by `member_rows`, `round_rows`, `piece_rows` and `sales`, and told as
`records`. `database` opens the database and keeps transactions whole. `Ledger` joins them: what is
recorded and what is paid for it stand in one transaction.
"""

from edgepact.market.ledger.accounts import FORFEITED, SERVER, account_of, buyer_of, pending_of
from edgepact.market.ledger.database import LedgerError
from edgepact.market.ledger.delivery import NoBudget, RepeatedWork
from edgepact.market.ledger.double_entry import Entry, Head, Seal, Transfer
from edgepact.market.ledger.ledger import (
    LEASE_S,
    LedByAnother,
    Ledger,
    Told,
)
from edgepact.market.ledger.member_rows import token_hash
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
