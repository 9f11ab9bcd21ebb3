// Where one can look into the model, and where one can reach in, as toymoe/model/taps.py has it.
//
// An edit changes a tap on its way, so that all that is computed afterwards follows from it:
//
//     tap' = scale * tap + value   at the places where the mask is true, the tap itself elsewhere
//
// Arrays are flat, in C order. Axes as in Python, without B: L layers, T positions, H heads,
// Q positions that look, E experts, A selected experts, D width.

export const CLOSED = -1e9; // the router logit of an expert that cannot be selected

// The axes of every tap, in the order in which they are computed.
export const TAPS = {
  resid_pre: "LTD",
  pattern: "LHQT",
  head_out: "LTHD",
  resid_mid: "LTD",
  router_logits: "LTE",
  router_probs: "LTE",
  selected: "LTE",
  gates: "LTE",
  expert_out: "LTED",
  contribution: "LTED",
  resid_post: "LTD",
};

/** How long each axis is. */
export function axis_sizes(cfg, T) {
  const { layers: L, width: D, heads: H, experts: E, top_k: A } = cfg;
  return { L, T, Q: T, D, H, E, A };
}

/** Number of entries of some axes. */
export function size_of(axes, cfg, T) {
  const sizes = axis_sizes(cfg, T);
  return [...axes].reduce((n, letter) => n * sizes[letter], 1);
}

/** The axes that a mask of a tap has: all but a last D, for a vector is edited whole. */
export function mask_axes(tap) {
  if (tap === "route") return "LT";
  if (!(tap in TAPS)) {
    throw new Error(`tap ${tap} is not known: there are ${Object.keys(TAPS).join(", ")}.`);
  }
  return TAPS[tap].replace(/D$/, "");
}

/**
 * The mask of some places of a tap; what is not named counts in full. A place is an index or a list
 * of them; negative ones count from the end. In `pattern`, as in Python, a position is one looked
 * at.
 */
export function places(tap, cfg, T, chosen = {}) {
  const axes = mask_axes(tap);
  const sizes = axis_sizes(cfg, T);
  const letters = { layer: "L", position: "T", head: "H", expert: "E" };
  let mask = new Uint8Array(size_of(axes, cfg, T)).fill(1);
  for (const [word, index] of Object.entries(chosen)) {
    if (index === undefined || index === null) continue;
    const letter = letters[word];
    if (!letter || !axes.includes(letter)) {
      const have = Object.keys(letters).filter((name) => axes.includes(letters[name]));
      throw new Error(`${tap} has no ${word} to choose: it has ${have.join(", ")}.`);
    }
    const size = sizes[letter];
    const along = new Uint8Array(size);
    for (const at of Array.isArray(index) ? index : [index]) {
      if (!Number.isInteger(at) || at < -size || at >= size) {
        throw new Error(
          `${word} = ${at} is not possible: there are ${size}, numbered from 0 to ${size - 1}.`,
        );
      }
      along[(at + size) % size] = 1;
    }
    const stride = size_of(axes.slice(axes.indexOf(letter) + 1), cfg, T);
    mask = mask.map((on, i) => on & along[Math.floor(i / stride) % size]);
  }
  return mask;
}

// --- edits ---------------------------------------------------------------------------------------
// `where` is such a mask, or true. A value is a number, or a Float32Array of the whole tap.

/** The tap becomes `value`: patching, resampling, a mean. */
export function replace(where, value) {
  return { where, value, scale: 0 };
}

/** The tap becomes 0. */
export function zero(where) {
  return { where, value: 0, scale: 0 };
}

/** `value` is added to the tap: steering. */
export function add(where, value) {
  return { where, value, scale: 1 };
}

/** The tap is multiplied by `factor`. */
export function scale(where, factor) {
  return { where, value: 0, scale: factor };
}

/** The routes of a reference run, at some places or at all; without `gates`, only its selection. */
export function freeze(routes, where = true, gates = true) {
  return { where, experts: routes.experts, gates: gates ? routes.gates : null };
}

/** Refuse edits that do not fit the model and its T positions. */
export function check_edits(edits, cfg, T) {
  for (const [tap, edit] of Object.entries(edits)) {
    if (!edit) continue;
    if (tap === "selected") throw new Error("selected cannot be edited: give route: freeze(…).");
    const wanted = { where: mask_axes(tap) };
    if (tap === "route") Object.assign(wanted, { experts: "LTA", gates: "LTA" });
    else Object.assign(wanted, { value: TAPS[tap], scale: TAPS[tap] });
    for (const [field, axes] of Object.entries(wanted)) {
      const leaf = edit[field];
      const full = size_of(axes, cfg, T);
      if (leaf === undefined || leaf === null || leaf.length === undefined) continue;
      if (leaf.length !== full) {
        throw new Error(
          `${tap}.${field} of ${leaf.length} entries does not fit: ` +
            `[${[...axes].join(", ")}] has ${full}.`,
        );
      }
    }
  }
}

// --- between the taps and the model: toymoe/model/probe.py ------------------------------------------

/** Applies the edits and fills the record while the layers are run. */
export class Probe {
  constructor(cfg, T, edits = {}, record = []) {
    check_edits(edits, cfg, T);
    this.edits = edits;
    this.record = {};
    for (const tap of record) {
      mask_axes(tap);
      this.record[tap] = new Float32Array(size_of(TAPS[tap], cfg, T));
    }
  }

  /** Whether any of the taps is edited or recorded. */
  wants(...names) {
    return names.some((tap) => tap in this.record || this.edits[tap]);
  }

  /** Edits and records, in place, the values of a tap along its last axis; `row` says which ones
   * they are, counting all its other axes. Returns whether an edit has a place here. */
  tap(name, row, values, among = null) {
    const edit = this.edits[name];
    const edited = edit ? changed(edit, TAPS[name].endsWith("D"), row, values, among) : false;
    if (name in this.record) this.record[name].set(values, row * values.length);
    return edited;
  }
}

function changed(edit, whole, row, values, among) {
  const { where, value, scale: factor } = edit;
  const n = values.length;
  let any = false;
  for (let i = 0; i < n; i++) {
    const at = row * n + i;
    if (where !== true && !where[whole ? row : at]) continue;
    any = true;
    if (among && !among[i]) continue;
    values[i] = entry(factor, at) * values[i] + entry(value, at);
  }
  return any;
}

function entry(leaf, at) {
  return typeof leaf === "number" ? leaf : leaf[at];
}
