"""Work that is nearly the same is known again, within its window and by whomever."""

import numpy as np

from edgepact.market.repeats import Repeats
from edgepact.work import NEAR_REPEAT_DISTANCE


def sketch(seed: int, off: float = 0.0) -> np.ndarray:
    made = np.random.default_rng(seed).normal(0.0, 1.0, 16).astype(np.float32)
    made[0] += np.float32(off)
    return made


def test_near_work_is_taken_once_within_the_window() -> None:
    held = Repeats(2)
    assert held.take(1, "a", "1", sketch(1))
    assert held.take(1, "a", "1", sketch(1))  # the same piece over again
    for device, piece in (("a", "2"), ("b", "1")):
        assert not held.take(1, device, piece, sketch(1, 0.9 * NEAR_REPEAT_DISTANCE))
    assert held.take(1, "b", "1", sketch(1, 1.1 * NEAR_REPEAT_DISTANCE))
    assert not held.take(2, "b", "2", sketch(1))
    assert held.take(3, "b", "2", sketch(1))  # the first round has left the window
    assert len(held) == 1


def test_what_was_not_taken_after_all_is_forgotten() -> None:
    held = Repeats(3)
    for seed in range(600):
        assert held.take(1, "a", f"{seed}", 50 * sketch(seed))
    assert not held.take(1, "b", "x", 50 * sketch(300))
    held.drop("a", "300")
    assert len(held) == 599
    assert held.take(1, "b", "x", 50 * sketch(300))
    assert not held.take(1, "b", "y", 50 * sketch(599))
