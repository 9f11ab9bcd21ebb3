// One mixture-of-experts layer at one position: router and experts, as in toymoe/model/moe.py.
//
// A linear router, softmax over all experts and *then* top-k, SwiGLU experts, y = sum of gate times
// expert output over the selected experts.

import { softmax, times } from "./arithmetic.js";

const TINY = 1.1754943508222875e-38; // the smallest normal float32

// --- router --------------------------------------------------------------------------------------

/**
 * Where one position goes, with all edits made: { logits [E], probs [E], experts [A], gates [A] }.
 */
export function route_of(p, layer, h_D, t, cfg, T, probe) {
  const D = cfg.width;
  const { experts: E, top_k, norm_topk_prob } = cfg;
  const row = layer * T + t;
  const logits_E = new Float32Array(E);
  const probs_E = new Float32Array(E);
  times(h_D, 0, p.router, layer * D * E, D, E, logits_E, 0);
  if (probe.wants("router_logits")) probe.tap("router_logits", row, logits_E);
  softmax(logits_E, probs_E);
  if (probe.wants("router_probs")) probe.tap("router_probs", row, probs_E);
  const route = route_from_probs(logits_E, probs_E, top_k, norm_topk_prob);
  const frozen = probe.edits.route;
  if (frozen && (frozen.where === true || frozen.where[row])) {
    route.experts = frozen.experts.slice(row * top_k, (row + 1) * top_k);
    route.gates = frozen.gates
      ? frozen.gates.slice(row * top_k, (row + 1) * top_k)
      : gates_of(probs_E, route.experts, norm_topk_prob);
  }
  if (probe.wants("selected", "gates")) {
    const selected_E = new Float32Array(E);
    const gates_E = new Float32Array(E);
    route.experts.forEach((e, a) => {
      selected_E[e] = 1;
      gates_E[e] = route.gates[a];
    });
    probe.tap("selected", row, selected_E);
    probe.tap("gates", row, gates_E, selected_E);
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

// --- experts -------------------------------------------------------------------------------------

/** What one expert says, before its gate: h [D] through SwiGLU, into out [D]. */
export function expert_output(experts, layer, e, h_D, cfg, out_D) {
  const { width: D, experts: E, expert_width: F } = cfg;
  const which = layer * E + e;
  const gate_up_U = new Float32Array(2 * F);
  const hidden_F = new Float32Array(F);
  times(h_D, 0, experts.gate_up, which * D * 2 * F, D, 2 * F, gate_up_U, 0);
  for (let f = 0; f < F; f++) {
    const gate = gate_up_U[f];
    hidden_F[f] = (gate / (1 + Math.exp(-gate))) * gate_up_U[F + f];
  }
  times(hidden_F, 0, experts.down, which * F * D, F, D, out_D, 0);
}

/**
 * The experts' sum at one position, into added [D]. Those that were not selected are computed only
 * where somebody looks at them: their gate is 0.
 */
export function mixture(p, layer, h_D, route, t, cfg, T, probe, added_D) {
  const { width: D, experts: E } = cfg;
  const recorded = "expert_out" in probe.record;
  const parts_tapped = probe.wants("contribution");
  const out_tapped = probe.wants("expert_out");
  const sum_D = new Float64Array(D);
  const parts_D = new Float64Array(D);
  const out_D = new Float32Array(D);
  let edited = false;
  for (let n = 0; n < (parts_tapped || recorded ? E : route.experts.length); n++) {
    const e = parts_tapped || recorded ? n : route.experts[n];
    const slot = route.experts.indexOf(e);
    const gate = slot < 0 ? 0 : route.gates[slot];
    const row = (layer * T + t) * E + e;
    if (slot >= 0 || recorded) {
      expert_output(p.experts, layer, e, h_D, cfg, out_D);
      if (out_tapped) probe.tap("expert_out", row, out_D);
    }
    if (slot >= 0) for (let d = 0; d < D; d++) sum_D[d] += gate * out_D[d];
    if (!parts_tapped) continue;
    for (let d = 0; d < D; d++) out_D[d] = gate ? gate * out_D[d] : 0;
    edited = probe.tap("contribution", row, out_D) || edited;
    for (let d = 0; d < D; d++) parts_D[d] += out_D[d];
  }
  added_D.set(edited ? parts_D : sum_D);
}
