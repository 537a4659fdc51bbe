"""Splits are partitions, and the concentration does what it says."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepact.errors import InputError
from edgepact.training.federated.shards import dirichlet_shards


@given(
    labels=st.lists(st.integers(0, 9), min_size=1, max_size=300),
    clients=st.integers(1, 40),
    concentration=st.sampled_from([1e-6, 0.05, 0.5, 1.0, 100.0, math.inf]),
    seed=st.integers(0, 2**31 - 1),
)
def test_every_image_is_held_by_exactly_one_client(
    labels: list[int], clients: int, concentration: float, seed: int
) -> None:
    clients = min(clients, len(labels))
    shards = dirichlet_shards(np.array(labels, np.uint8), clients, concentration, seed=seed)
    assert len(shards) == clients
    assert sorted(np.concatenate(shards)) == list(range(len(labels)))
    assert min(len(shard) for shard in shards) >= 1


def test_infinite_concentration_deals_each_class_out_evenly() -> None:
    labels = np.repeat(np.arange(10), 103).astype(np.uint8)
    shards = dirichlet_shards(labels, 10, math.inf, seed=3)
    counts = np.array([np.bincount(labels[shard], minlength=10) for shard in shards])
    assert counts.max() - counts.min() <= 1
    assert counts.sum(axis=1).max() - counts.sum(axis=1).min() <= 10


def test_smaller_concentration_is_less_even() -> None:
    labels = np.repeat(np.arange(10), 500).astype(np.uint8)

    def largest_class_share(concentration: float) -> float:
        shards = dirichlet_shards(labels, 20, concentration, seed=0)
        counts = [np.bincount(labels[shard], minlength=10) for shard in shards]
        return float(np.mean([count.max() / count.sum() for count in counts]))

    shares = [largest_class_share(each) for each in (0.05, 0.5, 5.0, 500.0, math.inf)]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > 0.7
    assert shares[-1] == pytest.approx(0.1, abs=0.01)


def test_shares_follow_the_dirichlet_distribution() -> None:
    # Of a symmetric Dirichlet over n clients a share has variance (1/n)(1 - 1/n)/(n a + 1).
    labels, clients, concentration = np.zeros(2000, np.uint8), 5, 2.0
    shares = np.array(
        [
            [
                len(shard) / len(labels)
                for shard in dirichlet_shards(labels, clients, concentration, seed=seed)
            ]
            for seed in range(400)
        ]
    )
    expected = (1 / clients) * (1 - 1 / clients) / (clients * concentration + 1)
    assert shares.var() == pytest.approx(expected, rel=0.1)


def test_the_seed_decides() -> None:
    labels = np.repeat(np.arange(10), 30).astype(np.uint8)
    one, same, other = (dirichlet_shards(labels, 6, 1.0, seed=seed) for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(one, same, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(("clients", "concentration"), [(0, 1.0), (11, 1.0), (5, 0.0)])
def test_what_cannot_be_split_is_refused(clients: int, concentration: float) -> None:
    with pytest.raises(InputError):
        dirichlet_shards(np.zeros(10, np.uint8), clients, concentration, seed=0)
