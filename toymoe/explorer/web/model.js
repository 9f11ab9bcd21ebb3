// The transformer: a miniature OLMoE, as toymoe/model/transformer.py and moe.py have it, for one prompt.
//
// Pre-norm RMSNorm, rotary positions, RMSNorm on the whole query and key projections, SwiGLU experts,
// untied output head, no biases. Arrays are flat Float32Arrays in C order; every sum is made in doubles.

import { Probe, size_of } from "./taps.js";

export const EPSILON = 1e-5; // of RMSNorm
export const THETA = 10000; // base of the rotary frequencies
export const REFUSE = 3; // the token
const TINY = 1.1754943508222875e-38; // the smallest normal float32

/**
 * Next-token logits [T, V], the routes, and whatever was asked for on the way.
 *
 * edits: { tap: edit, route: frozen }, see taps.js; record: names of taps, recorded after their edit;
 * last: the logits of the last position only, [V].
 */
export function forward(params, tokens, cfg, { edits = {}, record = [], last = false } = {}) {
  const T = tokens.length, probe = new Probe(cfg, T, edits, record);
  let x_TD = embedded(params, tokens, cfg);
  const routes = {
    logits: new Float32Array(size_of("LTE", cfg, T)),
    probs: new Float32Array(size_of("LTE", cfg, T)),
    experts: new Int32Array(size_of("LTA", cfg, T)),
    gates: new Float32Array(size_of("LTA", cfg, T)),
  };
  for (let layer = 0; layer < cfg.layers; layer++) {
    x_TD = layer_forward(params, layer, x_TD, cfg, { T, probe, routes }).x_TD;
  }
  return { logits: logits_of(params, x_TD, cfg, last ? T - 1 : 0, T), routes, record: probe.record };
}

/** What the residual stream starts with, [T, D]. */
export function embedded(params, tokens, cfg) {
  const D = cfg.width, V = params.embed.length / D, x_TD = new Float32Array(tokens.length * D);
  for (let t = 0; t < tokens.length; t++) {
    const token = tokens[t];
    if (!Number.isInteger(token) || token < 0 || token >= V) {
      throw new Error(`token ${token} is not possible: it must be a whole number from 0 to ${V - 1}.`);
    }
    x_TD.set(params.embed.subarray(token * D, token * D + D), t * D);
  }
  return x_TD;
}

/** Logits of the positions from `first` on: [T - first, V]. */
export function logits_of(params, x_TD, cfg, first, T) {
  const D = cfg.width, V = params.unembed.length / D;
  const logits = new Float32Array((T - first) * V), h_D = new Float32Array(D);
  for (let t = first; t < T; t++) {
    rms_norm(x_TD, t * D, params.final_norm, 0, D, h_D, 0);
    times(h_D, 0, params.unembed, 0, D, V, logits, (t - first) * V);
  }
  return logits;
}

/**
 * The residual stream after one layer, { x_TD, keys, values }.
 *
 * Where earlier positions are known from another run, they need not be computed again: `seen` are that
 * run's keys and values, and `from` is the first position whose stream is another. `looking` is the
 * first position whose stream afterwards is asked for. `routes` is filled, if given.
 */
export function layer_forward(params, layer, x_TD, cfg, options) {
  const { T, probe, routes = null, from = 0, looking = from, seen = null } = options;
  const D = cfg.width, p = params.layers;
  x_TD = x_TD.slice();
  if (probe.wants("resid_pre")) tap_stream(probe, "resid_pre", layer, x_TD, D, from, T);
  const { mixed_TD, keys, values } = attention(p, layer, x_TD, cfg, { T, probe, from, looking, seen });
  const added_D = new Float32Array(D);
  for (let t = looking; t < T; t++) {
    attention_out(p, layer, mixed_TD, t, cfg, T, probe, added_D);
    for (let d = 0; d < D; d++) x_TD[t * D + d] += added_D[d];
  }
  if (probe.wants("resid_mid")) tap_stream(probe, "resid_mid", layer, x_TD, D, looking, T);
  const h_D = new Float32Array(D);
  for (let t = looking; t < T; t++) {
    rms_norm(x_TD, t * D, p.moe_norm, layer * D, D, h_D, 0);
    const route = route_of(p, layer, h_D, t, cfg, T, probe);
    mixture(p, layer, h_D, route, t, cfg, T, probe, added_D);
    for (let d = 0; d < D; d++) x_TD[t * D + d] += added_D[d];
    if (routes) keep(routes, route, layer * T + t);
  }
  if (probe.wants("resid_post")) tap_stream(probe, "resid_post", layer, x_TD, D, looking, T);
  return { x_TD, keys, values };
}

function tap_stream(probe, name, layer, x_TD, D, from, T) {
  for (let t = from; t < T; t++) {
    probe.tap(name, layer * T + t, x_TD.subarray(t * D, t * D + D), layer, t);
  }
}

function keep(routes, route, row) {
  for (const name of ["logits", "probs", "experts", "gates"]) {
    routes[name].set(route[name], row * route[name].length);
  }
}

/** x / rms(x) · scale. */
export function rms_norm(x, x_at, scale, scale_at, D, out, out_at) {
  let squares = 0;
  for (let d = 0; d < D; d++) squares += x[x_at + d] * x[x_at + d];
  const inverse = 1 / Math.sqrt(squares / D + EPSILON);
  for (let d = 0; d < D; d++) out[out_at + d] = x[x_at + d] * inverse * scale[scale_at + d];
}

/** out [O] = x [I] @ W [I, O]; four rows of W at a time, which is twice as fast. */
let sums = new Float64Array(1024);
export function times(x, x_at, W, W_at, I, O, out, out_at) {
  if (sums.length < O) sums = new Float64Array(O);
  const y = sums;
  for (let o = 0; o < O; o++) y[o] = 0;
  let i = 0, a = W_at;
  for (; i + 3 < I; i += 4, a += 4 * O) {
    const x0 = x[x_at + i], x1 = x[x_at + i + 1], x2 = x[x_at + i + 2], x3 = x[x_at + i + 3];
    const b = a + O, c = b + O, d = c + O;
    for (let o = 0; o < O; o++) y[o] += x0 * W[a + o] + x1 * W[b + o] + x2 * W[c + o] + x3 * W[d + o];
  }
  for (; i < I; i++, a += O) {
    const x0 = x[x_at + i];
    for (let o = 0; o < O; o++) y[o] += x0 * W[a + o];
  }
  for (let o = 0; o < O; o++) out[out_at + o] = y[o];
}

// --- attention -------------------------------------------------------------------------------------

/** Causal attention, normalised queries and keys, rotary positions: what each head read of the values,
 * heads side by side [T, D]. */
export function attention(p, layer, x_TD, cfg, { T, probe, from = 0, looking = from, seen = null }) {
  const D = cfg.width, H = cfg.heads, K = D / H, rotation = rotary(T, K);
  const queries = new Float32Array(T * D), mixed_TD = new Float32Array(T * D);
  const keys = seen ? seen.keys.slice() : new Float32Array(T * D);
  const values = seen ? seen.values.slice() : new Float32Array(T * D);
  const h_D = new Float32Array(D), qkv = new Float32Array(3 * D);
  for (let t = from; t < T; t++) {
    rms_norm(x_TD, t * D, p.attention_norm, layer * D, D, h_D, 0);
    times(h_D, 0, p.qkv, layer * D * 3 * D, D, 3 * D, qkv, 0);
    rms_norm(qkv, 0, p.query_norm, layer * D, D, queries, t * D);
    rms_norm(qkv, D, p.key_norm, layer * D, D, keys, t * D);
    values.set(qkv.subarray(2 * D), t * D);
    rotate(queries, t, rotation, H, K);
    rotate(keys, t, rotation, H, K);
  }
  const tapped = probe.wants("pattern"), pattern_T = new Float32Array(T);
  for (let t = looking; t < T; t++) {
    for (let h = 0; h < H; h++) {
      const at = t * D + h * K;
      for (let s = 0; s < T; s++) {
        let score = 0;
        if (s <= t) for (let k = 0; k < K; k++) score += queries[at + k] * keys[s * D + h * K + k];
        pattern_T[s] = s <= t ? score / Math.sqrt(K) : -Infinity;
      }
      softmax(pattern_T, pattern_T);
      if (tapped) probe.tap("pattern", (layer * H + h) * T + t, pattern_T, layer, t);
      for (let k = 0; k < K; k++) {
        let sum = 0; // an edit may let a position look ahead
        for (let s = 0; s < (tapped ? T : t + 1); s++) sum += pattern_T[s] * values[s * D + h * K + k];
        mixed_TD[at + k] = sum;
      }
    }
  }
  return { mixed_TD, keys, values };
}

/** What attention adds to the stream at one position [D]: the sum of the edited heads where one is. */
function attention_out(p, layer, mixed_TD, t, cfg, T, probe, added_D) {
  const D = cfg.width, H = cfg.heads, K = D / H;
  times(mixed_TD, t * D, p.out, layer * D * D, D, D, added_D, 0);
  if (!probe.wants("head_out")) return;
  const heads_HD = new Float32Array(H * D);
  let edited = false;
  for (let h = 0; h < H; h++) {
    const head_D = heads_HD.subarray(h * D, h * D + D);
    times(mixed_TD, t * D + h * K, p.out, (layer * D + h * K) * D, K, D, head_D, 0);
    edited = probe.tap("head_out", (layer * T + t) * H + h, head_D, layer, t) || edited;
  }
  if (edited) sum_rows(heads_HD, H, D, added_D);
}

function sum_rows(rows_XD, X, D, out_D) {
  for (let d = 0; d < D; d++) {
    let sum = 0;
    for (let x = 0; x < X; x++) sum += rows_XD[x * D + d];
    out_D[d] = sum;
  }
}

/** Cosine and sine [T, K / 2] of the rotary angles, t · theta^(-2i / K) at position t. */
const rotations = new Map(); // made once
export function rotary(T, K) {
  const name = `${T},${K}`;
  if (!rotations.has(name)) {
    const half = K / 2, cos = new Float32Array(T * half), sin = new Float32Array(T * half);
    for (let t = 0; t < T; t++) {
      for (let i = 0; i < half; i++) {
        const angle = t * THETA ** ((-2 * i) / K);
        cos[t * half + i] = Math.cos(angle);
        sin[t * half + i] = Math.sin(angle);
      }
    }
    rotations.set(name, { cos, sin });
  }
  return rotations.get(name);
}

/** Turn the pairs (i, i + K / 2) of each head by the angle of their position, in place. */
export function rotate(x_TD, t, { cos, sin }, H, K) {
  const half = K / 2;
  for (let h = 0; h < H; h++) {
    for (let i = 0; i < half; i++) {
      const at = (t * H + h) * K + i, a = x_TD[at], b = x_TD[at + half];
      const c = cos[t * half + i], s = sin[t * half + i];
      x_TD[at] = a * c - b * s;
      x_TD[at + half] = b * c + a * s;
    }
  }
}

/** Softmax; what is -Infinity has probability 0, and where all is, all has. */
export function softmax(x, out = new Float32Array(x.length)) {
  let most = -Infinity, total = 0;
  for (let i = 0; i < x.length; i++) if (x[i] > most) most = x[i];
  for (let i = 0; i < x.length; i++) total += out[i] = x[i] === -Infinity ? 0 : Math.exp(x[i] - most);
  if (total) for (let i = 0; i < x.length; i++) out[i] /= total;
  return out;
}

/** The index of the largest; of equal ones, the first. */
export function argmax(x) {
  let best = 0;
  for (let i = 1; i < x.length; i++) if (x[i] > x[best]) best = i;
  return best;
}

// --- router ----------------------------------------------------------------------------------------

/** Where one position goes, with all edits made: { logits [E], probs [E], experts [A], gates [A] }. */
function route_of(p, layer, h_D, t, cfg, T, probe) {
  const D = cfg.width, { experts: E, top_k, norm_topk_prob } = cfg, row = layer * T + t;
  const logits_E = new Float32Array(E), probs_E = new Float32Array(E);
  times(h_D, 0, p.router, layer * D * E, D, E, logits_E, 0);
  if (probe.wants("router_logits")) probe.tap("router_logits", row, logits_E, layer, t);
  softmax(logits_E, probs_E);
  if (probe.wants("router_probs")) probe.tap("router_probs", row, probs_E, layer, t);
  const route = route_from_probs(logits_E, probs_E, top_k, norm_topk_prob);
  const frozen = probe.edits.route;
  if (frozen && (frozen.where === true || frozen.where[row])) {
    route.experts = frozen.experts.slice(row * top_k, (row + 1) * top_k);
    route.gates = frozen.gates
      ? frozen.gates.slice(row * top_k, (row + 1) * top_k)
      : gates_of(probs_E, route.experts, norm_topk_prob);
  }
  if (probe.wants("selected", "gates")) {
    const selected_E = new Float32Array(E), gates_E = new Float32Array(E);
    route.experts.forEach((e, a) => ((selected_E[e] = 1), (gates_E[e] = route.gates[a])));
    probe.tap("selected", row, selected_E, layer, t);
    probe.tap("gates", row, gates_E, layer, t, selected_E);
    route.experts.forEach((e, a) => (route.gates[a] = gates_E[e]));
  }
  return route;
}

/** Select the `top_k` experts; of equal logits, the expert of lower index. */
export function route_from_logits(logits_E, top_k, normalise = false) {
  return route_from_probs(logits_E, softmax(logits_E), top_k, normalise);
}

/** `route_from_logits`, given the probabilities too. */
export function route_from_probs(logits, probs, top_k, normalise = false) {
  const experts = new Int32Array(top_k).fill(-1);
  for (let a = 0; a < top_k; a++) {
    let best = -1;
    for (let e = 0; e < probs.length; e++) {
      if ((best < 0 || probs[e] > probs[best]) && !experts.includes(e)) best = e;
    }
    experts[a] = best;
  }
  return { logits, probs, experts, gates: gates_of(probs, experts, normalise) };
}

/** The gates [A] of the selected experts; where all are 0, they stay 0. */
export function gates_of(probs_E, experts_A, normalise = false) {
  const gates_A = Float32Array.from(experts_A, (e) => probs_E[e]);
  if (!normalise) return gates_A;
  const total = gates_A.reduce((sum, gate) => sum + gate, 0);
  return gates_A.map((gate) => gate / Math.max(total, TINY));
}

// --- experts ---------------------------------------------------------------------------------------

/** What one expert says, before its gate: h [D] through SwiGLU, into out [D]. */
let gate_up_U = new Float32Array(256), hidden_F = new Float32Array(128);
export function expert_output(experts, layer, e, h_D, cfg, out_D) {
  const { width: D, experts: E, expert_width: F } = cfg, which = layer * E + e;
  if (hidden_F.length < F) (gate_up_U = new Float32Array(2 * F)), (hidden_F = new Float32Array(F));
  times(h_D, 0, experts.gate_up, which * D * 2 * F, D, 2 * F, gate_up_U, 0);
  for (let f = 0; f < F; f++) {
    const gate = gate_up_U[f];
    hidden_F[f] = (gate / (1 + Math.exp(-gate))) * gate_up_U[F + f];
  }
  times(hidden_F, 0, experts.down, which * F * D, F, D, out_D, 0);
}

/** The experts' sum at one position, into added [D]. Those that were not selected are computed only
 * where somebody looks at them: their gate is 0. */
function mixture(p, layer, h_D, route, t, cfg, T, probe, added_D) {
  const { width: D, experts: E } = cfg, recorded = "expert_out" in probe.record;
  const parts_tapped = probe.wants("contribution"), out_tapped = probe.wants("expert_out");
  const sum_D = new Float64Array(D), parts_D = new Float64Array(D), out_D = new Float32Array(D);
  let edited = false;
  for (let n = 0; n < (parts_tapped || recorded ? E : route.experts.length); n++) {
    const e = parts_tapped || recorded ? n : route.experts[n];
    const slot = route.experts.indexOf(e), gate = slot < 0 ? 0 : route.gates[slot];
    const row = (layer * T + t) * E + e;
    if (slot >= 0 || recorded) {
      expert_output(p.experts, layer, e, h_D, cfg, out_D);
      if (out_tapped) probe.tap("expert_out", row, out_D, layer, t);
    }
    if (slot >= 0) for (let d = 0; d < D; d++) sum_D[d] += gate * out_D[d];
    if (!parts_tapped) continue;
    for (let d = 0; d < D; d++) out_D[d] = gate ? gate * out_D[d] : 0;
    edited = probe.tap("contribution", row, out_D, layer, t) || edited;
    for (let d = 0; d < D; d++) parts_D[d] += out_D[d];
  }
  added_D.set(edited ? parts_D : sum_D);
}
