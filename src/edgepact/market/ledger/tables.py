"""Tables of what is kept beside the books: devices, tokens, rounds, answers, assignments, pieces,
verdicts, and who may write."""

import json
from collections.abc import Set
from typing import Any

import sqlalchemy as sa

from edgepact.market.ledger.database import META, SERIAL

DEVICES = sa.Table(
    "devices",
    META,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("enrol_hash", sa.String(64), nullable=False, unique=True),
    sa.Column("token_hash", sa.String(64), nullable=False, unique=True),
    sa.Column("confirmed", sa.Boolean, nullable=False),
    sa.Column("strikes", sa.Integer, nullable=False, server_default=sa.text("0")),
    sa.Column("excluded", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("revoked", sa.Boolean, nullable=False, server_default=sa.false()),
)

TOKENS = sa.Table(
    "tokens",
    META,
    sa.Column("hash", sa.String(64), primary_key=True),
    sa.Column("label", sa.String(64), nullable=False),
    sa.Column("issued_s", sa.Float, nullable=False),
    sa.Column("expires_s", sa.Float, nullable=True),
    sa.Column("revoked", sa.Boolean, nullable=False),
)

ROUNDS = sa.Table(
    "rounds",
    META,
    sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("job", sa.String(64), nullable=False),
    sa.Column("model", sa.String(256), nullable=False),
    sa.Column("digest", sa.String(128), nullable=False),
    sa.Column("question", sa.Text, nullable=False),
    sa.Column("units_per_device", sa.BigInteger, nullable=False),
    sa.Column("engaged", sa.Boolean, nullable=False),
    sa.Column("closed", sa.Boolean, nullable=False),
)

ANSWERS = sa.Table(
    "answers",
    META,
    sa.Column("round", sa.ForeignKey("rounds.number"), primary_key=True),
    sa.Column("device", sa.ForeignKey("devices.name"), primary_key=True),
    sa.Column("answer", sa.Text, nullable=False),
)

ASSIGNMENTS = sa.Table(
    "assignments",
    META,
    sa.Column("round", sa.ForeignKey("rounds.number"), primary_key=True),
    sa.Column("device", sa.ForeignKey("devices.name"), primary_key=True),
    sa.Column("amount", sa.Float, nullable=False),
    sa.Column("reward_microcredits", sa.BigInteger, nullable=False),
    # What was delivered and is pending of it, kept so that nobody has to add it up.
    sa.Column("units", sa.BigInteger, nullable=False, server_default=sa.text("0")),
    sa.Column("pending_microcredits", sa.BigInteger, nullable=False, server_default=sa.text("0")),
    sa.Column("state", sa.String(8), nullable=False, server_default="settled"),
    sa.Column("rate", sa.Float, nullable=True),
    sa.Column("deadline_s", sa.Float, nullable=True),
    sa.CheckConstraint("amount >= 0 and reward_microcredits >= 0"),
    # Few are not settled; with this nobody looks through all to find them.
    sa.Index(
        "assignments_unsettled",
        "round",
        "device",
        sqlite_where=sa.text("state <> 'settled'"),
        postgresql_where=sa.text("state <> 'settled'"),
    ),
)

VERDICTS = sa.Table(
    "verdicts",
    META,
    sa.Column("round", sa.ForeignKey("rounds.number"), primary_key=True),
    sa.Column("device", sa.ForeignKey("devices.name"), primary_key=True),
    sa.Column("told", sa.Text, nullable=False),
    sa.Column("signature", sa.String(128), nullable=False),
)

PIECES = sa.Table(
    "pieces",
    META,
    sa.Column("id", SERIAL, primary_key=True),
    sa.Column("device", sa.ForeignKey("devices.name"), nullable=False),
    sa.Column("piece", sa.String(64), nullable=False),
    sa.Column("round", sa.ForeignKey("rounds.number"), nullable=False),
    sa.Column("amount", sa.Float, nullable=False),
    sa.Column("units", sa.BigInteger, nullable=False),
    sa.Column("microcredits", sa.BigInteger, nullable=False),
    sa.Column("state", sa.String(8), nullable=False),
    sa.Column("digest", sa.LargeBinary(32), nullable=False),
    sa.Column("audited", sa.Boolean, nullable=False),
    sa.Column("evidence", sa.LargeBinary, nullable=True),
    sa.Column("recorded_s", sa.Float, nullable=False),
    sa.Column("commitment", sa.LargeBinary(32), nullable=True),
    sa.Column("sketch", sa.LargeBinary, nullable=True),
    sa.UniqueConstraint("device", "piece"),
    sa.Index("pieces_by_round", "round", "device"),
    sa.Index("pieces_by_digest", "digest"),
)

LEASE = sa.Table(
    "lease",
    META,
    sa.Column("one", sa.Integer, sa.CheckConstraint("one = 1"), primary_key=True),
    sa.Column("holder", sa.String(128), nullable=False),
    sa.Column("fence", sa.BigInteger, nullable=False),
    sa.Column("until_s", sa.Float, nullable=False),
)


@sa.event.listens_for(LEASE, "after_create")
def _nobody_leads(_table: sa.Table, books: sa.Connection, **_: object) -> None:
    # There from the start, so that two who take the first lease wait for each other at its row.
    books.execute(LEASE.insert().values(one=1, holder="", fence=0, until_s=0.0))


def of_keys(
    books: sa.Connection, table: sa.Table, names: tuple[str, str], keys: Set[tuple[Any, Any]]
) -> Any:
    """Rows of a table by two columns.

    A join, since SQLite uses no index for pairs in a list; and with one parameter, so that the
    statement is the same for any number of keys.
    """
    if not keys:
        return []
    said = sa.bindparam("wanted", json.dumps(sorted(keys)), sa.Text)
    wanted: sa.FromClause
    parts: list[sa.ColumnElement[Any]]
    if books.dialect.name == "sqlite":
        wanted = sa.func.json_each(said).table_valued(sa.column("value", sa.Text), name="wanted")
        parts = [sa.func.json_extract(wanted.c.value, f"$[{at}]") for at in (0, 1)]
    elif books.dialect.name == "postgresql":
        wanted = sa.func.json_array_elements(sa.cast(said, sa.JSON)).table_valued(
            sa.column("value", sa.JSON), name="wanted"
        )
        parts = [
            sa.cast(wanted.c.value.op("->>")(at), table.c[name].type)
            for at, name in enumerate(names)
        ]
    else:
        columns = (sa.column(name, table.c[name].type) for name in names)
        wanted = sa.values(*columns, name="wanted").data(sorted(keys)).cte("wanted")
        parts = [wanted.c[name] for name in names]
    same = sa.and_(*(table.c[name] == part for name, part in zip(names, parts, strict=True)))
    return books.execute(sa.select(table).select_from(wanted.join(table, same)))
