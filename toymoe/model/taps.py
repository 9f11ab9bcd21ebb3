"""Where one can look into the model, and where one can reach in: taps and edits.

A *tap* is an intermediate array of `toymoe.model.forward`; `TAPS` lists them all, in the order in
which they are computed, and docs/taps.md explains them. An *edit* changes a tap on its way, so that
all that is computed afterwards follows from the changed value:

    tap' = scale * tap + value   at the places where the mask is true, the tap itself elsewhere

or, for what that sum cannot say, makes of it a function of what is there (`apply`). Masks and
values are arrays, so one compiled program serves any place: a sweep over every expert is a
`jax.lax.map` or `jax.vmap` over masks. A mask that is false everywhere is a run without the edit,
bit for bit. `edits` builds edits from concrete arrays and refuses what would do nothing.

Besides the letters of the package docstring: Q positions that look, in the attention pattern.
"""

import difflib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..config import ModelConfig
from ..errors import ToymoeError

CLOSED = -1e9  # the router logit of an expert that cannot be selected


class TapError(ToymoeError, ValueError):
    """One sentence for the reader: what was given, what is allowed, what to do."""


class Tap(NamedTuple):
    """A row of the table of taps."""

    axes: str  # one letter per axis
    meaning: str
    editing: str  # what follows from an edit there, or by what it is made


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

    def of(self, tap):
        """The tap, changed everywhere."""
        return self.scale * tap + self.value


class Applied(NamedTuple):
    """``function(tap, *values)`` where ``where``, of one layer at a time; see `apply`."""

    where: jax.Array  # bool
    function: jax.tree_util.Partial  # static
    values: tuple

    def of(self, tap):
        """The tap, changed everywhere."""
        return self.function(tap, *self.values)


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

    resid_pre: Edit | Applied | None = None
    pattern: Edit | Applied | None = None
    head_out: Edit | Applied | None = None
    resid_mid: Edit | Applied | None = None
    router_logits: Edit | Applied | None = None
    router_probs: Edit | Applied | None = None
    route: Frozen | None = None
    gates: Edit | Applied | None = None
    expert_out: Edit | Applied | None = None
    contribution: Edit | Applied | None = None
    resid_post: Edit | Applied | None = None


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


def apply(where, function, *values) -> Applied:
    """The tap becomes ``function(tap, *values)``: steering that depends on what is there.

    Example: every router logit at most 3, ``taps.apply(where, jnp.minimum, 3.0)``.

    Args:
      function: of one layer's tap, without its axis L; gives back as many numbers. The same
        function, not one made anew, is what a compiled program recognises.
      values: arrays or numbers, which may be traced; with the tap's axes, each full or of size 1.
        The function gets the layer's part of them.
    """
    if not callable(function):
        raise TapError(f"function = {function!r} is not possible: give a function of the tap.")
    return Applied(where, jax.tree_util.Partial(function), values)


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


def edits(cfg: ModelConfig, tokens_BT, **given: Edit | Applied | Frozen) -> Edits:
    """Edits from concrete arrays, checked, ready for `toymoe.model.forward`.

    Example::

        where = taps.places("expert_out", cfg, tokens_BT, layer=1, expert=5)
        taps.edits(cfg, tokens_BT, expert_out=taps.zero(where))

    Args:
      given: for each tap's name an `Edit` or `Applied`, for ``route`` a `Frozen`; as `replace`,
        `zero`, `add`, `scale`, `apply` and `freeze` make them. Scalars count everywhere.

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
        if not isinstance(edit, Frozen if name == "route" else Edit | Applied):
            kind, example = ("Frozen", "freeze(…)") if name == "route" else ("Edit", "zero(mask)")
            raise TapError(
                f"{name} = {type(edit).__name__} is not possible: give a taps.{kind}, "
                f"such as taps.{example}."
            )
        ones = (1,) * len("LBT" if name == "route" else TAPS[name].axes)
        made[name] = jax.tree.map(
            lambda leaf, ones=ones: jnp.reshape(leaf, np.shape(leaf) or ones), edit
        )
        where = np.asarray(made[name][0])
        if where.dtype != bool:
            raise TapError(f"{name}.where is of type {where.dtype}: a mask must be bool.")
        if not where.any():
            raise TapError(f"the mask of {name} is false everywhere: name at least one place.")
    result = Edits(**made)
    check_shapes(result, cfg, np.shape(tokens_BT))
    return result


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


# --- checks -------------------------------------------------------------------------------------


def known(name: str, names=tuple(TAPS)) -> str:
    """The name, if there is such a tap."""
    if name not in names:
        near = difflib.get_close_matches(str(name), names, 1, 0.0)[0]
        raise TapError(
            f"tap {name!r} is not known: did you mean {near!r}? There are {', '.join(names)}."
        )
    return name


def axis_sizes(cfg: ModelConfig, shape) -> dict[str, int]:
    """How long each axis of `TAPS` and of routes is, for tokens of shape [B, T]."""
    B, T = shape
    L, D, H, E = cfg.layers, cfg.width, cfg.heads, cfg.experts
    return {"L": L, "B": B, "T": T, "Q": T, "D": D, "H": H, "E": E, "A": cfg.top_k}


def check_shapes(given: Edits, cfg: ModelConfig, shape: tuple[int, int]) -> None:
    """Refuse edits that do not fit the model and its [B, T] tokens."""
    sizes = axis_sizes(cfg, shape)
    for name, edit in given._asdict().items():
        if edit is None:
            continue
        for field, leaf, axes in _leaves(name, edit):
            full, given_shape = tuple(sizes[axis] for axis in axes), np.shape(leaf)
            whole = axes.endswith("A")  # a reference route is given in full
            fits = len(given_shape) == len(full) and all(
                n == m or (n == 1 and not whole) for n, m in zip(given_shape, full, strict=True)
            )
            if given_shape != () and not fits:
                raise TapError(
                    f"{name}.{field} of shape {list(given_shape)} does not fit: it must be "
                    f"[{', '.join(axes)}] = {list(full)}" + (" or 1 in places." * (not whole))
                )


def _leaves(name: str, edit):
    """Name, array and axes of all that an edit holds."""
    if isinstance(edit, Frozen):
        named = [(f, leaf, f.split("_")[1]) for f, leaf in edit._asdict().items()]
        return [(f, leaf, axes) for f, leaf, axes in named if leaf is not None]
    axes = TAPS[name].axes
    if isinstance(edit, Edit):
        return [(field, leaf, axes) for field, leaf in edit._asdict().items()]
    values = [(f"values[{i}]", value, axes) for i, value in enumerate(edit.values)]
    return [("where", edit.where, axes), *values]
