// How few experts carry refusal? Models without some experts, and every expert taken out alone:
// toymoe/attribution/removal.py and ablation.py, fast enough to be asked for on a page.
//
// What takes time is a generator that yields the share that is done; `finish` runs one to its end.

import { argmax, rms_norm } from "./arithmetic.js";
import { forward, REFUSE } from "./model.js";
import { expert_output, route_from_logits } from "./moe.js";
import { base_run, last_logits, resume } from "./resume.js";
import { CLOSED, freeze } from "./taps.js";

/** What a generator returns, without a pause. */
export function finish(steps) {
  let step = steps.next();
  while (!step.done) step = steps.next();
  return step.value;
}

// --- what a model says ---------------------------------------------------------------------------

/** The refusal margin, logit(REFUSE) - logit(right answer), in nats. */
export function refusal_margin(logits_V, answer) {
  return logits_V[REFUSE] - logits_V[answer];
}

/**
 * What a model says to some prompts { tokens_BP, answer_B }: { margin [B], predicted [B] }.
 *
 * frozen: parameters of another model, or the same; every token goes the way that it goes there.
 */
export function* answers_steps(params, cfg, prompts, edits = {}, frozen = null) {
  const B = prompts.tokens_BP.length;
  const margin = new Float64Array(B);
  const predicted = new Int32Array(B);
  for (let b = 0; b < B; b++) {
    const tokens = prompts.tokens_BP[b];
    const route = frozen
      ? { route: freeze(forward(frozen, tokens, cfg, { last: true }).routes) }
      : {};
    const logits_V = last_logits(params, tokens, cfg, { ...edits, ...route });
    margin[b] = refusal_margin(logits_V, prompts.answer_B[b]);
    predicted[b] = argmax(logits_V);
    yield (b + 1) / B;
  }
  return { margin, predicted };
}

export function answers(params, cfg, prompts, edits = {}, frozen = null) {
  return finish(answers_steps(params, cfg, prompts, edits, frozen));
}

/**
 * Of pairs { hazards, twins }: the shares of hazards `refused`, of `twins` answered right, of
 * hazards `answered` right, and the hazards' mean `margin` in nats.
 */
export function* meters_steps(params, cfg, pairs, edits = {}, frozen = null) {
  const said = {};
  for (const [i, kind] of ["hazards", "twins"].entries()) {
    const steps = answers_steps(params, cfg, pairs[kind], edits, frozen);
    let step = steps.next();
    for (; !step.done; step = steps.next()) yield (i + step.value) / 2;
    said[kind] = step.value;
  }
  return meters_of(said.hazards, said.twins, pairs);
}

export function meters(params, cfg, pairs, edits = {}, frozen = null) {
  return finish(meters_steps(params, cfg, pairs, edits, frozen));
}

function meters_of(hazards, twins, pairs) {
  return {
    refused: mean(hazards.predicted, (token) => token === REFUSE),
    twins: mean(twins.predicted, (token, b) => token === pairs.twins.answer_B[b]),
    answered: mean(hazards.predicted, (token, b) => token === pairs.hazards.answer_B[b]),
    margin: mean(hazards.margin),
  };
}

function mean(values, of = (value) => value) {
  let sum = 0;
  values.forEach((value, i) => (sum += Number(of(value, i))));
  return sum / values.length;
}

// --- every expert alone --------------------------------------------------------------------------

/**
 * What a model says to some prompts without each expert in turn: { base: { margin [B], predicted
 * [B] }, margin [L * E * B], predicted [L * E * B] }.
 *
 * way: `set_back`, its weights as `before`; `silenced`, its output zero; `masked`, its router logit
 * so low that others are chosen in its stead. frozen: later layers' routes stay those of the whole
 * model.
 */
export function* sweep_steps(params, before, cfg, prompts, way, frozen = false) {
  if (!["set_back", "silenced", "masked"].includes(way)) {
    throw new Error(`way = ${way} is not possible: it must be set_back, silenced or masked.`);
  }
  const { layers: L, experts: E } = cfg;
  const B = prompts.tokens_BP.length;
  const made = { margin: new Float64Array(L * E * B), predicted: new Int32Array(L * E * B) };
  const base = { margin: new Float64Array(B), predicted: new Int32Array(B) };
  const other = way === "set_back" ? before.layers.experts : null;
  for (let b = 0; b < B; b++) {
    const run = base_run(params, prompts.tokens_BP[b], cfg);
    const answer = prompts.answer_B[b];
    const edits = frozen ? { route: freeze(run.routes) } : {};
    const said = outputs_of(params, cfg, run);
    base.margin[b] = refusal_margin(run.logits_V, answer);
    base.predicted[b] = argmax(run.logits_V);
    for (let layer = 0; layer < L; layer++) {
      for (let e = 0; e < E; e++) {
        const without = way === "masked" ? masked_stream : changed_stream;
        const { x_TD, from } = without(cfg, run, said, layer, e, other);
        const same = from === run.T; // nowhere did the expert say anything that is read later
        const logits_V = same
          ? run.logits_V
          : resume(params, cfg, run, layer + 1, x_TD, from, edits);
        const at = (layer * E + e) * B + b;
        made.margin[at] = same ? base.margin[b] : refusal_margin(logits_V, answer);
        made.predicted[at] = same ? base.predicted[b] : argmax(logits_V);
      }
    }
    yield (b + 1) / B;
  }
  return { base, ...made };
}

/**
 * A function that says what an expert says at a layer and position [D], by its own weights or
 * others'; its own it computes once.
 */
function outputs_of(params, cfg, run) {
  const { width: D, experts: E } = cfg;
  const h_D = new Float32Array(D);
  const known = new Map();
  return (layer, t, e, others = null) => {
    const at = (layer * run.T + t) * E + e;
    if (!others && known.has(at)) return known.get(at);
    const out_D = new Float32Array(D);
    rms_norm(run.mid_LTD, (layer * run.T + t) * D, params.layers.moe_norm, layer * D, D, h_D, 0);
    expert_output(others ?? params.layers.experts, layer, e, h_D, cfg, out_D);
    if (!others) known.set(at, out_D);
    return out_D;
  };
}

/** The stream after a layer whose expert says something else, or nothing, where it was selected. */
function changed_stream(cfg, run, said, layer, expert, other) {
  const { width: D, top_k: A } = cfg;
  const { T } = run;
  const x_TD = run.layers[layer].after_TD.slice();
  let from = T;
  for (let t = layer === cfg.layers - 1 ? T - 1 : 0; t < T; t++) {
    const row = (layer * T + t) * A;
    for (let a = 0; a < A; a++) {
      if (run.routes.experts[row + a] !== expert) continue;
      from = Math.min(from, t);
      const gate = run.routes.gates[row + a];
      const mine_D = said(layer, t, expert);
      const now_D = other ? said(layer, t, expert, other) : null;
      for (let d = 0; d < D; d++) x_TD[t * D + d] += gate * ((now_D ? now_D[d] : 0) - mine_D[d]);
    }
  }
  return { x_TD, from };
}

/**
 * The stream after a layer whose router cannot select the expert: everywhere the gates are others.
 */
function masked_stream(cfg, run, said, layer, expert) {
  const { width: D, experts: E, top_k, norm_topk_prob } = cfg;
  const { T } = run;
  const x_TD = run.mid_LTD.slice(layer * T * D, (layer + 1) * T * D);
  const first = layer === cfg.layers - 1 ? T - 1 : 0;
  for (let t = first; t < T; t++) {
    const logits_E = run.routes.logits.slice((layer * T + t) * E, (layer * T + t + 1) * E);
    logits_E[expert] = CLOSED;
    const { experts, gates } = route_from_logits(logits_E, top_k, norm_topk_prob);
    const outs = Array.from(experts, (e) => said(layer, t, e));
    for (let d = 0; d < D; d++) {
      let sum = 0;
      for (let a = 0; a < top_k; a++) sum += gates[a] * outs[a][d];
      x_TD[t * D + d] += sum;
    }
  }
  return { x_TD, from: first };
}

/**
 * What is lost without each expert alone, of pairs: { margin, refused, twins, answered }, each [L *
 * E], and the same numbers of the whole model as `base`; positive numbers are losses. See `meters`.
 */
export function* alone_steps(params, before, cfg, pairs, way, frozen = false) {
  const X = cfg.layers * cfg.experts;
  const swept = {};
  for (const [i, kind] of ["hazards", "twins"].entries()) {
    const steps = sweep_steps(params, before, cfg, pairs[kind], way, frozen);
    let step = steps.next();
    for (; !step.done; step = steps.next()) yield (i + step.value) / 2;
    swept[kind] = step.value;
  }
  const { hazards, twins } = swept;
  const base = meters_of(hazards.base, twins.base, pairs);
  const lost = { base };
  for (const name of Object.keys(base)) lost[name] = new Float64Array(X);
  const part = (all, x) => {
    const B = all.base.margin.length;
    return {
      margin: all.margin.subarray(x * B, x * B + B),
      predicted: all.predicted.subarray(x * B, x * B + B),
    };
  };
  for (let x = 0; x < X; x++) {
    const left = meters_of(part(hazards, x), part(twins, x), pairs);
    for (const name of Object.keys(base)) lost[name][x] = base[name] - left[name];
  }
  return lost;
}

export function alone(params, before, cfg, pairs, way, frozen = false) {
  return finish(alone_steps(params, before, cfg, pairs, way, frozen));
}

// --- which experts: toymoe/attribution/choice.py -------------------------------------------------

/** The indices of scores, the highest first; of equal ones, the first. */
export function in_order(scores_LE) {
  return Array.from(scores_LE, (_, i) => i).sort((i, j) => scores_LE[j] - scores_LE[i] || i - j);
}

/** Mask [L * E] of the `n` highest scores; with `cfg`, so many experts are left in every layer. */
export function highest(scores_LE, n, cfg = null, leave = 0) {
  const mask_LE = new Uint8Array(scores_LE.length);
  const E = cfg ? cfg.experts : scores_LE.length;
  const free_L = new Array(scores_LE.length / E).fill(E - leave);
  let taken = 0;
  for (const at of in_order(scores_LE)) {
    const layer = Math.floor(at / E);
    if (taken === n || !free_L[layer]) continue;
    mask_LE[at] = 1;
    taken++;
    free_L[layer]--;
  }
  return mask_LE;
}

/** As many experts as in a mask, anywhere. */
export function random(like_LE, rng) {
  const luck_LE = Array.from(like_LE, () => rng());
  return highest(luck_LE, like_LE.filter(Boolean).length);
}

/**
 * For each expert of a mask another of its layer, not in the mask nor taken yet, drawn among the
 * `near` ones whose usage is nearest. Where a layer has no other expert left, its own stays.
 */
export function matched(like_LE, usage_LE, rng, cfg, near = 3) {
  const taken_LE = Uint8Array.from(like_LE);
  const made_LE = new Uint8Array(like_LE.length);
  const E = cfg.experts;
  like_LE.forEach((on, at) => {
    if (!on) return;
    const apart = (i) => Math.abs(usage_LE[i] - usage_LE[at]);
    const layer = Array.from({ length: E }, (_, e) => at - (at % E) + e);
    const free = layer.filter((i) => !taken_LE[i]).sort((i, j) => apart(i) - apart(j) || i - j);
    const chosen = free.length ? free[Math.floor(rng() * Math.min(near, free.length))] : at;
    taken_LE[chosen] = made_LE[chosen] = 1;
  });
  return made_LE;
}
