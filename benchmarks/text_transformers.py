"""What transformers says of texts with a GGUF file's weights, unpacked to 32 bits.

For `benchmarks.text`, which runs it with a Python that has `torch`, `transformers`, `accelerate`
and `gguf`: `python text_transformers.py GGUF ASKED TOLD`.

ASKED is JSON: prompts as lists of tokens, and how many tokens to write. TOLD becomes an `.npz` with
the likeliest tokens that were written, `(prompts, tokens)`, and the logits at their places,
`(prompts, tokens, vocabulary)`. It imports nothing of edgepact: it is another program.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM


def main() -> None:
    gguf, asked, told = map(Path, sys.argv[1:4])
    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.float32
    ).eval()
    wanted = json.loads(asked.read_text())
    tokens, logits = [], []
    with torch.no_grad():
        for prompt in wanted["prompts"]:
            said: list[int] = []
            heard = []
            came, past = torch.tensor([prompt]), None
            for _ in range(wanted["tokens"]):
                found = model(came, past_key_values=past, use_cache=True)
                past = found.past_key_values
                heard.append(found.logits[0, -1].numpy())
                said.append(int(heard[-1].argmax()))
                came = torch.tensor([said[-1:]])
            tokens.append(said)
            logits.append(np.stack(heard))
    np.savez(told, tokens=np.array(tokens), logits=np.stack(logits))


if __name__ == "__main__":
    main()
