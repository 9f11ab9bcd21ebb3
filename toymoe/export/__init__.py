"""toymoe export: an organism as a folder that transformers opens, with labelled prompts beside it.

No other package is needed to write it: safetensors and a word-level tokenizer are a few lines each.
docs/parameters.md says what each tensor is, docs/tools.md how to open the folder.
"""

from .folder import check_out, write

__all__ = ["check_out", "write"]
