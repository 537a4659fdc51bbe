"""What devices show of their pieces: only with consent, only what is small and harmless."""

import base64
import io
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from edgepact.errors import InputError
from edgepact.exhibit import PICTURE_BYTES_MAX, SOUND_BYTES_MAX, TEXT_CHARS_MAX, Exhibit, shortened
from edgepact.inference.models import samples
from edgepact.inference.pictures import thumbnail
from edgepact.jobs.classification import DeviceHalf
from edgepact.jobs.speech.sound import FRAME, as_wav, excerpt
from edgepact.market.device import run_device
from edgepact.market.device_config import DeviceConfig
from edgepact.market.page import watch as watch_module
from edgepact.market.page.watch import EXHIBITS_EACH
from edgepact.market.protocol.exhibits import EXHIBIT_BYTES_MAX, exhibit_json, read_exhibit
from edgepact.market.server import MarketServer
from tests.market.harness import DEVICE, Device, image, served

Table = dict[str, Any]


def in_text(content: bytes) -> str:
    return base64.b64encode(content).decode()


def png(*, width: int = 4, height: int = 4, rows: bytes | None = None, more: bytes = b"") -> bytes:
    """A grey PNG by hand, so that any part of it can be wrong."""

    def chunk(name: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + checksum

    rows = bytes((1 + width) * height) if rows is None else rows
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = (
        chunk(b"IHDR", head),
        more and chunk(b"tEXt", more),
        chunk(b"IDAT", zlib.compress(rows)),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND", b"")


def wav(samples: bytes = bytes(200), rate: int = 12_000) -> bytes:
    return as_wav(samples, rate)


GOOD: Table = {
    "given": "<b>a prompt</b>\nof two lines",
    "answer": "a label",
    "picture": in_text(png()),
    "sound": in_text(wav()),
}

BOMB = png(rows=bytes(64 * 2**20))
"""64 MiB of pixels in 64 KB, behind a head that says 16."""

HOSTILE: dict[str, tuple[str, Table]] = {
    "nothing": ("at least one", {}),
    "nothing in it": ("at least one", {"answer": ""}),
    "another field": ("none but given", {"answer": "a", "script": "alert(1)"}),
    "no text": ("given: expected a text", {"given": 3}),
    "a long text": ("answer: expected a text", {"answer": "a" * (TEXT_CHARS_MAX + 1)}),
    "a control character": ("U+001B", {"answer": "\x1b[2J"}),
    "a turned text": ("U+202E", {"given": "abc\u202egnp.exe"}),
    "half a character": ("U+D800", {"given": "\ud800"}),
    "no base 64": ("no base 64", {"picture": "<svg onload=alert(1)>"}),
    "a long file": ("picture: expected", {"picture": in_text(bytes(PICTURE_BYTES_MAX + 1))}),
    "a long sound": ("sound: expected", {"sound": in_text(bytes(SOUND_BYTES_MAX + 1))}),
    "a page": ("a PNG file", {"picture": in_text(b"<html><script>alert(1)</script>")}),
    "a JPEG": ("a PNG file", {"picture": in_text(b"\xff\xd8\xff\xe0" + bytes(64))}),
    "a wide picture": ("160 x 160", {"picture": in_text(png(width=4096, height=1))}),
    "no pixels": ("160 x 160", {"picture": in_text(png(height=0))}),
    "more rows": ("20 bytes of rows", {"picture": in_text(png(rows=bytes(4096)))}),
    "fewer rows": ("20 bytes of rows", {"picture": in_text(png(rows=bytes(19)))}),
    "an unknown filter": ("filters", {"picture": in_text(png(rows=b"\x09" * 20))}),
    "words in it": ("the chunks IHDR", {"picture": in_text(png(more=b"Comment\x00hello"))}),
    "words behind it": ("whole", {"picture": in_text(png() + b"<script>")}),
    "a part of it": ("whole", {"picture": in_text(png()[:-3])}),
    "another byte": ("checksums", {"picture": in_text(png()[:40] + b"\x00" + png()[41:])}),
    "only a head": ("the chunks IHDR", {"picture": in_text(png()[:33])}),
    "no sound": ("a WAV file", {"sound": in_text(b"RIFF")}),
    "a video": ("head of 44 bytes", {"sound": in_text(b"\x1a\x45\xdf\xa3" + bytes(200))}),
    "a longer sound": ("head of 44 bytes", {"sound": in_text(wav() + b"more")}),
    "a sound of nothing": ("head of 44 bytes", {"sound": in_text(wav(b""))}),
    "a fast sound": ("samples a second", {"sound": in_text(wav(rate=96_000))}),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_cannot_be_shown_is_refused_by_its_field(case: str) -> None:
    words, body = HOSTILE[case]
    with pytest.raises(InputError, match=re.escape(words)):
        read_exhibit(body)


def test_a_picture_that_inflates_to_too_much_is_never_inflated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    most = []
    inflating = zlib.decompressobj

    class Watched:
        def __init__(self) -> None:
            self.own = inflating()
            self.eof, self.unused_data = False, b""

        def decompress(self, data: bytes, most_bytes: int) -> bytes:
            most.append(most_bytes)
            return self.own.decompress(data, most_bytes)

    monkeypatch.setattr(zlib, "decompressobj", Watched)
    small = png(rows=bytes(20 * 2**20))
    assert len(small) < PICTURE_BYTES_MAX < 20 * 2**20
    with pytest.raises(InputError, match="bytes of rows"):
        read_exhibit({"picture": in_text(small)})
    assert most == [21]
    with pytest.raises(InputError, match="at most"):
        read_exhibit({"picture": in_text(BOMB)})


def test_what_devices_make_can_be_shown() -> None:
    noise = np.random.default_rng(0)
    loud = noise.integers(-32768, 32767, 4000 * FRAME, np.int16).tobytes()
    for mode, shape in (("RGB", (900, 1200, 3)), ("L", (700, 300)), ("RGB", (1, 5000, 3))):
        pixels = noise.integers(0, 255, shape, np.uint8)
        small = thumbnail(Image.fromarray(pixels, mode))
        told = Exhibit(given=shortened("a\x00\u202eb" * 999), picture=small, sound=excerpt(loud))
        assert read_exhibit(exhibit_json(told)) == told
        assert max(Image.open(io.BytesIO(small)).size) <= 160
    short = noise.integers(-32768, 32767, FRAME, np.int16).tobytes()
    assert read_exhibit(exhibit_json(Exhibit(sound=excerpt(short)))).sound


# ---------------------------------------------------------------- over HTTP


@pytest.fixture
def server(tmp_path: Path) -> Iterator[MarketServer]:
    with served(tmp_path, units_per_round=200, devices_min=1) as server:
        yield server


@pytest.fixture
def device(server: MarketServer) -> Iterator[Device]:
    device = Device(server.url, "once-0", "cam-0")
    device.commit(int(device.offer()["round"]), 0)
    yield device
    device.http.close()


def bring(device: Device, *pieces: str) -> None:
    """Delivers pieces of which the server does all."""
    for piece in pieces:
        assert device.infer(0, 1, piece, {"image": (image(),)}).status_code == 200


def show(device: Device, piece: str, body: Table | bytes) -> httpx.Response:
    asked = {"content": body} if isinstance(body, bytes) else {"json": body}
    return device.http.post("/market/exhibit", params={"piece": piece}, **asked)  # type: ignore[arg-type]


def seen(server: MarketServer, device: str, piece: str, token: str = "") -> httpx.Response:
    headers = {"Authorization": f"Bearer {token or server.operator_token}"}
    asked = {"device": device, "piece": piece}
    return httpx.get(f"{server.url}/page/exhibit", params=asked, headers=headers)


def test_what_a_device_shows_is_seen_by_the_operator_alone(
    server: MarketServer, device: Device
) -> None:
    assert device.offer()["show_every_s"] > 0
    bring(device, "a")
    assert seen(server, "cam-0", "a").status_code == 404
    assert show(device, "a", GOOD).status_code == 200
    assert seen(server, "cam-0", "a").json() == GOOD
    assert seen(server, "cam-0", "a").headers["cache-control"] == "no-store"
    for token in ("wrong", device.token):
        assert seen(server, "cam-0", "a", token).status_code == 401
    again = show(device, "a", {"answer": "another"})
    assert (again.status_code, "already" in again.text) == (409, True)
    assert seen(server, "cam-0", "a").json() == GOOD


def test_nobody_shows_what_he_has_not_brought(server: MarketServer, device: Device) -> None:
    bring(device, "a")
    assert show(device, "b", GOOD).status_code == 409
    other = Device(server.url, "once-1", "cam-1")
    assert show(other, "a", GOOD).status_code == 409
    other.http.close()


def test_of_two_exhibits_of_a_piece_that_come_beside_each_other_the_first_is_kept(
    server: MarketServer, device: Device
) -> None:
    """The second one was let in before the first was read: where the device has as many as it may,
    room was made for it by dropping the piece itself, and the server broke."""
    names = [f"beside-{at}" for at in range(EXHIBITS_EACH)]
    bring(device, *names)
    watch = server._app.state.watch
    for name in names:
        watch.show("cam-0", name, Exhibit(answer=name))
    watch.show("cam-0", names[0], Exhibit(answer="another"))
    assert [seen(server, "cam-0", name).json()["answer"] for name in names] == names


def test_a_server_takes_no_more_than_it_says(server: MarketServer, device: Device) -> None:
    bring(device, *"abcdef")
    assert show(device, "a", {"picture": in_text(b"<html>")}).status_code == 400
    assert show(device, "a", bytes(EXHIBIT_BYTES_MAX + 1)).status_code == 413
    assert show(device, "a", b'{"answer": "a", "answer": "b"}').status_code == 400
    assert show(device, "a", GOOD).status_code == 200
    many = show(device, "b", GOOD)
    assert (many.status_code, "too many" in many.text) == (409, True)
    assert seen(server, "cam-0", "b").status_code == 404


def test_a_few_are_kept_and_all_others_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch_module, "PIECES_MAX", 3)
    with served(tmp_path, units_per_round=200) as server:
        device = Device(server.url, "once-0", "cam-0")
        device.commit(int(device.offer()["round"]), 0)
        watch = server._app.state.watch
        names = [f"shown-{at}" for at in range(EXHIBITS_EACH + 2)]
        for name in names:
            bring(device, name)
            watch.show("cam-0", name, Exhibit(answer=name))  # more often than a device may
        bring(device, *(f"plain-{at}" for at in range(5)))
        device.http.close()
        kept = [name for name in names if seen(server, "cam-0", name).status_code == 200]
        assert kept == names[-EXHIBITS_EACH:]
        assert len(watch._pieces) == 3 + EXHIBITS_EACH


def deliver_both(server: MarketServer, folder: Path, *, show_pieces: bool) -> None:
    """A real device delivers the two pieces of a round."""
    config = DeviceConfig(
        server_url=server.url,
        name="cam-0",
        inputs=samples(),
        results=folder / "results.jsonl",
        enrol_token="once-0",
        show_pieces=show_pieces,
        **DEVICE,
    )
    assert run_device(config).units == 2


@pytest.mark.parametrize("agrees", [True, False])
def test_a_device_shows_its_pieces_only_where_its_owner_agrees(
    tmp_path: Path, agrees: bool
) -> None:
    with served(tmp_path, units_per_round=2, rounds=1, price=3.0) as server:
        deliver_both(server, tmp_path, show_pieces=agrees)
        kept = list(server._app.state.watch._exhibits.items())
    assert len(kept) == (1 if agrees else 0)  # of two that came within a moment
    for (name, _), exhibit in kept:
        assert name == "cam-0"
        assert exhibit.answer
        assert Image.open(io.BytesIO(exhibit.picture)).size == (28, 28)


def raising(error: BaseException) -> Callable[..., Exhibit]:
    def fails(*_: object) -> Exhibit:
        raise error

    return fails


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (raising(ZeroDivisionError()), "exhibit failed: ZeroDivisionError"),
        (raising(SystemExit()), "exhibit failed: SystemExit"),
        (lambda *_: "a text", "exhibit is no Exhibit of texts and bytes: AttributeError"),
        (lambda *_: Exhibit(picture=b"<svg>"), "exhibit cannot be shown: exhibit: picture: exp"),
    ],
)
def test_an_exhibit_that_fails_costs_no_work_and_is_told_once(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    made: Callable[..., Exhibit],
    words: str,
) -> None:
    monkeypatch.setattr(DeviceHalf, "exhibit", made)
    monkeypatch.setattr(watch_module, "LOOKED_AT_S", 1e-6)
    monkeypatch.setattr(watch_module, "UNSEEN_S", 1e-6)  # each piece is to be shown
    with served(tmp_path, units_per_round=2, rounds=1, price=3.0) as server:
        deliver_both(server, tmp_path, show_pieces=True)
        assert not server._app.state.watch._exhibits
    assert capsys.readouterr().err.count(words) == 1


def test_a_market_without_a_page_asks_for_nothing(tmp_path: Path) -> None:
    with served(tmp_path, page=False) as server:
        device = Device(server.url, "once-0", "cam-0")
        assert "show_every_s" not in device.offer()
        assert show(device, "a", GOOD).status_code == 409
        device.http.close()
