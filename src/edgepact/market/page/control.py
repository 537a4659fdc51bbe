"""What an operator may change from the page, each thing a message with its fields.

What is changed holds until the server is started again, which then follows its settings; who is
shut out or readmitted stands in the ledger.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from edgepact.credits import in_credits, in_microcredits
from edgepact.engagement import PriceBounded
from edgepact.errors import InputError, MarketError
from edgepact.fields import check_number
from edgepact.market.ledger import Limits
from edgepact.market.play import Market
from edgepact.market.protocol.messages import check_name

SOURCE = "control"

CREDITS_MAX = 1e9
"""Largest budget that can be stated."""

NAME_MAX = 64
"""Characters of an unknown field's name that are told."""


async def change(market: Market, asked: Mapping[str, Any]) -> None:
    """Does what is asked.

    Args:
        market: that is changed.
        asked: `action`, and the fields that it has: `pause`, `resume`; `budget` with `credits` and
            `round_credits`, numbers or null for no limit; `price_bounds` with `low` and `high`,
            credits; `revoke` and `readmit` with `device`.

    Raises:
        InputError: of the field that cannot be.
        MarketError: it cannot be done here, such as bounds of a price that is none.
    """
    action = asked.get("action")
    known = isinstance(action, str) and action in _ACTIONS
    if not known:
        raise InputError(SOURCE, "action", f"one of {', '.join(_ACTIONS)}", action)
    act, fields = _ACTIONS[str(action)]
    unknown = sorted(set(asked) - {"action", *fields})
    if unknown:
        expected = f"none but {', '.join(fields)}" if fields else "no further field"
        raise InputError(SOURCE, unknown[0][:NAME_MAX], expected, asked[unknown[0]])
    missing = [name for name in fields if name not in asked]
    if missing:
        raise InputError(SOURCE, missing[0], f"a field of {action}", "nothing")
    await act(market, asked)


# ---------------------------------------------------------------- private


async def _pause(market: Market, asked: Mapping[str, Any]) -> None:
    market.pause(True)


async def _resume(market: Market, asked: Mapping[str, Any]) -> None:
    market.pause(False)


async def _budget(market: Market, asked: Mapping[str, Any]) -> None:
    total, in_round = _credits(asked, "credits"), _credits(asked, "round_credits")
    market.limit(Limits(round_microcredits=in_round, total_microcredits=total))


async def _price_bounds(market: Market, asked: Mapping[str, Any]) -> None:
    low, high = (
        check_number(SOURCE, name, asked[name], least=0.0, most=CREDITS_MAX)
        for name in ("low", "high")
    )
    engagement = market.engagement
    if not isinstance(engagement, PriceBounded):
        raise MarketError("this mechanism quotes no prices that could be bounded")
    engagement.bound_prices(low, high)


async def _revoke(market: Market, asked: Mapping[str, Any]) -> None:
    await market.revoke(_device(asked))


async def _readmit(market: Market, asked: Mapping[str, Any]) -> None:
    await market.readmit(_device(asked))


def _credits(asked: Mapping[str, Any], name: str) -> int | None:
    value = asked[name]
    if value is None:
        return None
    number = check_number(SOURCE, name, value, least=0.0, most=CREDITS_MAX)
    found = in_microcredits(number)
    if number > 0.0 and found == 0:  # it would end all pay
        raise InputError(SOURCE, name, f"0, or at least {in_credits(1):f} credits", value)
    return found


def _device(asked: Mapping[str, Any]) -> str:
    name = asked["device"]
    try:
        return check_name(SOURCE, name)
    except InputError as error:
        raise InputError(SOURCE, "device", "the name of a device", error.found) from None


_Action = Callable[[Market, Mapping[str, Any]], Awaitable[None]]

_ACTIONS: dict[str, tuple[_Action, tuple[str, ...]]] = {
    "pause": (_pause, ()),
    "resume": (_resume, ()),
    "budget": (_budget, ("credits", "round_credits")),
    "price_bounds": (_price_bounds, ("low", "high")),
    "revoke": (_revoke, ("device",)),
    "readmit": (_readmit, ("device",)),
}
"""What can be asked, and the fields that go with it."""
