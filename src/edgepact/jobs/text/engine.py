"""One text at a time, as whoever reads it wants it: tokens, one by one.

`generated` carries a piece from exchange to exchange over whatever connects the device with a
server, and tells each token as soon as it is known. What asks the server stands outside: a market's
connection, or a server part in the same process.
"""

from collections.abc import Callable, Generator
from dataclasses import replace

from edgepact.errors import MarketError
from edgepact.inference.sampling import Drawn
from edgepact.jobs.text.device import TextDevice
from edgepact.jobs.text.prompts import Prompt
from edgepact.tensors import Tensors
from edgepact.work import EXCHANGES_MAX, Reply, ServerAway, SessionLost

LOSSES_MAX = 10
"""How often a text is brought back whose session was lost."""

Ask = Callable[[int, Tensors], Reply]
"""One exchange: its number, counted from 0 and again from 0 after a loss, and what is sent. Raises
`SessionLost` or `ServerAway`, as `edgepact.work` says."""


def generated(
    device: TextDevice, piece: Prompt, amount: int, ask: Ask
) -> Generator[Drawn, None, None]:
    """The tokens of a text.

    A reader that closes the generator ends the text, at the server too, which draws one token more.

    Args:
        device: the device's half.
        piece: what there is to write on; its own `on_token` is asked as well.
        amount: blocks of the device.
        ask: carries an exchange.

    Raises:
        InputError: the prompt cannot be used.
        MarketError: the session was lost too often.
        ServerAway: the server is away; a caller that may do all blocks says so by letting `ask`
            raise it, and the text goes on without.
    """
    told: list[Drawn] = []
    gone = False

    def on_token(found: Drawn) -> bool:
        told.append(found)
        return piece.on_token(found) or gone

    device.prepare(amount)
    running = device.work(replace(piece, on_token=on_token), amount)
    exchange = losses = 0
    event: Reply | SessionLost | ServerAway | None = None
    try:
        for _ in range(LOSSES_MAX * EXCHANGES_MAX):
            try:
                if isinstance(event, Exception):
                    sent = running.throw(event)
                else:
                    sent = next(running) if event is None else running.send(event)
            except StopIteration:
                if not gone:
                    yield from told
                return
            while told and not gone:
                found = told.pop(0)
                try:
                    yield found
                except GeneratorExit:
                    # What is under way goes out as it is; the token after it ends the text.
                    gone = True
            try:
                event, exchange = ask(exchange, sent), exchange + 1
            except SessionLost as error:
                event, exchange, losses = error, 0, losses + 1
                if losses > LOSSES_MAX:
                    raise MarketError(f"a text's session was lost {losses} times") from None
            except ServerAway as error:
                event = error
    finally:
        running.close()
