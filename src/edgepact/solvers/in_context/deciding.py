"""The one question put to all that decides in context: given what was seen, what is offered next?

Each mechanism has its own words for what is public, what was seen and what is offered, and one
decider: `pricing.Prices` posts a price, `menus.Menus` writes a menu, `reserves.Reserves` sets
reserves. All are asked alike, by the live market, by federated training and by `edgepact quote`:
nothing is remembered between calls, and the same question with the same seed has the same answer.

It is NumPy alone, and knows no mechanism.
"""

from typing import Protocol, TypeVar, runtime_checkable

from edgepact.errors import InputError
from edgepact.framework import Told

SOURCE = "evidence"
"""Where evidence is said to stand when it came from no file."""

Known = TypeVar("Known", contravariant=True)
Evidence = TypeVar("Evidence", contravariant=True)
Decision = TypeVar("Decision", covariant=True, bound=Told)


@runtime_checkable
class Decider(Protocol[Known, Evidence, Decision]):
    """Decides for one mechanism; what it offers depends on nothing that is private."""

    def decide(self, known: Known, evidence: Evidence, seed: int) -> Decision:
        """What to offer next.

        Args:
            known: what is public.
            evidence: all that was offered and answered so far, the first round first.
            seed: of the noise that what is private is generated from.

        Returns:
            A frozen decision, with `to_dict()` and `sheets`.

        Raises:
            InputError: nobody could have answered so; see `impossible`.
        """
        ...


def impossible(source: object, field: str, expected: str, found: object) -> InputError:
    """The error for evidence that cannot be: an answer that no one would have given.

    Args:
        source: the file, or `SOURCE`.
        field: path of what is wrong in it, such as `round[2].taken[1]`.
        expected: what could have been answered, as a noun phrase.
        found: what was said to be.
    """
    return InputError(source, field, expected, found)
