"""What the market knows of work: digests, seeds, evidence."""

import numpy as np

from edgepact.market.evidence import (
    digest,
    evidence_key,
    pack_evidence,
    secret_of,
    session_seed,
    unpack_evidence,
)


def test_digest_tells_what_came_and_in_which_order() -> None:
    a, b = np.ones((1, 2), np.float32), np.zeros((1, 2), np.int8)
    both = digest(b"", {"a": a, "b": b})
    assert digest(b"", {"b": b, "a": a}) == both
    others = [
        digest(b"", {"a": a}),
        digest(b"", {"a": a.reshape(2, 1), "b": b}),
        digest(b"", {"a": b, "b": a}),
        digest(b"", {"a": a, "b": b, "c": (b"x", b"")}),
        digest(b"", {"a": a, "b": b, "c": (b"", b"x")}),
        digest(both, {"a": a, "b": b}),
    ]
    assert len({both, *others}) == 1 + len(others)


def test_key_of_evidence_is_of_one_piece() -> None:
    secret = secret_of(3)
    keys = {evidence_key(secret, device, piece) for device in "ab" for piece in "12"}
    assert len(keys) == 4
    assert evidence_key(secret_of(3), "a", "1") in keys
    assert secret_of(None) != secret_of(None)
    assert secret_of(3) != secret_of(4)


def test_seeds_follow_from_secret_device_and_piece() -> None:
    seeds = {
        session_seed(secret_of(secret), device, piece)
        for secret in (1, 2)
        for device in ("a", "b")
        for piece in ("1", "2")
    }
    assert len(seeds) == 8
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert session_seed(secret_of(1), "a", "1") in seeds


def test_keys_of_evidence_follow_from_secret_device_and_piece() -> None:
    keys = {
        evidence_key(secret_of(secret), device, piece)
        for secret in (1, 2)
        for device in ("a", "b")
        for piece in ("1", "2")
    }
    assert len(keys) == 8
    assert {len(key) for key in keys} == {32}
    assert evidence_key(secret_of(1), "a", "1") in keys


def test_evidence_is_kept_exactly() -> None:
    for evidence in ([], [b""], [b"abc", b"", b"\x00" * 9]):
        assert unpack_evidence(pack_evidence("int8", evidence)) == ("int8", evidence)
