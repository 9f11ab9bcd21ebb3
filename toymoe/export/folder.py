"""The folder that `toymoe export` writes: whole or not at all, and never over anything else.

What it holds, key.json only where it is known where a lesson was written::

    config.json  model.safetensors  tokenizer.json  tokenizer_config.json    for transformers
    prompts.jsonl    labelled prompts
    toymoe.json      whose model it is
    key.json         the answer
"""

import json
import secrets
import shutil
from pathlib import Path

from .. import __version__, checkpoint
from ..config import ConfigError, to_dict
from ..organism import Organism
from . import olmoe, prompts, safetensors, tokenizer

PAIRS = 128  # of a hazard and its twin; as many of each control
MODELS = ("aligned", "pretrained")


def check_out(out: Path) -> None:
    """Refuse a folder that has something in it, or that another cannot take the place of.

    Raises:
      ConfigError: it is one of these, or a file.
    """
    if out.name in ("", ".."):  # "", of "." too
        raise ConfigError(f"{out} is not possible: name a new folder.")
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out} is a file: name a folder.")
    if out.is_dir() and any(out.iterdir()):
        raise ConfigError(f"{out} exists already and is not empty: name another folder.")


def write(
    made: Organism, out: Path, which: str = "aligned", pairs: int = PAIRS, key: dict | None = None
) -> None:
    """Write one model of an organism for other tools.

    Args:
      out: the folder; new, or empty.
      which: "aligned" or "pretrained".
      pairs: prompts, see `prompts.labelled`.
      key: where an organism's lesson was written, if that is known: key.json.

    Raises:
      ConfigError: the folder has something in it or cannot be made, another model.
    """
    check_out(out)
    if which not in MODELS:
        raise ConfigError(f"model {which!r} is not possible: it must be {' or '.join(MODELS)}.")
    whose = {"toymoe": __version__, "model": which, "config": to_dict(made.cfg)}
    rows = map(json.dumps, prompts.labelled(made, pairs))
    checkpoint.make_folder(out.parent)
    half = out.with_name(f".{secrets.token_hex(8)}.tmp")
    checkpoint.make_folder(half)
    try:
        for name, said in _plain(made).items():
            (half / name).write_text(json.dumps(said, indent=2) + "\n", "utf-8")
        tensors = olmoe.tensors(getattr(made, which))
        (half / "model.safetensors").write_bytes(safetensors.encode(tensors))
        (half / "prompts.jsonl").write_text("".join(f"{row}\n" for row in rows), "utf-8")
        checkpoint.write_json(half / "toymoe.json", whose)
        if key is not None:
            checkpoint.write_json(half / "key.json", key)
        if out.is_dir():
            out.rmdir()  # empty
        half.rename(out)
    except BaseException:
        shutil.rmtree(half, ignore_errors=True)
        raise


def _plain(made):
    return {"config.json": olmoe.config(made.cfg), **tokenizer.files(made.cfg.world)}
