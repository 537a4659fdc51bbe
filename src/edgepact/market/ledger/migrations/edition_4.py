"""From edition 3 to 4: what is delivered for buyers."""

import sqlalchemy as sa
from alembic.operations import Operations


def upgrade(op: Operations) -> None:
    """Takes the step."""
    op.create_table(
        "sales",
        sa.Column("request", sa.String(64), primary_key=True),
        sa.Column("buyer", sa.String(64), nullable=False),
        sa.Column("device", sa.String(64), nullable=False),
        sa.Column("round", sa.BigInteger, nullable=False),
        sa.Column("units", sa.BigInteger, nullable=False),
        sa.Column("microcredits", sa.BigInteger, nullable=False),
        sa.Column("bound", sa.LargeBinary(32), nullable=False),
        sa.CheckConstraint("microcredits >= 0"),
    )
    op.create_index("sales_by_round", "sales", ["round", "device"])
