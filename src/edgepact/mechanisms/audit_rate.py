r"""How much to audit: the least rate at which cheating on any share of the work loses money.

A device has delivered $n$ pieces of $u_1 \ge u_2 \ge \dots$ units, $U$ in all, each unit for the
reward $r$, and loses the pay of them all if one is found false. A piece is audited with
probability $p$, and an audit finds a false one with probability $d$. An honest device keeps at
least the share $m$ of its pay, so that cheating on a piece saves at most $\gamma = 1 - m$ of what
it is paid for. Cheating on the $k$ largest pieces, $U_k$ units, loses money where

$$\bigl(1 - (1 - d p)^k\bigr)\, U > \gamma\, U_k .$$

Who cheats on everything could also have claimed the item that pays most, $r$, where honesty would
have earned $m$ of the least, $r_{\min}$, at least. That loses half of what honesty earns where

$$(1 - d p)^n \le \tfrac{1}{2}\, m\, r_{\min} / r .$$

The rate is the least that does both. It falls with the number of pieces, since a single one that
is found false costs the pay of all. docs/theory/audits.md proves it and draws it.
"""

from collections.abc import Sequence

import numpy as np

from edgepact.errors import InputError


def audit_rate(
    units: Sequence[int],
    *,
    margin: float,
    reward: float = 1.0,
    least_reward: float = 1.0,
    power: float = 1.0,
) -> float:
    """Probability with which to audit each piece of a device-round.

    Args:
        units: of each piece, above 0.
        margin: m, share of its pay that an honest device keeps at least; above 0, below 1.
        reward: r, of a unit, in any money.
        least_reward: of a unit, that the device could have taken instead; at most `reward`.
        power: d, probability that an audit finds a false piece.

    Returns:
        The rate, at most 1; 0 where there is nothing to audit.

    Raises:
        InputError: a value beyond its limits.

    Example:
        >>> round(audit_rate([1] * 16, margin=0.25), 4)
        0.1219
        >>> audit_rate([1], margin=0.25) > 0.75
        True
    """
    if not 0.0 < margin < 1.0:
        raise InputError("audit rate", "margin", "a number above 0 and below 1", margin)
    if not 0.0 < power <= 1.0:
        raise InputError("audit rate", "power", "a number above 0, at most 1", power)
    largest = np.sort(np.asarray(units, float))[::-1]
    if not len(largest) or reward <= 0.0:
        return 0.0
    if largest[-1] <= 0.0 or not np.isfinite(largest[0]):
        raise InputError("audit rate", "units", "numbers above 0", list(units))
    if not 0.0 < least_reward <= reward:
        raise InputError("audit rate", "least_reward", f"above 0, at most {reward:g}", least_reward)
    k = np.arange(1, len(largest) + 1)
    share = (1.0 - margin) * np.cumsum(largest) / np.sum(largest)
    found = np.max(-np.expm1(np.log1p(-share) / k))
    misreported = -np.expm1(np.log(0.5 * margin * least_reward / reward) / len(largest))
    return float(min(1.0, (1.0 + 1e-9) * max(found, misreported) / power))
