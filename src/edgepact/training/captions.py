"""The captions the text encoder learns from, and those it never sees.

A caption is a prompt template with a name of the class in it. Templates of
real words teach how prompts look; templates of made-up words teach the encoder
to pass over whatever is not a garment, which is what carries over to prompts
it has never seen. The held-out lists measure that: nothing here feeds them to
the training, and a test keeps them out of it.
"""

import itertools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int32

from edgepact.inference.zero_shot import prompt_bytes
from edgepact.training.fashion_mnist import LABELS

CAPTION_BYTES_MAX = 40

# What a knowledge base is built from by default.
TEMPLATES = (
    "a photo of a {}",
    "a picture of a {}",
    "a grey photo of a {}",
    "this is a {}",
    "{}",
)

# Seen by nobody but the measurement. The first eight showed that single prompts could still fail
# after the joint training, hence the second stage; the others were written before that stage
# was first run and have decided nothing.
FIRST_HELD_OUT_TEMPLATES = (
    "a drawing of one {}",
    "my favourite {}",
    "someone bought that {} today",
    "catalogue entry: {}",
    "an x-ray scan of his {}",
    "we found her {} under our bed",
    "{}, rendered by computers",
    "is it really just another {}?",
)
LATE_HELD_OUT_TEMPLATES = (
    "{} seen from above",
    "please bring me a {}",
    "grandma's best {}",
    "which {} would you take?",
    "an oil painting of some {}",
    "{}: size M, hardly worn",
    "not a hat but a {}",
    "a {} lying on the kitchen floor",
)
HELD_OUT_TEMPLATES = FIRST_HELD_OUT_TEMPLATES + LATE_HELD_OUT_TEMPLATES

# Names of each class seen in training; the first is the label itself.
NAMES: dict[str, tuple[str, ...]] = {
    "t-shirt": ("t-shirt", "tee", "tee shirt", "tshirt", "short-sleeved top"),
    "trouser": ("trouser", "trousers", "pants", "slacks", "pair of trousers"),
    "pullover": ("pullover", "sweater", "jumper", "sweatshirt", "knitted jumper"),
    "dress": ("dress", "gown", "frock", "sundress", "evening dress"),
    "coat": ("coat", "overcoat", "jacket", "winter coat", "parka"),
    "sandal": ("sandal", "sandals", "flip-flop", "open-toed shoe", "strappy shoe"),
    "shirt": ("shirt", "blouse", "button-up shirt", "collared shirt", "long-sleeved shirt"),
    "sneaker": ("sneaker", "sneakers", "trainer", "running shoe", "tennis shoe"),
    "bag": ("bag", "handbag", "purse", "satchel", "tote bag"),
    "ankle boot": ("ankle boot", "ankle boots", "boot", "bootie", "leather boot"),
}

# Never seen, but built around a seen word: the encoder can work these out.
HELD_OUT_PHRASES: dict[str, str] = {
    "t-shirt": "cotton tee",
    "trouser": "corduroy pants",
    "pullover": "woollen sweater",
    "dress": "ball gown",
    "coat": "denim jacket",
    "sandal": "beach sandal",
    "shirt": "silk blouse",
    "sneaker": "gym sneaker",
    "bag": "canvas handbag",
    "ankle boot": "chelsea boot",
}

# Never seen and without a seen word: only a model trained on far more text could know these.
HELD_OUT_SYNONYMS: dict[str, str] = {
    "t-shirt": "undervest",
    "trouser": "chinos",
    "pullover": "hoodie",
    "dress": "robe",
    "coat": "anorak",
    "sandal": "huarache",
    "shirt": "polo",
    "sneaker": "plimsoll",
    "bag": "backpack",
    "ankle boot": "brogue",
}

_MEDIA = ("photo", "picture", "image", "snapshot", "photograph", "shot", "close-up")
_ADJECTIVES = ("", "small ", "grey ", "blurry ", "cropped ", "good ", "bad ", "dark ", "bright ")
_FORMS = (
    "{}",
    "a {}",
    "the {}",
    "this is a {}",
    "here is the {}",
    "look at this {}",
    "a {} for sale",
    "a {} on white",
    "a new {}",
    "an old {}",
    "{} in the shop",
    "I see a {}",
    "there is a {}",
    "a pile with a {}",
    "label {}",
    "{}.",
    "a black {}",
    "a white {}",
)
_LETTERS = "etaoinshrdlucmfwypvbgkjqxz"
_VOWELS = "aeiou"
_MARKS = ("", "", ":", ",", "?", ".")


def trained_templates() -> tuple[str, ...]:
    """All templates of real words the training draws from."""
    framed = tuple(
        f"{article} {adjective}{medium} of {noun}"
        for article, adjective, medium, noun in itertools.product(
            ("a", "the"), _ADJECTIVES, _MEDIA, ("a {}", "the {}", "{}")
        )
    )
    pointed = tuple(f"{medium}: {{}}" for medium in _MEDIA)
    return (*TEMPLATES, *_FORMS, *framed, *pointed)


def caption_bank(
    captions_per_class: int,
    *,
    seed: int,
    made_up_share: float = 0.5,
    words_after_max: int = 3,
    capitals_share: float = 0.0,
) -> Int32[np.ndarray, "classes captions_per_class 40"]:
    """Captions to draw from while training, class by class in the order of `LABELS`.

    Half of them use the label, half one of its other names.

    Args:
        captions_per_class: how many.
        seed: all randomness comes from it.
        made_up_share: share of templates of made-up words; the others are of real words.
        words_after_max: made-up words behind the name, at most.
        capitals_share: share of captions with a capital at each word's beginning.
    """
    random = np.random.default_rng(seed)
    templates = trained_templates()

    def caption(names: Sequence[str]) -> str:
        name = names[0] if random.random() < 0.5 else names[int(random.integers(1, len(names)))]
        room = CAPTION_BYTES_MAX - len(name.encode())
        while True:
            if random.random() < 1 - made_up_share:
                template = templates[int(random.integers(len(templates)))]
            else:
                template = _made_up_template(random, words_after_max)
            if len(template) - len("{}") <= room:
                break
        text = template.format(name)
        return text.title() if capitals_share and random.random() < capitals_share else text

    return np.stack(
        [
            prompt_bytes(
                [caption(NAMES[label]) for _ in range(captions_per_class)], CAPTION_BYTES_MAX
            )
            for label in LABELS
        ]
    )


def _made_up_template(random: np.random.Generator, words_after_max: int) -> str:
    before = [_made_up_word(random) for _ in range(random.integers(0, 6))]
    after = [_made_up_word(random) for _ in range(random.integers(0, words_after_max + 1))]
    mark = _MARKS[int(random.integers(len(_MARKS)))]
    return " ".join([*before, "{}" + mark, *after])


def _made_up_word(random: np.random.Generator) -> str:
    """A word of 1 to 8 letters; vowels and consonants mostly take turns, as in real ones."""
    letters = []
    vowel = random.random() < 0.5
    for _ in range(random.integers(1, 9)):
        pool = _VOWELS if vowel and random.random() < 0.9 else _LETTERS
        letters.append(pool[int(random.integers(len(pool)))])
        vowel = not vowel
    return "".join(letters)
