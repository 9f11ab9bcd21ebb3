// Patching: does refusal come along when a part of one run is put into the run of its twin?
// toymoe/attribution/patching.py, over layers and positions; that file says how it misleads.
//
// The right answers of a pair differ, so the margin is the same function of the logits for both:
// logit(REFUSE) minus the larger of the two right answers' logits.

import { freeze, mask_axes, places, replace } from "./taps.js";
import { forward, REFUSE } from "./model.js";
import { finish } from "./removal.js";
import { base_run, last_logits, resume } from "./resume.js";

/** The margin that both prompts of a pair share, in nats. */
export function shared_margin(logits_V, pair_answers) {
  return logits_V[REFUSE] - Math.max(logits_V[pair_answers[0]], logits_V[pair_answers[1]]);
}

/**
 * The run of `into` with the values that a tap has in the run of `from`, at each layer and position
 * in turn: { margin, of the unpatched run; patched [L * T] }, shared margins in nats.
 */
export function patched_margins(params, cfg, into, from, pair_answers, tap) {
  mask_axes(tap);
  const T = into.length;
  const base = base_run(params, into, cfg);
  const source = forward(params, from, cfg, { record: [tap], last: true });
  const margin = shared_margin(base.logits_V, pair_answers);
  const patched = new Float64Array(cfg.layers * T).fill(margin);
  // Before the first position at which they differ the two runs are one. A pattern's positions are
  // keys.
  const first = tap === "pattern" ? 0 : into.findIndex((token, t) => token !== from[t]);
  for (let layer = 0; layer < cfg.layers; layer++) {
    for (let t = Math.max(first, 0); first >= 0 && t < T; t++) {
      const edits = edits_of(tap, cfg, source, { layer, position: t }, T);
      const logits_V = resume(params, cfg, base, layer, base.layers[layer].before_TD, t, edits);
      patched[layer * T + t] = shared_margin(logits_V, pair_answers);
    }
  }
  return { margin, patched };
}

function edits_of(tap, cfg, source, place, T) {
  if (tap === "selected") {
    return { route: freeze(source.routes, places("route", cfg, T, place), false) };
  }
  return { [tap]: replace(places(tap, cfg, T, place), source.record[tap]) };
}

/**
 * Over pairs, the recovered share of the margin's difference at each place [L * T]: 0, nothing
 * changed; 1, the patched run's margin is the other run's. A ratio of means over pairs.
 *
 * way: `removed`, the twin's values in the hazard's run, share of the margin lost; `restored`, the
 * hazard's values in the twin's run, share of the margin gained.
 */
export function* patch_grids_steps(params, cfg, pairs, tap, way) {
  if (!["removed", "restored"].includes(way)) {
    throw new Error(`way = ${way} is not possible: it must be removed or restored.`);
  }
  const { hazards, twins } = pairs;
  const B = hazards.tokens_BP.length;
  const [into, from] = way === "removed" ? [hazards, twins] : [twins, hazards];
  let changed_LT = null;
  let whole = 0;
  for (let b = 0; b < B; b++) {
    const pair_answers = [hazards.answer_B[b], twins.answer_B[b]];
    const run = (x, y) =>
      patched_margins(params, cfg, x.tokens_BP[b], y.tokens_BP[b], pair_answers, tap);
    const { margin, patched } = run(into, from);
    whole += margin - shared_margin(last_logits(params, from.tokens_BP[b], cfg), pair_answers);
    changed_LT ??= new Float64Array(patched.length);
    for (let i = 0; i < patched.length; i++) changed_LT[i] += margin - patched[i];
    yield (b + 1) / B;
  }
  return changed_LT.map((change) => (whole ? change / whole : 0));
}

export function patch_grids(params, cfg, pairs, tap, way) {
  return finish(patch_grids_steps(params, cfg, pairs, tap, way));
}

/** The same of one pair. */
export function patch_grid(params, cfg, hazard, twin, pair_answers, tap, way) {
  const [hazards, twins] = [hazard, twin].map((tokens, i) => ({
    tokens_BP: [tokens],
    answer_B: [pair_answers[i]],
  }));
  return patch_grids(params, cfg, { hazards, twins }, tap, way);
}
