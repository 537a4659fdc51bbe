"""`edgepact ledger export`: a ledger as CSV and Parquet."""

from pathlib import Path
from typing import Annotated

import typer

from edgepact.cli.ledger.url import DEFAULT, Url
from edgepact.cli.output import Json, print_json


def export(
    out: Annotated[Path, typer.Option(help="A new or empty folder to write to.")],
    url: Url = DEFAULT,
    as_json: Json = False,
) -> None:
    """Write all transfers, pieces and verdicts to files, as CSV and as Parquet.

    Digests and hashes are hexadecimal, amounts whole micro-credits, times seconds since 1970.
    """
    from edgepact.market.exported import export as write

    counts = write(url, out)
    if as_json:
        print_json(counts)
        return
    for table, count in counts.items():
        print(f"{out / table}.csv, .parquet: {count} rows")
