"""A device's endpoint, asked by the `openai` package: real market, real device, a tiny model."""

import json
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from edgepact.chat import endpoint
from edgepact.chat.endpoint import chat_endpoint
from edgepact.errors import InputError, MarketError
from edgepact.inference.gguf import known
from edgepact.jobs.classification import CLASSIFICATION
from edgepact.jobs.text import TEXT
from edgepact.market.asked import Desk
from edgepact.market.device import run_device
from edgepact.market.device_config import DeviceConfig
from edgepact.market.listening import listen_at
from edgepact.market.posted import FixedPrice
from edgepact.market.server import MarketServer
from edgepact.work import DevicePart
from tests.market.harness import PATIENCE_S, served, wait_until
from tests.tiny_llama import write_tiny_llama

SETTINGS = {"tokens_max": 40}
BLOCKS = 3
HELLO: Any = [{"role": "user", "content": "Hello there"}]

# One block is worth its price, and more than one is beyond what it has.
SMALL: dict[str, Any] = {"alpha": 1.0, "capacity": 2.5, "A": 1.0, "B": 1.0}


@dataclass
class Place:
    """Where a device answers."""

    url: str
    token: str
    results: Path
    clients: list[openai.OpenAI] = field(default_factory=list)

    def client(self, token: str | None = None) -> openai.OpenAI:
        made = openai.OpenAI(
            base_url=self.url, api_key=token or self.token, max_retries=0, timeout=PATIENCE_S
        )
        self.clients.append(made)
        return made

    def close(self) -> None:
        for each in self.clients:
            each.close()

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(known.VARIABLE, str(folder / "stages"))
        path = write_tiny_llama(folder / "tiny.gguf", blocks=BLOCKS)
        return known.text_model(path).folder


def market(folder: Path, model: Path, **settings: Any) -> AbstractContextManager[MarketServer]:
    """A market that pays for every block."""
    price = FixedPrice(price=1.0, steps_max=BLOCKS)
    return served(folder, job=TEXT, model=model, job_settings=SETTINGS, mechanism=price, **settings)


@contextmanager
def device_at(server: str, folder: Path, model: Path, index: int = 0) -> Iterator[Place]:
    """A device in a thread, which ends when its server has gone."""
    told: list[str] = []
    token_file = folder / f"chat-{index}.token"

    @contextmanager
    def opened(part: DevicePart) -> Iterator[Desk]:
        with chat_endpoint(part, port=0, token_file=token_file, say=told.append) as desk:
            yield desk

    config = DeviceConfig(
        server_url=server,
        name=f"phone-{index}",
        model=model,
        results=folder / f"{index}.jsonl",
        enrol_token=f"once-{index}",
        token_file=folder / f"{index}.token",
        away_timeout_s=1.0,
        job_settings=SETTINGS,
        **SMALL,
    )

    def run() -> None:
        with pytest.raises(MarketError):
            run_device(config, job=TEXT, opened=opened)

    thread = threading.Thread(target=run)
    thread.start()
    wait_until(lambda: told or not thread.is_alive())
    url = told[0].split()[5].rstrip(";")
    yield Place(url, token_file.read_text().strip(), folder / f"{index}.jsonl")
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


@pytest.fixture(scope="module")
def place(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("market")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edgepact.market.device.QUIET_S", 0.5)
        patch.setattr("edgepact.market.device.LOOK_S", 0.5)
        patch.setattr("edgepact.market.device.LOOK_IN_S", 1.0)
        device = None
        with market(folder, model, units_per_round=10_000) as server:
            device = device_at(server.url, folder, model)
            found = device.__enter__()
            yield found
            found.close()
        device.__exit__(None, None, None)


@pytest.fixture(scope="module")
def client(place: Place) -> openai.OpenAI:
    return place.client()


def test_it_tells_its_model(client: openai.OpenAI) -> None:
    (model,) = client.models.list().data
    assert client.models.retrieve(model.id) == model
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("another")


def name_of(client: openai.OpenAI) -> str:
    return client.models.list().data[0].id


def test_a_completion(client: openai.OpenAI) -> None:
    found = client.completions.create(model=name_of(client), prompt="Once upon", max_tokens=12)
    assert found.object == "text_completion"
    (choice,) = found.choices
    assert choice.text
    assert found.usage is not None
    assert 1 <= found.usage.completion_tokens <= 12
    ends = "length" if found.usage.completion_tokens == 12 else "stop"
    assert choice.finish_reason == ends
    assert found.usage.total_tokens == found.usage.prompt_tokens + found.usage.completion_tokens
    tokens: list[int] = [80, 81, 82]
    by_tokens = client.completions.create(model=name_of(client), prompt=tokens, max_tokens=4)
    assert by_tokens.usage is not None
    assert by_tokens.usage.prompt_tokens == 3


def test_a_stream_says_what_the_answer_in_one_piece_says(client: openai.OpenAI) -> None:
    name = name_of(client)
    whole = client.chat.completions.create(model=name, messages=HELLO, max_tokens=20)
    parts = list(
        client.chat.completions.create(
            model=name,
            messages=HELLO,
            max_tokens=20,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert parts[0].choices[0].delta.role == "assistant"
    text = "".join(part.choices[0].delta.content or "" for part in parts if part.choices)
    assert text == whole.choices[0].message.content
    assert parts[-1].usage == whole.usage
    assert parts[-2].choices[0].finish_reason == whole.choices[0].finish_reason
    assert len(parts) > 5
    pieces = client.completions.create(model=name, prompt="Hello", max_tokens=8, stream=True)
    told = client.completions.create(model=name, prompt="Hello", max_tokens=8)
    assert "".join(part.choices[0].text for part in pieces) == told.choices[0].text


def test_stop_ends_a_text_and_is_left_out(client: openai.OpenAI, place: Place) -> None:
    name = name_of(client)
    whole = client.completions.create(model=name, prompt="Hello", max_tokens=30)
    text = whole.choices[0].text
    assert whole.usage is not None
    at = len(text) // 2
    stop = text[at : at + 2]
    found = client.completions.create(model=name, prompt="Hello", max_tokens=30, stop=[stop, "@@"])
    assert found.choices[0].text == text[: text.index(stop)]
    assert found.choices[0].finish_reason == "stop"
    assert found.usage is not None
    assert found.usage.completion_tokens < whole.usage.completion_tokens
    lines = [json.loads(line) for line in place.results.read_text().splitlines()]
    *_, last = {line["piece"]: line for line in lines}.values()
    # No token was generated in vain, and what was generated is paid.
    assert last["tokens"] == last["units"] == found.usage.completion_tokens
    assert last["state"] in ("pending", "paid")


def test_a_seed_repeats_a_text(client: openai.OpenAI) -> None:
    name = name_of(client)

    def text(seed: int | None) -> str:
        return (
            client.completions.create(
                model=name, prompt="Hello", max_tokens=16, seed=seed, temperature=1.5
            )
            .choices[0]
            .text
        )

    assert text(7) == text(7)
    assert len({text(None) for _ in range(3)} | {text(8), text(7)}) >= 4


def test_logprobs(client: openai.OpenAI) -> None:
    name = name_of(client)
    found = client.chat.completions.create(
        model=name, messages=HELLO, max_tokens=5, logprobs=True, top_logprobs=3
    )
    told = found.choices[0].logprobs
    assert told is not None
    assert told.content is not None
    assert found.usage is not None
    assert len(told.content) == found.usage.completion_tokens
    for each in told.content:
        # It is greedy: the likeliest is the one that was drawn.
        assert each.top_logprobs[0].logprob == each.logprob <= 0
        assert len(each.top_logprobs) == 3
    old = client.completions.create(model=name, prompt="Hello", max_tokens=5, logprobs=2)
    probs = old.choices[0].logprobs
    assert probs is not None
    assert probs.tokens is not None
    assert probs.token_logprobs is not None
    assert len(probs.tokens) == len(probs.token_logprobs) == 5
    assert "".join(probs.tokens) == old.choices[0].text or "\ufffd" in "".join(probs.tokens)


def test_several_clients_at_once_each_get_their_own(client: openai.OpenAI, place: Place) -> None:
    name = name_of(client)

    def text(prompt: str) -> str:
        found = place.client().completions.create(model=name, prompt=prompt, max_tokens=16)
        return found.choices[0].text

    prompts = [f"Prompt {at}" for at in range(4)]
    alone = [text(prompt) for prompt in prompts]
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(text, prompts * 2)) == alone * 2


def test_what_a_round_cannot_take_goes_on_in_the_next(
    model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edgepact.market.device.QUIET_S", 0.2)
        patch.setattr("edgepact.market.device.LOOK_S", 0.2)
        patch.setattr("edgepact.market.device.LOOK_IN_S", 0.2)
        with market(tmp_path, model, units_per_round=12) as server:
            device = device_at(server.url, tmp_path, model)
            place = device.__enter__()
            client = place.client()
            name = name_of(client)

            def tokens(at: int) -> tuple[int, str]:
                found = client.completions.create(model=name, prompt=f"No. {at}", max_tokens=8)
                assert found.usage is not None
                return found.usage.completion_tokens, found.choices[0].finish_reason

            with ThreadPoolExecutor(4) as threads:
                for count, reason in threads.map(tokens, range(4)):
                    assert count == 8 or reason == "stop"
            place.close()
        device.__exit__(None, None, None)
    lines = [json.loads(line) for line in place.results.read_text().splitlines()]
    assert len({line["round"] for line in lines}) > 1
    refused, told = [line for line in lines if line["refused"]], capfd.readouterr().err
    assert refused
    for line in refused:
        assert f"what it did last in round {line['round']} is not paid: " in told


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("messages", []),
        ("messages", [{"role": "robot", "content": "x"}]),
        ("messages", [{"role": "user", "content": [{"type": "image_url"}]}]),
        ("messages", ["x"]),
        ("messages", [{"role": "user", "content": "\ud800"}]),
        ("messages", [{"role": "user", "content": [{"type": "text", "text": "a\udfff"}]}]),
        ("max_tokens", 0),
        ("max_tokens", True),
        ("max_completion_tokens", "9"),
        ("temperature", 2.5),
        ("top_p", -0.1),
        ("n", 2),
        ("tools", [{"type": "function"}]),
        ("frequency_penalty", 0.5),
        ("stop", ["a"] * 5),
        ("stop", [""]),
        ("seed", 0.5),
        ("top_logprobs", 3),
        ("stream", "yes"),
        ("stream_options", 1),
    ],
)
def test_a_wrong_field_is_named(place: Place, field: str, value: object) -> None:
    name = name_of(place.client())
    body = json.dumps({"model": name, "messages": HELLO, field: value})
    answer = httpx.post(f"{place.url}/chat/completions", content=body, headers=place.headers)
    assert answer.status_code == 400
    told = answer.json()["error"]
    assert told["type"] == "invalid_request_error"
    assert told["param"].startswith(field)


def test_errors_have_openais_shape(client: openai.OpenAI, place: Place) -> None:
    name = name_of(client)
    with pytest.raises(openai.NotFoundError) as unknown:
        client.chat.completions.create(model="gpt-4", messages=HELLO)
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as long:
        client.completions.create(model=name, prompt="word " * 200)
    assert long.value.code == "context_length_exceeded"
    with pytest.raises(openai.AuthenticationError) as wrong:
        place.client("another").models.list()
    assert wrong.value.code == "invalid_api_key"
    assert place.token not in str(wrong.value)
    chat = f"{place.url}/chat/completions"
    half = b'{"model": "%s", "prompt": "a\\ud800"}' % name.encode()
    answer = httpx.post(f"{place.url}/completions", content=half, headers=place.headers)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "prompt")
    for content in (b"{", b"[]", b"[" * 5000, b'{"n": NaN}', b"[" * 100_000, b"\xff"):
        answer = httpx.post(chat, content=content, headers=place.headers)
        assert answer.status_code == 400
        assert answer.json()["error"]["type"] == "invalid_request_error"
    answer = httpx.post(chat, content=b"x" * (3 << 20), headers=place.headers)
    assert answer.status_code == 413
    assert httpx.get(chat, headers=place.headers).status_code == 405
    assert httpx.get(f"{place.url}/nothing", headers=place.headers).status_code == 404


def test_only_who_is_on_this_machine_and_no_page_is_let_in(place: Place) -> None:
    models = f"{place.url}/models"
    for headers, status in (
        ({"Host": "evil.example"}, 421),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
    ):
        answer = httpx.get(models, headers=place.headers | headers)
        assert answer.status_code == status
        assert answer.json()["error"]["message"]
    assert httpx.get(models).status_code == 401
    assert httpx.get(models, headers={"Authorization": place.token}).status_code == 401
    assert httpx.get(models, headers=place.headers | {"Host": "localhost:1"}).status_code == 200


def test_who_goes_away_does_no_harm(client: openai.OpenAI, place: Place) -> None:
    name = name_of(client)
    before = len(place.results.read_text().splitlines())
    with client.completions.create(
        model=name, prompt="Hello", max_tokens=40, stream=True, temperature=1.0
    ) as stream:
        next(iter(stream))
    wait_until(lambda: len(place.results.read_text().splitlines()) > before)
    found = client.completions.create(model=name, prompt="Hello", max_tokens=3)
    assert found.choices[0].text


def test_what_is_said_and_heard_stands_in_no_file(client: openai.OpenAI, place: Place) -> None:
    secret = "a-word-of-mine"
    found = client.completions.create(model=name_of(client), prompt=secret, max_tokens=4)
    assert found.choices[0].text
    for path in place.results.parent.iterdir():
        if path.is_file() and not path.name.startswith("chat-"):
            content = path.read_bytes()
            assert secret.encode() not in content
            assert place.token.encode() not in content


def test_the_token_file_is_private_and_kept(model: Path, tmp_path: Path) -> None:
    part = TEXT.device_part(model, None, SETTINGS)
    path = tmp_path / "token"
    said: list[str] = []
    for _ in range(2):
        with chat_endpoint(part, port=0, token_file=path, say=said.append):
            token = path.read_text().strip()
            assert token not in " ".join(said)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text().strip() == token
    path.chmod(0o644)
    with pytest.raises(InputError, match="its owner alone"):
        chat_endpoint(part, port=0, token_file=path).__enter__()
    other = CLASSIFICATION.device_part(None, None, {})
    with pytest.raises(InputError, match="writes text"):
        chat_endpoint(other, port=0, token_file=path).__enter__()


def test_without_a_round_requests_are_told_to_come_back(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgepact.chat.writing.BEGIN_S", 0.0)
    monkeypatch.setattr("edgepact.chat.writing.LOOK_S", 0.05)
    part = TEXT.device_part(model, None, SETTINGS)
    said: list[str] = []
    with chat_endpoint(part, port=0, token_file=tmp_path / "token", say=said.append) as desk:
        url = said[0].split()[5].rstrip(";")
        place = Place(url, (tmp_path / "token").read_text().strip(), tmp_path)
        client = place.client()
        name = name_of(client)
        with pytest.raises(openai.InternalServerError) as none:
            client.completions.create(model=name, prompt="Hello")
        assert none.value.response.headers["Retry-After"]
        assert len(desk) == 0 or not desk.wait(0.0)
        waiting = [desk.ask(lambda: None) for _ in range(16)]
        with pytest.raises(openai.RateLimitError):
            client.completions.create(model=name, prompt="Hello")
        assert len(waiting) == len(desk)
        place.close()


def test_a_device_that_holds_all_blocks_goes_on_without_its_server(
    model: Path, tmp_path: Path
) -> None:
    with market(tmp_path, model) as server:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "edgepact", "device", "--server", server.url),
                *("--job", "text", "--job-settings", json.dumps(SETTINGS), "--model", str(model)),
                *("--alpha", "1", "--capacity", "40", "--A", "1", "--B", "1", "--token", "once-0"),
                *("--chat", "0", "--away-timeout-s", "1"),
            ],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        assert process.stdout is not None
        try:
            url = process.stdout.readline().split()[5].rstrip(";")
            token = (tmp_path / "device-1.chat-token").read_text().strip()
            place = Place(url, token, tmp_path)
            client = place.client()
            name = name_of(client)
            split = client.completions.create(model=name, prompt="Hello", max_tokens=12)
            server.stop()
            alone = client.completions.create(model=name, prompt="Hello", max_tokens=12)
            assert alone.choices[0].text == split.choices[0].text
            again = client.completions.create(model=name, prompt="Hello", max_tokens=12)
            assert again.choices == alone.choices
            place.close()
            process.send_signal(signal.SIGTERM)
            said, _ = process.communicate(timeout=PATIENCE_S)
            assert process.returncode == 0, said
            assert token not in said
        finally:
            process.kill()
            process.communicate()


def test_it_listens_on_loopback_alone() -> None:
    with listen_at(endpoint.HOST, 0, 8) as listener:
        host, port = listener.getsockname()
        assert host == "127.0.0.1"
        with pytest.raises(MarketError, match="in use"):
            listen_at(endpoint.HOST, port, 8)
