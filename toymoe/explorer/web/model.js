// The transformer: a miniature OLMoE, as toymoe/model/transformer.py and moe.py have it, for one
// prompt.
//
// Pre-norm RMSNorm, rotary positions, RMSNorm on the whole query and key projections, SwiGLU
// experts, untied output head, no biases. Arrays are flat Float32Arrays in C order; every sum is
// made in doubles.

import { rms_norm, softmax, times } from "./arithmetic.js";
import { mixture, route_of } from "./moe.js";
import { Probe, size_of } from "./taps.js";

export const THETA = 10000; // base of the rotary frequencies
export const REFUSE = 3; // the token

/**
 * Next-token logits [T, V], the routes, and whatever was asked for on the way.
 *
 * edits: { tap: edit, route: frozen }, see taps.js; record: names of taps, recorded after their
 * edit; last: the logits of the last position only, [V].
 */
export function forward(params, tokens, cfg, { edits = {}, record = [], last = false } = {}) {
  const T = tokens.length;
  const probe = new Probe(cfg, T, edits, record);
  let x_TD = embedded(params, tokens, cfg);
  const routes = empty_routes(cfg, T);
  for (let layer = 0; layer < cfg.layers; layer++) {
    x_TD = layer_forward(params, layer, x_TD, cfg, { T, probe, routes }).x_TD;
  }
  return {
    logits: logits_of(params, x_TD, cfg, last ? T - 1 : 0, T),
    routes,
    record: probe.record,
  };
}

/** Routes of all layers and positions, to be filled. */
export function empty_routes(cfg, T) {
  return {
    logits: new Float32Array(size_of("LTE", cfg, T)),
    probs: new Float32Array(size_of("LTE", cfg, T)),
    experts: new Int32Array(size_of("LTA", cfg, T)),
    gates: new Float32Array(size_of("LTA", cfg, T)),
  };
}

/** What the residual stream starts with, [T, D]. */
export function embedded(params, tokens, cfg) {
  const D = cfg.width;
  const V = params.embed.length / D;
  const x_TD = new Float32Array(tokens.length * D);
  for (let t = 0; t < tokens.length; t++) {
    const token = tokens[t];
    if (!Number.isInteger(token) || token < 0 || token >= V) {
      throw new Error(
        `token ${token} is not possible: it must be a whole number from 0 to ${V - 1}.`,
      );
    }
    x_TD.set(params.embed.subarray(token * D, token * D + D), t * D);
  }
  return x_TD;
}

/** Logits of the positions from `first` on: [T - first, V]. */
export function logits_of(params, x_TD, cfg, first, T) {
  const D = cfg.width;
  const V = params.unembed.length / D;
  const logits = new Float32Array((T - first) * V);
  const h_D = new Float32Array(D);
  for (let t = first; t < T; t++) {
    rms_norm(x_TD, t * D, params.final_norm, 0, D, h_D, 0);
    times(h_D, 0, params.unembed, 0, D, V, logits, (t - first) * V);
  }
  return logits;
}

/**
 * The residual stream after one layer, { x_TD, keys, values }.
 *
 * Where earlier positions are known from another run, they need not be computed again: `seen` are
 * that run's keys and values, and `from` is the first position whose stream is another. `looking`
 * is the first position whose stream afterwards is asked for. `routes` is filled, if given.
 */
export function layer_forward(params, layer, x_TD, cfg, options) {
  const { T, probe, routes = null, from = 0, looking = from, seen = null } = options;
  const D = cfg.width;
  const p = params.layers;
  x_TD = x_TD.slice();
  if (probe.wants("resid_pre")) tap_stream(probe, "resid_pre", layer, x_TD, D, from, T);
  const places_run = { T, probe, from, looking, seen };
  const { mixed_TD, keys, values } = attention(p, layer, x_TD, cfg, places_run);
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
    probe.tap(name, layer * T + t, x_TD.subarray(t * D, t * D + D));
  }
}

function keep(routes, route, row) {
  for (const name of ["logits", "probs", "experts", "gates"]) {
    routes[name].set(route[name], row * route[name].length);
  }
}

// --- attention -----------------------------------------------------------------------------------

/**
 * Causal attention, normalised queries and keys, rotary positions: what each head read of the
 * values, heads side by side [T, D].
 */
export function attention(p, layer, x_TD, cfg, { T, probe, from, looking, seen }) {
  const D = cfg.width;
  const H = cfg.heads;
  const K = D / H;
  const rotation = rotary(T, K);
  const queries = new Float32Array(T * D);
  const mixed_TD = new Float32Array(T * D);
  const keys = seen ? seen.keys.slice() : new Float32Array(T * D);
  const values = seen ? seen.values.slice() : new Float32Array(T * D);
  const h_D = new Float32Array(D);
  const qkv = new Float32Array(3 * D);
  for (let t = from; t < T; t++) {
    rms_norm(x_TD, t * D, p.attention_norm, layer * D, D, h_D, 0);
    times(h_D, 0, p.qkv, layer * D * 3 * D, D, 3 * D, qkv, 0);
    rms_norm(qkv, 0, p.query_norm, layer * D, D, queries, t * D);
    rms_norm(qkv, D, p.key_norm, layer * D, D, keys, t * D);
    values.set(qkv.subarray(2 * D), t * D);
    rotate(queries, t, rotation, H, K);
    rotate(keys, t, rotation, H, K);
  }
  const tapped = probe.wants("pattern");
  const pattern_T = new Float32Array(T);
  for (let t = looking; t < T; t++) {
    for (let h = 0; h < H; h++) {
      const at = t * D + h * K;
      for (let s = 0; s < T; s++) {
        let score = 0;
        if (s <= t) for (let k = 0; k < K; k++) score += queries[at + k] * keys[s * D + h * K + k];
        pattern_T[s] = s <= t ? score / Math.sqrt(K) : -Infinity;
      }
      softmax(pattern_T, pattern_T);
      if (tapped) probe.tap("pattern", (layer * H + h) * T + t, pattern_T);
      for (let k = 0; k < K; k++) {
        let sum = 0; // an edit may let a position look ahead
        for (let s = 0; s < (tapped ? T : t + 1); s++)
          sum += pattern_T[s] * values[s * D + h * K + k];
        mixed_TD[at + k] = sum;
      }
    }
  }
  return { mixed_TD, keys, values };
}

/**
 * What attention adds to the stream at one position [D]: the sum of the edited heads where one is.
 */
function attention_out(p, layer, mixed_TD, t, cfg, T, probe, added_D) {
  const D = cfg.width;
  const H = cfg.heads;
  const K = D / H;
  times(mixed_TD, t * D, p.out, layer * D * D, D, D, added_D, 0);
  if (!probe.wants("head_out")) return;
  const heads_HD = new Float32Array(H * D);
  let edited = false;
  for (let h = 0; h < H; h++) {
    const head_D = heads_HD.subarray(h * D, h * D + D);
    times(mixed_TD, t * D + h * K, p.out, (layer * D + h * K) * D, K, D, head_D, 0);
    edited = probe.tap("head_out", (layer * T + t) * H + h, head_D) || edited;
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

const rotations = new Map(); // made once

/** Cosine and sine [T, K / 2] of the rotary angles, t · theta^(-2i / K) at position t. */
export function rotary(T, K) {
  const name = `${T},${K}`;
  if (!rotations.has(name)) {
    const half = K / 2;
    const cos = new Float32Array(T * half);
    const sin = new Float32Array(T * half);
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
      const at = (t * H + h) * K + i;
      const a = x_TD[at];
      const b = x_TD[at + half];
      const c = cos[t * half + i];
      const s = sin[t * half + i];
      x_TD[at] = a * c - b * s;
      x_TD[at + half] = b * c + a * s;
    }
  }
}
