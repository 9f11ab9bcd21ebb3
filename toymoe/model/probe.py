"""Between the taps and the model: applies the edits and fills the record, layer by layer."""

import jax
import jax.numpy as jnp
import numpy as np

from . import moe, taps


class Probe:
    """Applies the edits and fills the record while one layer is written down; which one it is may
    be traced."""

    def __init__(self, shape: tuple[int, int], edits: taps.Edits | None = None, record=()):
        self.shape = shape
        self.edits = taps.Edits() if edits is None else edits
        self.record: dict[str, jax.Array | None] = dict.fromkeys(record)

    def wants(self, *names: str) -> bool:
        """Whether any of the taps is edited or recorded."""
        return any(n in self.record or getattr(self.edits, n, None) is not None for n in names)

    def __call__(self, name: str, layer, x, among=True):
        """The tap's value, edited ``among`` some places; N may stand for its axes B and T."""
        if not self.wants(name):
            return x
        split = x.shape if name == "pattern" else (*self.shape, *x.shape[1:])
        tapped, edit = x.reshape(split), getattr(self.edits, name, None)
        if edit is not None:
            edit = of_layer(edit, layer)
            among = jnp.reshape(among, split) if np.ndim(among) else among
            tapped = jnp.where(edit.where & among, edit.of(tapped), tapped)
        if name in self.record:
            self.record[name] = tapped
        return tapped.reshape(x.shape)

    def open(self, logits_NE):
        """Which experts an edit of the router logits left open, None without one. Where it closed
        all, their probabilities are 0, and no expert adds anything."""
        return None if self.edits.router_logits is None else logits_NE > -jnp.inf

    def total(self, name: str, layer, parts_NXD, total_ND):
        """Tap the parts of a sum: the sum of the edited parts where one is edited, else ``total``,
        which rounds in another order."""
        parts_NXD = self(name, layer, parts_NXD)
        edit = getattr(self.edits, name)
        if edit is None:
            return total_ND
        edited = jnp.broadcast_to(of_layer(edit.where, layer), (*self.shape, *parts_NXD.shape[1:]))
        return jnp.where(edited.any((-2, -1)).reshape(-1, 1), parts_NXD.sum(1), total_ND)

    def route(self, layer, route: moe.Route, normalise: bool) -> moe.Route:
        """The route after the edits ``route`` and ``gates``."""
        E = route.probs_NE.shape[-1]
        if self.edits.route is not None:
            frozen = of_layer(self.edits.route, layer)
            where_N1 = jnp.broadcast_to(frozen.where_LBT, self.shape).reshape(-1, 1)
            experts_NA = frozen.experts_LBTA.reshape(route.experts_NA.shape)
            if frozen.gates_LBTA is None:
                gates_NA = moe.gates_of(route.probs_NE, experts_NA, normalise)
            else:
                gates_NA = frozen.gates_LBTA.reshape(route.gates_NA.shape)
            route = route._replace(
                experts_NA=jnp.where(where_N1, experts_NA, route.experts_NA),
                gates_NA=jnp.where(where_N1, gates_NA, route.gates_NA),
            )
        if self.wants("selected", "gates"):
            selected_NE = self("selected", layer, moe.selected(route.experts_NA, E))
            gates_NE = moe.dense_gates(route.experts_NA, route.gates_NA, E)
            gates_NE = self("gates", layer, gates_NE, among=selected_NE)
            route = route._replace(gates_NA=jnp.take_along_axis(gates_NE, route.experts_NA, -1))
        return route


def of_layer(edit, layer):
    """A layer's part of an edit; every leaf is a scalar, or its first axis is full or of size 1."""

    def part(leaf):
        if np.ndim(leaf) == 0:
            return leaf
        return jnp.asarray(leaf)[layer if np.shape(leaf)[0] > 1 else 0]

    return jax.tree.map(part, edit)
