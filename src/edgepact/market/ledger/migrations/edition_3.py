"""From edition 2 to 3: a chain of transfers instead of pairs of entries, pay that is pending,
strikes, tokens, verdicts, a lease.

What was paid stays paid. Payments that were held for an audit when the old server ended cannot be
audited any more, since what is audited is kept otherwise: they expire, unpaid. Open rounds close.
"""

import hashlib

import sqlalchemy as sa
from alembic.operations import Operations


def upgrade(op: Operations) -> None:
    """Takes the step."""
    op.create_table(
        "transfers",
        sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("reference", sa.String(160), nullable=False, unique=True),
        sa.Column("debit", sa.String(80), nullable=False),
        sa.Column("credit", sa.String(80), nullable=False),
        sa.Column("microcredits", sa.BigInteger, nullable=False),
        sa.Column("about", sa.LargeBinary(32), nullable=True),
        sa.Column("hash", sa.LargeBinary(32), nullable=False),
        sa.CheckConstraint("microcredits > 0 and debit <> credit"),
    )
    op.create_table(
        "accounts",
        sa.Column("account", sa.String(80), primary_key=True),
        sa.Column("balance_microcredits", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "head",
        sa.Column("one", sa.Integer, sa.CheckConstraint("one = 1"), primary_key=True),
        sa.Column("id", sa.BigInteger, nullable=False),
        sa.Column("hash", sa.LargeBinary(32), nullable=False),
    )
    op.create_table(
        "tokens",
        sa.Column("hash", sa.String(64), primary_key=True),
        sa.Column("label", sa.String(64), nullable=False),
        sa.Column("issued_s", sa.Float, nullable=False),
        sa.Column("expires_s", sa.Float, nullable=True),
        sa.Column("revoked", sa.Boolean, nullable=False),
    )
    op.create_table(
        "lease",
        sa.Column("one", sa.Integer, sa.CheckConstraint("one = 1"), primary_key=True),
        sa.Column("holder", sa.String(128), nullable=False),
        sa.Column("fence", sa.BigInteger, nullable=False),
        sa.Column("until_s", sa.Float, nullable=False),
    )
    op.create_table(
        "verdicts",
        sa.Column("round", sa.BigInteger, sa.ForeignKey("rounds.number"), primary_key=True),
        sa.Column("device", sa.String(64), sa.ForeignKey("devices.name"), primary_key=True),
        sa.Column("told", sa.Text, nullable=False),
        sa.Column("signature", sa.String(128), nullable=False),
    )
    # Columns are added in place: SQLite would refuse to replace tables that others refer to.
    zero = sa.text("0")
    op.add_column("devices", sa.Column("strikes", sa.Integer, nullable=False, server_default=zero))
    for name in ("excluded", "revoked"):
        told = sa.Column(name, sa.Boolean, nullable=False, server_default=sa.false())
        op.add_column("devices", told)
    for name in ("units", "pending_microcredits"):
        count = sa.Column(name, sa.BigInteger, nullable=False, server_default=zero)
        op.add_column("assignments", count)
    state = sa.Column("state", sa.String(8), nullable=False, server_default="settled")
    op.add_column("assignments", state)
    for name in ("rate", "deadline_s"):
        op.add_column("assignments", sa.Column(name, sa.Float, nullable=True))
    op.add_column("pieces", sa.Column("commitment", sa.LargeBinary(32), nullable=True))
    op.add_column("pieces", sa.Column("sketch", sa.LargeBinary, nullable=True))
    unsettled = sa.text("state <> 'settled'")
    op.create_index(
        "assignments_unsettled",
        "assignments",
        ["round", "device"],
        sqlite_where=unsettled,
        postgresql_where=unsettled,
    )
    op.create_index("pieces_by_digest", "pieces", ["digest"])
    _carry_over(op.get_bind())
    op.drop_table("entries")


def _carry_over(books: sa.Connection) -> None:
    books.exec_driver_sql("update pieces set state = 'expired' where state = 'held'")
    books.exec_driver_sql("update rounds set closed = (1 = 1)")
    # Of these only what was paid has a transfer; of all that come, each.
    books.exec_driver_sql(
        "insert into facts (name, value) select 'pieces_of_edition_2', "
        "cast(coalesce(max(id), 0) as varchar(20)) from pieces"
    )
    books.exec_driver_sql(
        "update assignments set units = coalesce((select sum(units) from pieces where "
        "pieces.round = assignments.round and pieces.device = assignments.device), 0)"
    )
    pairs = books.exec_driver_sql(
        "select d.reference, d.account as debit, c.account as credit, d.debit_microcredits as m "
        "from entries d join entries c on d.reference = c.reference "
        "where d.debit_microcredits > 0 and c.credit_microcredits > 0 order by d.id"
    ).all()
    at, mark, balances = 0, bytes(32), dict[str, int]()
    rows = []
    for reference, debit, credit, microcredits in pairs:
        at += 1
        mark = _hash_of(mark, at, reference, debit, credit, microcredits)
        rows.append((at, reference, debit, credit, microcredits, mark))
        balances[debit] = balances.get(debit, 0) - microcredits
        balances[credit] = balances.get(credit, 0) + microcredits
    names = ("id", "reference", "debit", "credit", "microcredits", "hash")
    table = sa.table("transfers", *(sa.column(name) for name in names))
    if rows:
        books.execute(table.insert(), [dict(zip(names, row, strict=True)) for row in rows])
    lease = sa.table("lease", *(sa.column(n) for n in ("one", "holder", "fence", "until_s")))
    books.execute(lease.insert().values(one=1, holder="", fence=0, until_s=0.0))
    head = sa.table("head", sa.column("one"), sa.column("id"), sa.column("hash"))
    books.execute(head.insert().values(one=1, id=at, hash=mark))
    kept = sa.table("accounts", sa.column("account"), sa.column("balance_microcredits"))
    if balances:
        books.execute(
            kept.insert(),
            [{"account": name, "balance_microcredits": value} for name, value in balances.items()],
        )


def _hash_of(
    before: bytes, at: int, reference: str, debit: str, credit: str, microcredits: int
) -> bytes:
    """The chain as edition 3 has it, whatever later ones do."""
    told = "".join(f"{len(part)}:{part}" for part in (reference, debit, credit))
    return hashlib.sha256(before + f"{at} {told} {microcredits} ".encode()).digest()
