"""Money: credits for people, whole micro-credits for wires and books.

Every amount that is promised, sent or paid is a whole number of micro-credits, so that sums are
exact and debits equal credits; credits as floats are for utilities, files and tables.
"""

import math

MICRO = 1_000_000
"""Micro-credits in a credit."""

REWARD_MICROCREDITS_MAX = 10**15
"""Largest reward or bid for one unit of work."""

PRICE_CREDITS_MAX = 1e6
"""Highest price of one step of an amount, such as a layer, that can be posted."""


def in_microcredits(credits: float) -> int:
    """Credits as the nearest whole number of micro-credits.

    Example:
        >>> in_microcredits(0.3)
        300000
    """
    return round(credits * MICRO)


def rounded_up(credits: float) -> int:
    """Whole micro-credits that are at least so many credits.

    Rewards are rounded up: rounded down, whoever is just paid its cost would stay away. What
    products are off by in the last place does not cost a micro-credit more.
    """
    return math.ceil(credits * MICRO - 1e-6)


def in_credits(microcredits: int) -> float:
    """Micro-credits as credits, for people."""
    return microcredits / MICRO
