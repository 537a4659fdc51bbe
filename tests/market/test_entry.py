"""Which names a server answers to."""

import pytest

from edgepact.market.entry import Entry


async def _nothing(*_: object) -> None: ...


@pytest.mark.parametrize(
    ("host", "known"),
    [
        ("market.example", True),
        ("MARKET.example.:8443", True),
        ("localhost:80", True),
        ("127.0.0.1", True),
        ("[fe80::1]:8080", True),
        ("market.example.evil.example", False),
        ("evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("localhost:evil", False),
        ("localhost:", False),
        ("[::1", False),
        ("[::1]evil", False),
        ("", False),
    ],
)
def test_names_of_the_server(host: str, known: bool) -> None:
    assert Entry(_nothing, ["Market.example"]).knows(host) is known
