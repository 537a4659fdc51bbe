"""Guesses at the next tokens of a text from the text itself: what followed the same tokens before.

A guess costs nothing to make, and one row of a product to look at; where it was right, a token has
come without a step of its own. Names, quotations and code repeat themselves, tales do not.
"""

from collections.abc import Sequence

ALIKE = (4, 3, 2)
"""Lengths of the ends of a text that are looked for in it, the longest first."""


def guesses(tokens: Sequence[int], most: int) -> tuple[int, ...]:
    """Guesses at what follows.

    Args:
        tokens: of the text.
        most: guesses at most.

    Returns:
        What followed the latest place with the same last tokens; empty where there is none.

    Example:
        >>> guesses([5, 6, 7, 8, 5, 6], 3)
        (7, 8, 5)
    """
    if most < 1:
        return ()
    known = list(tokens)
    for length in ALIKE:
        end = known[-length:]
        for at in range(len(known) - length - 1, -1, -1):
            if known[at] == end[0] and known[at : at + length] == end:
                return tuple(known[at + length : at + length + most])
    return ()
