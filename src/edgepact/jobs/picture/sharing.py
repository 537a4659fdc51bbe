"""Beginnings of chains that several prompts share.

Prompts belong together whose text vectors point nearly the same way. The first that comes founds a
group; its vector stands for all. A beginning serves a limited number of pictures, so that their
variety does not hang on one draw, and only the newest groups are held.
"""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from edgepact.jobs.picture.chain import Generator

TOGETHER = 0.9
"""Least cosine of a prompt's vector and its group's. Captions of one class of the embedded CLIP lie
above it, those of two classes that it can tell apart below."""

GROUPS_HELD = 256


@dataclass(slots=True)
class _Group:
    text: Float[np.ndarray, "1 dim"]
    meant: dict[int, Float[np.ndarray, "1 components"]] = field(default_factory=dict)
    served: dict[int, int] = field(default_factory=dict)


class SharedBeginnings:
    """Beginnings by group and number of steps. Used by one thread.

    Args:
        generator: that makes them.
        together: least cosine of prompts that belong together; -1 for all with all.

    Attributes:
        made: steps that were done for beginnings so far.
        saved: steps that chains were spared so far.
    """

    def __init__(self, generator: Generator, together: float = TOGETHER) -> None:
        self._generator = generator
        self._together = together
        self._groups: list[_Group] = []
        self.made = 0
        self.saved = 0

    def begun(
        self, text: Float[np.ndarray, "1 dim"], steps: int, seed: int
    ) -> Float[np.ndarray, "1 components"]:
        """What a prompt's group takes, after so many steps, for the picture that is meant.

        Args:
            text: vector of the prompt.
            steps: that are shared, at least 1.
            seed: of the beginning, if there is none to share yet.
        """
        group = self._group(text)
        if group.served.get(steps, 0) % self._generator.recipe.group == 0:
            drawn = int(np.random.default_rng((seed, steps)).integers(2**62))
            group.meant[steps] = self._generator.started_together(group.text, steps, drawn)
            self.made += steps
        else:
            self.saved += steps
        group.served[steps] = group.served.get(steps, 0) + 1
        return group.meant[steps]

    def _group(self, text: Float[np.ndarray, "1 dim"]) -> _Group:
        if self._groups:
            cosines = np.concatenate([group.text for group in self._groups]) @ text[0]
            best = int(cosines.argmax())
            if cosines[best] >= self._together:
                return self._groups[best]
        group = _Group(text)
        self._groups.append(group)
        del self._groups[:-GROUPS_HELD]
        return group
