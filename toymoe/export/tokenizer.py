"""The toy's words as a tokenizer of transformers: one token each, and no other word."""

from .. import world
from ..config import WorldConfig

UNKNOWN = "<unknown>"  # stands for no token, so that a word which is none is an error
PROBE = "a"  # the text that TransformerLens reads first, to see what is put before one: as BOS


def files(cfg: WorldConfig) -> dict[str, dict]:
    """tokenizer.json and tokenizer_config.json, by name.

    Words are what stands between spaces. Nothing is put before or after them: prompts begin with
    BOS, as a word. At any other word the tokenizers library fails.
    """
    vocabulary = world.vocabulary(cfg)
    special = {"bos_token": vocabulary[world.BOS], "eos_token": vocabulary[world.END]}
    kind = {"lstrip": False, "rstrip": False, "normalized": False, "special": True}
    # A special token is looked for inside of words too, unless it must be a word of its own.
    added = [
        {"id": token, "content": vocabulary[token], "single_word": True, **kind}
        for token in (world.BOS, world.END)
    ]
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {
            "type": "Replace",
            "pattern": {"Regex": f"^{PROBE}$"},
            "content": vocabulary[world.BOS],
        },
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": None,
        "decoder": None,
        "model": {
            "type": "WordLevel",
            "vocab": {word: token for token, word in enumerate(vocabulary)},
            "unk_token": UNKNOWN,
        },
    }
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        **special,
    }
    return {"tokenizer.json": tokenizer, "tokenizer_config.json": config}
