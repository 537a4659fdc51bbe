"""Work that is nearly the same as work that was delivered before, by whomever.

Two pieces whose sketches lie near each other are one piece of work to an audit: a copy of a picture
with a bit changed passes wherever the picture does. So the second is not taken, within so many
rounds. Sketches of that window are held in one array; used by one event loop.
"""

import numpy as np

from edgepact.work import NEAR_REPEAT_DISTANCE, SKETCH_NUMBERS_MAX

SKETCHES_MAX = 65_536
"""Most sketches that are held: the oldest are forgotten."""


class Repeats:
    """Sketches of delivered work.

    Args:
        rounds: of the window, from the newest back.
    """

    def __init__(self, rounds: int) -> None:
        self._rounds = rounds
        self._newest = 0
        self._keys: list[tuple[int, str, str]] = []
        self._sketches = np.empty((256, SKETCH_NUMBERS_MAX), np.float32)

    def __len__(self) -> int:
        return len(self._keys)

    def take(self, number: int, device: str, piece: str, sketch: np.ndarray) -> bool:
        """Notes a piece, unless there is one nearly the same.

        Args:
            number: of its round.
            device, piece: whose, and its id; the same piece again is no repeat of itself.
            sketch: of it, float32.

        Returns:
            Whether it was noted.
        """
        self._forget_before(number - self._rounds + 1)
        row = np.zeros(SKETCH_NUMBERS_MAX, np.float32)
        row[: sketch.size] = sketch
        count = len(self._keys)
        apart = np.square(self._sketches[:count] - row).sum(axis=1)
        for at in np.flatnonzero(apart < NEAR_REPEAT_DISTANCE**2):
            return self._keys[at][1:] == (device, piece)
        if count == len(self._sketches):
            more = np.empty((2 * count, SKETCH_NUMBERS_MAX), np.float32)
            more[:count] = self._sketches
            self._sketches = more
        self._sketches[count] = row
        self._keys.append((number, device, piece))
        if len(self._keys) > SKETCHES_MAX:
            self._keep(np.arange(1, len(self._keys)))
        return True

    def drop(self, device: str, piece: str) -> None:
        """Forgets a piece that was not taken after all."""
        kept = [at for at, key in enumerate(self._keys) if key[1:] != (device, piece)]
        if len(kept) < len(self._keys):
            self._keep(np.array(kept, int))

    def _forget_before(self, number: int) -> None:
        if number > self._newest:
            self._newest = number
            kept = [at for at, key in enumerate(self._keys) if key[0] >= number]
            if len(kept) < len(self._keys):
                self._keep(np.array(kept, int))

    def _keep(self, places: np.ndarray) -> None:
        self._sketches[: len(places)] = self._sketches[places]
        self._keys = [self._keys[at] for at in places]
