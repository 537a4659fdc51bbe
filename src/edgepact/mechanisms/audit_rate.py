r"""How often to audit so that cheating on any share of a device-round loses money.

A device-round is what one device is paid for in one round: pieces $i$ of $u_i$ units, $U$ in all,
at $r$ a unit. Each piece is audited with probability $p$, and an audit of invented work finds it
with probability $d$, the audit's *power*; together $q = d p$. One piece found forfeits all of the
round's pay. A device that invents the $k$ pieces with the most units, $U_k$ in all, saves their
cost and is paid with probability $(1-q)^k$.

Of the device is known only that it could earn honestly: at least a share $m$, its *margin*, of
what the least paid item $r_0$ brings. Whatever its costs at the item it took, cheating earns less
than that if

$$1 - (1-q)^k > \gamma \frac{U_k}{U} \quad\text{for all } k, \qquad \gamma = 1 - m \frac{r_0}{r}.$$

`audit_rate` asks for half of the margin to be enough, so that a cheat does not break even but
loses at least that half on every unit that it invents. The proof stands in docs/theory/audits.md.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from edgepact.errors import InputError

SURPLUS = 0.5
"""Share of its honest profit on the units invented that a cheat loses at least, where a rate of one
or less is enough."""

Units = Sequence[float | int] | np.ndarray
"""Of each piece of a device-round."""


def audit_rate(
    units: Units,
    *,
    margin: float,
    reward: float | int,
    least_reward: float | int,
    power: float = 1.0,
) -> float:
    r"""Least probability of an audit at which cheating on any of the pieces loses money.

    Args:
        units: of each piece, above 0; none for 0.
        margin: share of pay that is profit to an honest device at the least paid item, above 0
            and at most 1.
        reward: pay of a unit, for the item that is paid best, in any currency.
        least_reward: pay of a unit for the item that is paid least, in the same; above 0.
        power: probability that an audit finds invented work, above 0 and at most 1.

    Returns:
        $\max_k \bigl[1 - (1 - \gamma' U_k/U)^{1/k}\bigr] / d$ with
        $\gamma' = 1 - \tfrac12 m r_0/r$, but at most 1: where more would be needed, no rate is
        enough, and `expected_gain` tells so.

    Raises:
        InputError: a number is out of range.

    Example:
        With equal units it is cheating on everything that has to be deterred, and
        $p = 1 - (\tfrac12 m r_0/r)^{1/n}$:

        >>> rate = audit_rate([1] * 10, margin=0.25, reward=3, least_reward=1)
        >>> round(rate, 4), round(1 - (0.5 * 0.25 / 3) ** (1 / 10), 4)
        (0.2723, 0.2723)
    """
    sums = _largest_first(units)
    share = _profit_share(margin, reward, least_reward, power)
    if not sums.size:
        return 0.0
    counts = np.arange(1, sums.size + 1)
    saved = (1 - SURPLUS * share) * sums / sums[-1]
    found = -np.expm1(np.log1p(-saved) / counts)
    return float(min(1.0, found.max() / power))


def expected_gain(
    k: int,
    p: float,
    units: Units,
    *,
    margin: float,
    reward: float | int,
    least_reward: float | int,
    power: float = 1.0,
) -> float:
    """What inventing the k pieces with the most units gains over honest work, at most.

    Args:
        k: number of pieces, from 0 to all.
        p: probability that a piece is audited.
        units: as for `audit_rate`, and the others too.
        margin: see there.
        reward: see there.
        least_reward: see there.
        power: see there.

    Returns:
        Expected gain of the device to which cheating is worth most among those of this margin, in
        the currency of the rewards; below 0 where cheating loses.

    Raises:
        InputError: a number is out of range.

    Example:
        >>> alike = dict(margin=0.25, reward=1, least_reward=1)
        >>> expected_gain(4, 0.0, [1] * 4, **alike)  # never audited: what the work would cost
        3.0
        >>> expected_gain(4, 1.0, [1] * 4, **alike)  # always: the profit is lost
        -1.0
    """
    sums = _largest_first(units)
    share = _profit_share(margin, reward, least_reward, power)
    if not 0 <= k <= sums.size:
        raise InputError("audit rate", "k", f"a number of pieces, 0 to {sums.size}", k)
    if not 0 <= p <= 1:
        raise InputError("audit rate", "p", "a probability", p)
    if k == 0:
        return 0.0
    unpaid = 1 - (1 - power * p) ** k
    return float(reward * ((1 - share) * sums[k - 1] - unpaid * sums[-1]))


def best_cheat(
    p: float,
    units: Units,
    *,
    margin: float,
    reward: float | int,
    least_reward: float | int,
    power: float = 1.0,
) -> float:
    """What the best cheat earns in a device-round, as a share of what honest work does.

    Args:
        p: probability that a piece is audited.
        units: as for `audit_rate`, and the others too; at least one piece.
        margin: see there.
        reward: see there.
        least_reward: see there.
        power: see there.

    Returns:
        Expected profit over honest profit, for the device of this margin to which cheating is worth
        most; below 1 where it loses.

    Raises:
        InputError: a number is out of range.

    Example:
        >>> alike = dict(margin=0.25, reward=1, least_reward=1)
        >>> rate = audit_rate([1] * 20, **alike)
        >>> [round(best_cheat(p, [1] * 20, **alike), 2) for p in (0.0, 0.05, rate)]
        [4.0, 1.43, 0.76]
    """
    told = dict(margin=margin, reward=reward, least_reward=least_reward, power=power)
    count = len(units)
    gain = max(expected_gain(k, p, units, **told) for k in range(1, count + 1))
    honest = margin * least_reward * float(np.sum(np.asarray(units, np.float64)))
    return 1.0 + gain / honest


def honest_loss(pieces: int, p: float, false_alarm: float) -> float:
    """Probability that an honest device-round is forfeited.

    Args:
        pieces: of the device-round.
        p: probability that a piece is audited.
        false_alarm: probability that the audit of honest work fails.

    Example:
        >>> honest_loss(100, 0.02, 0.0), round(honest_loss(100, 0.02, 1e-4), 6)
        (0.0, 0.0002)
    """
    return float(-np.expm1(pieces * np.log1p(-p * false_alarm)))


def _largest_first(units: Units) -> Float[np.ndarray, " pieces"]:
    """Units of the k largest pieces, for k from 1."""
    values = np.asarray(units, np.float64)
    if values.ndim != 1 or not (np.isfinite(values) & (values > 0)).all():
        raise InputError("audit rate", "units", "finite numbers above 0, one a piece", units)
    sums: np.ndarray = np.cumsum(np.sort(values)[::-1])
    return sums


def _profit_share(
    margin: float, reward: float | int, least_reward: float | int, power: float
) -> float:
    """Honest profit that is certain, as a share of the pay that a cheat is after."""
    for name, value in (("margin", margin), ("power", power)):
        if not 0 < value <= 1:
            raise InputError("audit rate", name, "a number above 0, at most 1", value)
    if not 0 < least_reward <= reward < np.inf:
        expected = f"a number above 0, at most the reward of {reward}"
        raise InputError("audit rate", "least_reward", expected, least_reward)
    return margin * least_reward / reward
