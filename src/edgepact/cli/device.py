"""`edgepact device`: one device of the live market."""

from functools import partial
from pathlib import Path

from edgepact.cli.options import options_of
from edgepact.market.device_config import DeviceConfig


@options_of(DeviceConfig)
def device(config: DeviceConfig) -> None:
    """Take part in a live market as one device: commit, work, get paid.

    It decides by itself how many steps of a unit, such as layers of an image, are worth their
    price, from alpha and capacity, which it tells nobody.
    """
    from edgepact.credits import in_credits
    from edgepact.market.device import run_device

    if config.chat is None:
        summary = run_device(config)
    else:
        from edgepact.chat.endpoint import chat_endpoint

        token_file = config.chat_token_file or Path(f"{config.name}.chat-token")
        opened = partial(chat_endpoint, port=config.chat, token_file=token_file)
        summary = run_device(config, opened=opened)
    credits = in_credits(summary.paid_microcredits)
    rounds = f"{summary.rounds} round{'s' * (summary.rounds != 1)}"
    print(f"{config.name}: {summary.units} units in {rounds}, {credits:.6f} credits")
    sent, received = summary.bytes_sent / 1e6, summary.bytes_received / 1e6
    print(
        f"{config.name}: sent {sent:.3f} MB, received {received:.3f} MB, with all heads and polls"
    )
