"""`edgepact serve`: the server of the live market."""

from edgepact.cli.options import options_of
from edgepact.market.serve_config import ServeOptions


@options_of(ServeOptions, file=True, own_first=True)
def serve(options: ServeOptions) -> None:
    """Serve the live market: offers, split inference, payments.

    Devices enrol with a one-time token each and are paid for each verified unit, such as an image,
    a token or a picture. The ledger
    survives restarts; start again with the same one and the market goes on.
    """
    from edgepact.live.serving import serve_market

    serve_market(options)
