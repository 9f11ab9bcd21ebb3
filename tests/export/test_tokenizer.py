"""The tokenizer's files: what they say of words, without the library that reads them."""

import json
import re

import pytest

from toymoe import world
from toymoe.config import WorldConfig
from toymoe.export import tokenizer

LARGE = WorldConfig(topics=64, words=16, verbs=64, entities=64, answers=256)


@pytest.mark.parametrize("cfg", [WorldConfig(), LARGE], ids=["default", "large"])
def test_every_word_has_its_token(cfg):
    made = tokenizer.files(cfg)["tokenizer.json"]
    assert json.loads(json.dumps(made)) == made
    words = world.vocabulary(cfg)
    assert list(made["model"]["vocab"].items()) == [(word, i) for i, word in enumerate(words)]
    assert all(word.split() == [word] for word in words)  # what stands between spaces
    assert made["pre_tokenizer"] == {"type": "WhitespaceSplit"} and made["post_processor"] is None


def test_what_stands_for_unknown_words_has_no_token():
    made = tokenizer.files(LARGE)["tokenizer.json"]
    assert made["model"]["type"] == "WordLevel"
    assert made["model"]["unk_token"] not in made["model"]["vocab"]
    # The one text that is read as another is that whole text, and no word of the toy.
    pattern = made["normalizer"]["pattern"]["Regex"]
    assert re.sub(pattern, made["normalizer"]["content"], "a") == "BOS"
    for text in ("a a", "BOS a", "aa", " ".join(world.vocabulary(LARGE))):
        assert re.sub(pattern, "", text) == text
    assert not any(re.fullmatch(pattern, word) for word in world.vocabulary(LARGE))


def test_the_special_tokens_are_two_words():
    files = tokenizer.files(WorldConfig())
    added = {t["content"]: t for t in files["tokenizer.json"]["added_tokens"]}
    assert {word: t["id"] for word, t in added.items()} == {"BOS": world.BOS, "END": world.END}
    assert all(t["single_word"] and t["special"] for t in added.values())
    config = files["tokenizer_config.json"]
    assert (config["bos_token"], config["eos_token"]) == ("BOS", "END")
    assert not {"unk_token", "pad_token"} & config.keys()
