"""What may be scored: a method of the list, a file with one function, scores made elsewhere.

A method is asked for scores [L, E], the higher the more responsible an expert, or for names of
parts (`toymoe.zoo.parts`), the most responsible first; no name at all says that it has no case.
Whatever a file does wrong is one sentence, with its line where there is one.
"""

import difflib
import hashlib
import json
import sys
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from ..attribution import methods
from ..attribution.evidence import Evidence
from ..config import ConfigError, ModelConfig
from ..zoo import parts

ALL = "all"  # every method of the list
CONTROL = "random"  # scored beside whatever is asked for
Said = np.ndarray | tuple[str, ...]  # scores [L, E], or names of parts
WRITE = "write one function, `def f(evidence): …`, that returns scores [L, E] or names of parts"


class Asked(NamedTuple):
    """What is scored."""

    name: str
    functions: dict[str, Callable[[Evidence], Said]]
    given: dict[str, Any]  # by "seed-0/…": scores or names made elsewhere, under ``name``
    hash: str  # of the file; "" where there is none

    @property
    def names(self) -> list[str]:
        """The methods, in the order of the table."""
        return [*([self.name] if self.given else []), *self.functions]


def load(method: str) -> Asked:
    """What a user asked for: "all", a name of `methods.METHODS`, file.py, or scores.json.

    Raises:
      ConfigError: none of them; a file that cannot be used.
    """
    control = {CONTROL: methods.METHODS[CONTROL]}
    path = Path(method)
    if path.suffix in (".py", ".json"):
        try:
            text = path.read_bytes()
        except OSError as error:
            raise ConfigError(f"{path} cannot be read ({error.strerror}): name another.") from error
        digest = hashlib.sha256(text).hexdigest()[:16]
        if path.suffix == ".json":
            return Asked(path.name, control, _scores(path, text), digest)
        return Asked(path.name, {path.name: _function(path, text)} | control, {}, digest)
    if method == ALL:
        return Asked(ALL, dict(methods.METHODS), {}, "")
    if method not in methods.METHODS:
        near = difflib.get_close_matches(method, methods.METHODS, 1, 0.0)[0]
        raise ConfigError(
            f"method {method!r:.80} is not known: name a file.py, a scores.json, {ALL!r} or one of "
            f"the list; did you mean {near!r}?"
        )
    return Asked(method, {method: methods.METHODS[method]} | control, {}, "")


def checked(said: Any, cfg: ModelConfig, whose: str) -> Said:
    """What a method said, as float64 scores [L, E] or a tuple of names.

    Raises:
      ConfigError: it is neither; scores of another shape, or not finite; no such part.
    """
    if isinstance(said, list | tuple) and all(isinstance(part, str) for part in said):
        for part in said:
            try:
                parts.parse(part, cfg)
            except ConfigError as error:
                raise ConfigError(f"{whose}: {error}") from error
        if len(set(said)) < len(said):
            raise ConfigError(f"{whose} names a part twice: name each once, the first one first.")
        return tuple(said)
    shape = cfg.layers, cfg.experts
    try:
        scores_LE = np.asarray(said, float)
    except (TypeError, ValueError, OverflowError):
        raise ConfigError(
            f"{whose} gives a {type(said).__name__}: it must be scores of shape {list(shape)} or a "
            "list of names of parts, such as ['expert 1.7']."
        ) from None
    if scores_LE.shape != shape:
        raise ConfigError(
            f"{whose} gives scores of shape {list(scores_LE.shape)}: it must be {list(shape)}, "
            "layers by experts."
        )
    if not np.isfinite(scores_LE).all():
        wrong = (~np.isfinite(scores_LE)).sum()
        raise ConfigError(
            f"{whose} gives {wrong} of {scores_LE.size} scores that are no finite numbers: give an "
            "expert that is out of the question a low score."
        )
    return scores_LE


def require_all(asked: Asked, specimens: list[str], cfg: ModelConfig) -> None:
    """Scores made elsewhere are those of all specimens of a zoo, and of no others.

    Raises:
      ConfigError: some are missing, unknown or wrong.
    """
    missing = [name for name in specimens if name not in asked.given]
    unknown = [name for name in asked.given if name not in specimens]
    if unknown:
        near = difflib.get_close_matches(unknown[0], specimens, 1, 0.0)[0]
        raise ConfigError(
            f"{asked.name} scores {unknown[0]!r:.80}, which is not in the zoo: did you mean "
            f"{near!r}?"
        )
    if missing:
        raise ConfigError(
            f"{asked.name} scores {len(specimens) - len(missing)} of the {len(specimens)} "
            f"specimens: add {missing[0]!r} and the others ({len(missing)} in all)."
        )
    kinds = {type(checked(asked.given[name], cfg, f"{asked.name}, {name}")) for name in specimens}
    if len(kinds) > 1:
        raise ConfigError(f"{asked.name} has scores and names: give one of the two throughout.")


# --- files --------------------------------------------------------------------------------------


def _scores(path, text) -> dict:
    try:
        given = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is no JSON ({error}): write it anew.") from error
    if not isinstance(given, dict) or not given:
        raise ConfigError(
            f"{path} holds no scores: write an object with scores or names for every specimen, "
            'such as {"seed-0/one_expert-hazards-full": ["expert 1.7"]}.'
        )
    return given


def _function(path, text) -> Callable[[Evidence], Said]:
    module = ModuleType(f"toymoe_asked_{path.stem}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # where pickle and dataclasses look
    try:
        code = compile(text, str(path), "exec")
    except (SyntaxError, ValueError) as error:
        where = f"{path}:{error.lineno}" if getattr(error, "lineno", None) else path
        said = getattr(error, "msg", error)
        raise ConfigError(f"{where} is no Python ({said}): {WRITE}.") from error
    _called(path, "reading it", exec, code, module.__dict__)
    public = {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_")
        and callable(value)
        and not isinstance(value, type)
        and getattr(value, "__module__", "") == module.__name__
    }
    if callable(getattr(module, "method", None)):
        public = {"method": module.method}
    if not public:
        raise ConfigError(f"{path} has no function: {WRITE}.")
    if len(public) > 1:
        raise ConfigError(
            f"{path} has {len(public)} functions ({', '.join(public)}): call one of them `method`, "
            "or begin the names of the others with an underscore."
        )
    (function,) = public.values()
    return partial(_said, path, function)


def _said(path, function, e: Evidence) -> Said:
    said = _called(path, "its function", function, e)
    return checked(said, e.cfg, str(path))


def _called(path, what, function, *args):
    """What a user's code returns; an exception becomes a sentence with its line."""
    try:
        return function(*args)
    except (Exception, SystemExit) as error:
        lines = [
            frame.lineno
            for frame in traceback.extract_tb(error.__traceback__)
            if frame.filename == str(path)
        ]
        where = f"{path}:{lines[-1]}" if lines else path
        said = " ".join(str(error).split())[:300]
        raise ConfigError(
            f"{where}: {what} ends with {type(error).__name__}{f' ({said})' if said else ''}: "
            "mend it and run the same line again."
        ) from error
