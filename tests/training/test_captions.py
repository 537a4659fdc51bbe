import numpy as np

from edgepact.training import captions
from edgepact.training.fashion_mnist import LABELS


def decoded(rows):
    return [bytes(row[row > 0].astype(np.uint8)).decode() for row in rows]


def test_every_caption_holds_a_name_of_its_class():
    bank = captions.caption_bank(200, seed=3)
    assert bank.shape == (len(LABELS), 200, captions.CAPTION_BYTES_MAX)
    for label, rows in zip(LABELS, bank, strict=True):
        for caption in decoded(rows):
            assert any(name in caption for name in captions.NAMES[label]), caption


def test_same_seed_same_captions_and_another_seed_others():
    one = captions.caption_bank(20, seed=0)
    assert np.array_equal(one, captions.caption_bank(20, seed=0))
    assert not np.array_equal(one, captions.caption_bank(20, seed=1))


def test_made_up_words_and_capitals_come_as_often_as_asked():
    def share(found, rows):
        return np.mean([found(text) for text in decoded(rows.reshape(-1, rows.shape[-1]))])

    trained = captions.trained_templates()
    framed = {
        one.format(name) for one in trained for group in captions.NAMES.values() for name in group
    }
    plain = captions.caption_bank(100, seed=0, made_up_share=0.0)
    assert share(lambda text: text in framed, plain) == 1
    made_up = captions.caption_bank(100, seed=0, made_up_share=1.0)
    assert share(lambda text: text in framed, made_up) < 0.2
    capital = captions.caption_bank(100, seed=0, capitals_share=0.3)
    assert 0.2 < share(lambda text: text[0].isupper(), capital) < 0.4


def test_labels_come_first_among_their_names_and_no_name_serves_two_classes():
    assert [names[0] for names in captions.NAMES.values()] == list(LABELS)
    names = [name for group in captions.NAMES.values() for name in group]
    assert len(names) == len(set(names))


def test_held_out_prompts_are_held_out():
    trained = captions.trained_templates()
    assert len(set(trained)) > 200
    assert set(captions.TEMPLATES) <= set(trained)
    assert not set(captions.HELD_OUT_TEMPLATES) & set(trained)
    # Not even around a name: no trained prompt is part of the caption of a held-out one.
    bank = {text for rows in captions.caption_bank(1000, seed=0) for text in decoded(rows)}
    held_out = {
        template.format(name)
        for template in captions.HELD_OUT_TEMPLATES
        for group in captions.NAMES.values()
        for name in group
    }
    assert not bank & held_out


def test_held_out_names_are_held_out():
    seen = {name: set(name.split()) for group in captions.NAMES.values() for name in group}
    words = set().union(*seen.values())
    for label in LABELS:
        phrase, synonym = captions.HELD_OUT_PHRASES[label], captions.HELD_OUT_SYNONYMS[label]
        assert phrase not in seen
        assert set(phrase.split()) & set().union(
            *(name.split() for name in captions.NAMES[label])
        ), "a phrase is built around a seen word of its own class"
        assert not set(synonym.split()) & words


def test_default_prompts_leave_room_for_labels():
    longest = max(len(template.encode()) - len("{}") for template in captions.TEMPLATES)
    assert captions.CAPTION_BYTES_MAX - longest >= max(len(label) for label in LABELS)
