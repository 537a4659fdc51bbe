"""The option that names a ledger."""

from typing import Annotated

import typer

DEFAULT = "sqlite:///edgepact-ledger.db"

LedgerUrl = Annotated[str, typer.Option("--ledger", help="Database URL of the ledger.")]
