"""Several texts through a block together: every bit as alone, whoever is beside."""

import numpy as np
import pytest

from edgepact.inference.decoder import Decoder, State, States
from edgepact.inference.gguf.file import read_gguf
from edgepact.inference.gguf.folder import TextModel, read_text_model
from edgepact.inference.gguf.stages import write_stages
from edgepact.inference.together import Rows, Together, alike
from tests.tiny_llama import write_tiny_llama


@pytest.fixture(scope="module", params=["Q4_1", "Q8_0", "F32"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TextModel:
    folder = tmp_path_factory.mktemp("model")
    path = write_tiny_llama(folder / "tiny.gguf", kind=request.param, blocks=3)
    write_stages(read_gguf(path), folder / "stages")
    return read_text_model(folder / "stages")


def through(
    decoder: Decoder, together: Together, states: list[State], tokens: list[list[int]], singly: bool
) -> list[np.ndarray]:
    """Chunks of some texts behind all blocks."""
    hidden = [decoder.embed(np.array(each)) for each in tokens]
    for state, each in zip(states, tokens, strict=True):
        decoder.begin(state, len(each))
    for block in states[0].blocks:
        rows = [
            Rows(state=state, hidden=each, singly=singly)
            for state, each in zip(states, hidden, strict=True)
        ]
        hidden = together.block(block, rows)
    for state, each in zip(states, tokens, strict=True):
        decoder.end(state, len(each))
    return hidden


def test_chunks_and_single_tokens_pass_as_they_do_alone(model: TextModel) -> None:
    decoder, states = Decoder(model), States(model)
    together, every = Together(decoder), range(1, model.sizes.blocks + 1)
    if not alike(decoder, together):
        pytest.skip("on this processor rows change each other")
    rng = np.random.default_rng(3)
    beside, alone = ([states.new(every) for _ in range(4)] for _ in range(2))
    # Long enough for buffers to grow between two steps.
    for lengths in ((1, 9, 30, 60), (1, 1, 1, 1), (5, 1, 40, 8), (1, 1, 1, 1)):
        tokens = [rng.integers(0, 200, length).tolist() for length in lengths]
        found = through(decoder, together, beside, tokens, singly=False)
        for state, own, came in zip(alone, tokens, found, strict=True):
            assert np.array_equal(decoder.blocks(state, decoder.embed(np.array(own))), came)


def test_rows_that_come_singly_are_tokens_one_after_another(model: TextModel) -> None:
    decoder, states = Decoder(model), States(model)
    together, every = Together(decoder), range(1, model.sizes.blocks + 1)
    if not alike(decoder, together):
        pytest.skip("on this processor rows change each other")
    tokens = [[7, 8, 9, 10], [3, 120]]
    beside, alone = ([states.new(every) for _ in tokens] for _ in range(2))
    found = through(decoder, together, beside, tokens, singly=True)
    for state, own, came in zip(alone, tokens, found, strict=True):
        assert np.array_equal(decoder.singly(state, decoder.embed(np.array(own))), came)


def test_rows_that_change_each_other_are_noticed(
    model: TextModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder = Decoder(model)
    together = Together(decoder)
    inner = together.block

    def mixed_up(block: int, texts: list[Rows]) -> list[np.ndarray]:
        found = inner(block, texts)
        found[-1] = found[-1] * np.float32(1 + 1e-6) if len(texts) > 1 else found[-1]
        return found

    monkeypatch.setattr(together, "block", mixed_up)
    assert not alike(decoder, together)


def test_memory_is_never_taken_from_who_is_on_the_way(model: TextModel) -> None:
    decoder, states = Decoder(model), States(model, count_max=2)
    every = range(1, model.sizes.blocks + 1)
    first, second, third = (states.new(every) for _ in range(3))
    for state in (first, second, third):
        decoder.begin(state, 1)
    assert not any(each.evicted for each in (first, second, third))
    decoder.end(first, 1)
    decoder.begin(states.new(every), 1)
    assert first.evicted
    assert not second.evicted
    assert not third.evicted
