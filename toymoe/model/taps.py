"""Where one can look into the model, and where one can reach in: taps and edits.

A *tap* is an intermediate array of `toymoe.model.forward`; `TAPS` lists them all, in the order in
which they are computed, and docs/taps.md explains them. An *edit* changes a tap on its way, so that
all that is computed afterwards follows from the changed value:

    tap' = scale * tap + value   at the places where the mask is true, the tap itself elsewhere

Masks and values are arrays, so one compiled program serves any place: a sweep over every expert is
a `jax.lax.map` or `jax.vmap` over masks. A mask that is false everywhere is a run without the edit,
bit for bit. `edits` builds edits from concrete arrays and refuses what would do nothing.

Besides the letters of the package docstring: Q positions that look, in the attention pattern.
"""

import difflib
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..config import ModelConfig
from ..errors import ToymoeError

LIMIT = 2 * 2**30  # bytes of a record


class TapError(ToymoeError, ValueError):
    """One sentence for the reader: what was given, what is allowed, what to do."""


class Tap(NamedTuple):
    """A row of the table of taps."""

    axes: str  # one letter per axis
    meaning: str
    editing: str  # what an edit there means; empty if there is none


TAPS = {
    "resid_pre": Tap("LBTD", "residual stream before attention", "everything after follows"),
    "pattern": Tap(
        "LBHQT", "attention pattern, rows are queries", "rows are not made to sum to 1 again"
    ),
    "head_out": Tap(
        "LBTHD", "what each head adds to the residual stream", "this head says something else"
    ),
    "resid_mid": Tap("LBTD", "residual stream after attention", "everything after follows"),
    "router_logits": Tap(
        "LBTE", "router logits", "selection and gates follow, so other experts move up"
    ),
    "router_probs": Tap(
        "LBTE", "softmax of the router logits", "selection and gates follow, without a new softmax"
    ),
    "selected": Tap("LBTE", "bool, the selected experts", "by `Edits.route`"),
    "gates": Tap(
        "LBTE",
        "weights of the selected experts, 0 for the others",
        "selection stays; the gate of an expert that was not selected stays 0",
    ),
    "expert_out": Tap(
        "LBTED",
        "what every expert says, selected or not, before its gate",
        "selection and gates stay, this expert says something else",
    ),
    "contribution": Tap(
        "LBTED",
        "gate times output: what each expert adds to the residual stream",
        "gate and output replaced together; an unselected expert can be made to add something",
    ),
    "resid_post": Tap("LBTD", "residual stream after the experts", "everything after follows"),
}
NEED_EVERY_EXPERT = ("expert_out", "contribution")  # only the reference path has these


# --- edits --------------------------------------------------------------------------------------


class Edit(NamedTuple):
    """``scale * tap + value`` where ``where``; leaves have the tap's axes, each full or of size 1.

    Values may be traced, and so may places.
    """

    where: jax.Array  # bool
    value: jax.Array
    scale: jax.Array


class Routes(NamedTuple):
    """Which way each token went in each layer: `moe.Route` of all layers, prompts and positions."""

    logits_LBTE: jax.Array  # router logits
    probs_LBTE: jax.Array  # softmax over all experts
    experts_LBTA: jax.Array  # int, the selected experts, best first
    gates_LBTA: jax.Array  # their weights


class Frozen(NamedTuple):
    """Routes of a reference run, taken at the places ``where`` whatever the router says.

    With ``gates_LBTA`` None only the selection is the reference's; its gates are then this run's
    own router probabilities of those experts.
    """

    where_LBT: jax.Array  # bool
    experts_LBTA: jax.Array
    gates_LBTA: jax.Array | None


class Edits(NamedTuple):
    """An edit for each tap, or none. Applied in the order of `TAPS`; ``route`` before ``gates``."""

    resid_pre: Edit | None = None
    pattern: Edit | None = None
    head_out: Edit | None = None
    resid_mid: Edit | None = None
    router_logits: Edit | None = None
    router_probs: Edit | None = None
    route: Frozen | None = None
    gates: Edit | None = None
    expert_out: Edit | None = None
    contribution: Edit | None = None
    resid_post: Edit | None = None


def replace(where, value) -> Edit:
    """The tap becomes ``value``: patching, resampling, a mean."""
    return Edit(where, value, 0.0)


def zero(where) -> Edit:
    """The tap becomes 0."""
    return Edit(where, 0.0, 0.0)


def add(where, value) -> Edit:
    """``value`` is added to the tap: steering."""
    return Edit(where, value, 1.0)


def scale(where, factor) -> Edit:
    """The tap is multiplied by ``factor``."""
    return Edit(where, 0.0, factor)


def freeze(routes: Routes, where_LBT=True, gates: bool = True) -> Frozen:
    """The routes of a reference run (``Output.routes``), at some places or at all.

    Args:
      gates: freeze the gates too, not only the selection.
    """
    return Frozen(where_LBT, routes.experts_LBTA, routes.gates_LBTA if gates else None)


def places(
    tap: str,
    cfg: ModelConfig,
    tokens_BT,
    layer=None,
    prompt=None,
    position=None,
    head=None,
    expert=None,
) -> np.ndarray:
    """The mask of some places of a tap, for `Edit.where`; what is not named counts in full.

    Args:
      layer, prompt, position, head, expert: an index or several; negative ones count from the end.

    Raises:
      TapError: an index out of range, an axis that the tap does not have, an unknown tap.
    """
    sizes = axis_sizes(cfg, np.shape(tokens_BT))
    axes = "LBT" if tap == "route" else TAPS[known(tap)].axes
    mask = np.ones((1,) * len(axes), bool)
    named = {"L": layer, "B": prompt, "T": position, "H": head, "E": expert}
    words = dict(zip("LBTHE", ("layer", "prompt", "position", "head", "expert"), strict=True))
    for letter, index in named.items():
        if index is None:
            continue
        if letter not in axes:
            have = ", ".join(words[x] for x in axes if x in words)
            raise TapError(f"{tap} has no {words[letter]} to choose: it has {have}.")
        indices, size = np.atleast_1d(np.asarray(index)), sizes[letter]
        if indices.dtype.kind not in "iu" or ((indices < -size) | (indices >= size)).any():
            raise TapError(
                f"{words[letter]} = {index!r} is not possible: there are {size}, "
                f"numbered from 0 to {size - 1}."
            )
        along = np.isin(np.arange(size), indices % size)
        mask = mask & along.reshape([-1 if x == letter else 1 for x in axes])
    return mask


def edits(cfg: ModelConfig, tokens_BT, **given: Edit | Frozen) -> Edits:
    """Edits from concrete arrays, checked, ready for `toymoe.model.forward`.

    Example::

        where = taps.places("expert_out", cfg, tokens_BT, layer=1, expert=5)
        taps.edits(cfg, tokens_BT, expert_out=taps.zero(where))

    Args:
      given: for each tap's name an `Edit`, for ``route`` a `Frozen`. Scalars count everywhere.

    Raises:
      TapError: a name that is no tap or cannot be edited, a mask or value of a wrong shape, a mask
        that is not bool or is false everywhere.
    """
    made = {}
    for name, edit in given.items():
        if name == "selected":
            raise TapError("selected cannot be edited by itself: give route=taps.freeze(…).")
        if name != "route":
            known(name, [field for field in Edits._fields if field != "route"])
        kind = Frozen if name == "route" else Edit
        if not isinstance(edit, kind):
            raise TapError(
                f"{name} = {type(edit).__name__} is not possible: give a taps.{kind.__name__}, "
                f"such as taps.{'freeze(…)' if name == 'route' else 'zero(mask)'}."
            )
        axes = "LBT" if name == "route" else TAPS[name].axes
        leaves = [
            None if leaf is None else jnp.reshape(leaf, np.shape(leaf) or (1,) * len(axes))
            for leaf in edit
        ]
        made[name] = kind(*leaves)
        where = np.asarray(leaves[0])
        if where.dtype != bool:
            raise TapError(f"{name}.where is of type {where.dtype}: a mask must be bool.")
        if not where.any():
            raise TapError(f"the mask of {name} is false everywhere: name at least one place.")
    result = Edits(**made)
    _check_shapes(result, axis_sizes(cfg, np.shape(tokens_BT)))
    return result


# --- checks -------------------------------------------------------------------------------------


def known(name: str, names=tuple(TAPS)) -> str:
    """The name, if there is such a tap."""
    if name not in names:
        near = difflib.get_close_matches(str(name), names, 1, 0.0)[0]
        raise TapError(
            f"tap {name!r} is not known: did you mean {near!r}? There are {', '.join(names)}."
        )
    return name


def check(tokens_BT, cfg: ModelConfig, vocabulary: int, grouped: bool, given, record) -> None:
    """Refuse what `toymoe.model.forward` cannot do; what is traced is taken on trust."""
    if np.ndim(tokens_BT) != 2:
        raise TapError(f"tokens of shape {np.shape(tokens_BT)} are not possible: it must be [B, T]")
    if not isinstance(tokens_BT, jax.core.Tracer):
        tokens = np.asarray(tokens_BT)
        wrong = tokens[(tokens < 0) | (tokens >= vocabulary)]
        if wrong.size:
            raise TapError(
                f"token {wrong[0]} is not in the vocabulary: the model has {vocabulary} tokens, "
                f"numbered from 0 to {vocabulary - 1}."
            )
    if given is not None and not isinstance(given, Edits):
        raise TapError(f"edits = {type(given).__name__} is not possible: make them by taps.edits.")
    sizes = axis_sizes(cfg, np.shape(tokens_BT))
    for name in record:
        known(name)
    edited = [] if given is None else [n for n in Edits._fields if getattr(given, n) is not None]
    for name in NEED_EVERY_EXPERT:
        if grouped and name in (*record, *edited):
            raise TapError(f"{name} needs every expert: leave out grouped=True.")
    if edited:
        _check_shapes(given, sizes)
    size = record_bytes(cfg, np.shape(tokens_BT), record)
    if size > LIMIT:
        fits = max(sizes["B"] * LIMIT // size, 1)
        largest = max(record, key=lambda name: record_bytes(cfg, np.shape(tokens_BT), (name,)))
        raise TapError(
            f"the record would take {size / 2**30:.1f} GiB, and {LIMIT / 2**30:.0f} GiB are "
            f"allowed: give at most {fits} prompts at a time, or leave out "
            f"{largest}, the largest tap."
        )


def effective(given: Edits | None) -> tuple[Edits | None, jax.Array | None]:
    """The edits that have a place, and whether one has: None if that is known beforehand."""
    kept, traced = {}, []
    for name, edit in ({} if given is None else given._asdict()).items():
        if edit is None:
            continue
        where = edit[0]
        if isinstance(where, jax.core.Tracer):
            traced.append(where.any())
        elif not np.any(where):
            continue
        kept[name] = edit
    if len(traced) < len(kept) or not kept:
        return (Edits(**kept) if kept else None), None
    return Edits(**kept), jnp.stack(traced).any()


def record_bytes(cfg: ModelConfig, shape: tuple[int, int], record) -> int:
    """The size of a record of some taps for [B, T] tokens."""
    sizes = axis_sizes(cfg, shape)
    return sum(
        math.prod(sizes[axis] for axis in TAPS[name].axes) * (1 if name == "selected" else 4)
        for name in set(record)
    )


def axis_sizes(cfg: ModelConfig, shape) -> dict[str, int]:
    B, T = shape
    L, D, H, E = cfg.layers, cfg.width, cfg.heads, cfg.experts
    return {"L": L, "B": B, "T": T, "Q": T, "D": D, "H": H, "E": E, "A": cfg.top_k}


def _check_shapes(given: Edits, sizes: dict[str, int]) -> None:
    for name in Edits._fields:
        edit = getattr(given, name)
        if edit is None:
            continue
        for field, leaf in zip(edit._fields, edit, strict=True):
            if leaf is None:
                continue
            axes = field.split("_")[1] if "_" in field else TAPS[name].axes
            full, shape = tuple(sizes[axis] for axis in axes), np.shape(leaf)
            whole = field.endswith("A")  # a reference route is given in full
            fits = len(shape) == len(full) and all(
                n == m or (n == 1 and not whole) for n, m in zip(shape, full, strict=True)
            )
            if shape != () and not fits:
                raise TapError(
                    f"{name}.{field} of shape {list(shape)} does not fit: it must be "
                    f"[{', '.join(axes)}] = {list(full)}" + (" or 1 in places." * (not whole))
                )
