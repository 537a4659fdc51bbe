r"""How much a device values the computing it keeps for itself.

A device with capacity $W$ that spends $y$ less than it has is satisfied by
$\alpha S(y)$. Each family here is strictly increasing and strictly concave,
which makes the best response to a price unique, and obeys a *separable supply
law*: a device with an interior best response supplies

$$L(P) = k + c\,h(P)$$

layers, where only $k$ and $c$ depend on the device. Sums over devices then
need two running totals, so the leader's exact optimum costs one sort.

The functions work on NumPy and JAX arrays alike (array API standard) and the
module imports neither library: devices use it without JAX.
"""

from abc import ABC, abstractmethod
from typing import Any

# Any array that names its own namespace: np.ndarray, jax.Array or a JAX tracer.
Array = Any


class Satisfaction(ABC):
    """A satisfaction function S with all that the game needs to know of it."""

    name: str
    """Spelling in market files."""

    open_at_zero: bool = False
    """Whether S has no finite value at 0, so that something must be left over."""

    @abstractmethod
    def value(self, y: Array) -> Array:
        """S(y) for remaining computing y >= 0, in GMAC."""

    @abstractmethod
    def drop(self, y: Array, dy: Array) -> Array:
        """S(y) - S(y - dy) for 0 <= dy <= y, without the cancellation of a difference."""

    @abstractmethod
    def marginal(self, y: Array) -> Array:
        """S'(y)."""

    @abstractmethod
    def supply_law(self, alpha: Array, room: Array, A: Array) -> tuple[Array, Array]:
        """Intercept k and coefficient c of the interior supply k + c h(P).

        Args:
            alpha: weight of satisfaction, credits.
            room: W - B, computing left before the first layer, GMAC.
            A: GMAC per layer.
        """

    @abstractmethod
    def price_term(self, price: Array) -> Array:
        """h(P), increasing in the price P > 0."""

    @abstractmethod
    def stationary_price(self, k: Array, c: Array, bc: Array) -> Array:
        """Where the leader's profit on one piece has slope zero.

        On a piece the profit is, up to a constant, `bc h(P) - P (k + c h(P))`
        with `k`, `c`, `bc` the sums of intercepts, of coefficients and of
        coefficients times the leader's saving per layer. It has one stationary
        point, a maximum. The result is arbitrary, and may be NaN, where `c` is 0.
        """


class _Logarithmic(Satisfaction):
    """What ln(1 + y) and ln(y) share: h(P) = -1/P and the square-root law."""

    def price_term(self, price: Array) -> Array:
        return -1.0 / _not_below(price, 1e-200, 1e-30)

    def stationary_price(self, k: Array, c: Array, bc: Array) -> Array:
        xp = _namespace(k)
        # slope: bc/P^2 - k = 0
        return xp.sqrt(xp.clip(bc, 0.0, None) / k)


class Log1p(_Logarithmic):
    """S(y) = ln(1 + y), the article's case as far as its text tells."""

    name = "log1p"

    def value(self, y: Array) -> Array:
        return _namespace(y).log1p(y)

    def drop(self, y: Array, dy: Array) -> Array:
        return -_namespace(y).log1p(-dy / (1.0 + y))

    def marginal(self, y: Array) -> Array:
        return 1.0 / (1.0 + y)

    def supply_law(self, alpha: Array, room: Array, A: Array) -> tuple[Array, Array]:
        return (1.0 + room) / A, alpha


class Log(_Logarithmic):
    """S(y) = ln(y): the only family in which the unit of computing drops out."""

    name = "log"
    open_at_zero = True

    def value(self, y: Array) -> Array:
        xp = _namespace(y)
        return xp.where(y > 0, xp.log(xp.where(y > 0, y, 1.0)), -xp.inf)

    def drop(self, y: Array, dy: Array) -> Array:
        xp = _namespace(y)
        some = dy < y
        return xp.where(some, -xp.log1p(-xp.where(some, dy, 0.0) / xp.where(y > 0, y, 1.0)), xp.inf)

    def marginal(self, y: Array) -> Array:
        xp = _namespace(y)
        return xp.where(y > 0, 1.0 / xp.where(y > 0, y, 1.0), xp.inf)

    def supply_law(self, alpha: Array, room: Array, A: Array) -> tuple[Array, Array]:
        return room / A, alpha


class Sqrt(Satisfaction):
    """S(y) = sqrt(y)."""

    name = "sqrt"

    def value(self, y: Array) -> Array:
        return _namespace(y).sqrt(y)

    def drop(self, y: Array, dy: Array) -> Array:
        xp = _namespace(y)
        roots = xp.sqrt(y) + xp.sqrt(y - dy)
        return xp.where(roots > 0, dy / xp.where(roots > 0, roots, 1.0), 0.0)

    def marginal(self, y: Array) -> Array:
        xp = _namespace(y)
        return xp.where(y > 0, 0.5 / xp.sqrt(xp.where(y > 0, y, 1.0)), xp.inf)

    def supply_law(self, alpha: Array, room: Array, A: Array) -> tuple[Array, Array]:
        return room / A, alpha * alpha * A / 4.0

    def price_term(self, price: Array) -> Array:
        return -1.0 / _not_below(price, 1e-100, 1e-15) ** 2

    def stationary_price(self, k: Array, c: Array, bc: Array) -> Array:
        xp = _namespace(k)
        # slope: 2 bc/P^3 - c/P^2 - k = 0, that is P^3 + m P = q: one real root, since m >= 0
        m = xp.clip(c, 0.0, None) / k
        q = 2.0 * xp.clip(bc, 0.0, None) / k
        radius = xp.sqrt(xp.where(m > 0, m, 1.0) / 3.0)
        root = 2.0 * radius * xp.sinh(xp.asinh(q / (2.0 * radius**3)) / 3.0)
        return xp.where(m > 0, root, 0.0)


class Exp(Satisfaction):
    """S(y) = 1 - exp(-y): satiates."""

    name = "exp"

    def value(self, y: Array) -> Array:
        return -_namespace(y).expm1(-y)

    def drop(self, y: Array, dy: Array) -> Array:
        xp = _namespace(y)
        return -xp.exp(dy - y) * xp.expm1(-dy)

    def marginal(self, y: Array) -> Array:
        return _namespace(y).exp(-y)

    def supply_law(self, alpha: Array, room: Array, A: Array) -> tuple[Array, Array]:
        return (room - _namespace(alpha).log(alpha * A)) / A, 1.0 / A

    def price_term(self, price: Array) -> Array:
        # Entry prices fall exponentially with the room, so every price counts.
        xp = _namespace(price)
        return xp.log(
            _not_below(price, *(float(xp.finfo(d).tiny) for d in (xp.float64, xp.float32)))
        )

    def stationary_price(self, k: Array, c: Array, bc: Array) -> Array:
        xp = _namespace(k)
        # slope: bc/P - c ln P - c - k = 0. With b = bc/c and w = b/P this reads
        # w + ln w = ln b + 1 + k/c, whose solution is the Wright omega function.
        b = bc / c
        some = xp.where(b > 0, b, 1.0)
        return xp.where(b > 0, some / _wright_omega(xp.log(some) + 1.0 + k / c), 0.0)


def _wright_omega(z: Array) -> Array:
    """The w > 0 with w + ln w = z, to the precision of the dtype."""
    xp = _namespace(z)
    # w + ln w is concave in w, so Newton from the left of the root climbs to it; these
    # starts are left of it or close enough that six steps reach the last bit.
    w = xp.where(
        z > 1.0, z - xp.log(xp.where(z > 1.0, z, 1.0)), xp.exp(xp.clip(z, None, 1.0) - 1.0)
    )
    w = xp.where(z < -4.0, xp.exp(xp.clip(z, None, 1.0)), w)
    for _ in range(6):
        w = w * (1.0 + z - xp.log(w)) / (1.0 + w)
    return w


def _not_below(price: Array, least: float, least_single: float) -> Array:
    """Keeps h(P) finite at prices so small that nobody supplies anything there."""
    xp = _namespace(price)
    return xp.clip(price, least if price.dtype == xp.float64 else least_single, None)


def _namespace(array: Array) -> Any:
    return array.__array_namespace__()


FAMILIES: dict[str, Satisfaction] = {
    family.name: family for family in (Log1p(), Log(), Sqrt(), Exp())
}
"""Every family by its spelling in market files."""
