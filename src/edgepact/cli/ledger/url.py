"""The argument that names a ledger."""

from typing import Annotated

import typer

DEFAULT = "sqlite:///edgepact-ledger.db"

Url = Annotated[str, typer.Argument(metavar="URL", help="Database URL of a ledger.")]
