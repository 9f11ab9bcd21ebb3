// Runs that begin in the middle: what is the same as in another run is not computed again.

import { embedded, empty_routes, layer_forward, logits_of } from "./model.js";
import { Probe } from "./taps.js";

/** Logits at the last position [V], for less than `forward`: the last layer runs only there. */
export function last_logits(params, tokens, cfg, edits = {}) {
  const T = tokens.length;
  const probe = new Probe(cfg, T, edits);
  let x_TD = embedded(params, tokens, cfg);
  for (let layer = 0; layer < cfg.layers; layer++) {
    const looking = layer === cfg.layers - 1 ? T - 1 : 0;
    x_TD = layer_forward(params, layer, x_TD, cfg, { T, probe, looking }).x_TD;
  }
  return logits_of(params, x_TD, cfg, T - 1, T);
}

/** One run, and all that a run needs which differs from it only from some layer and position on. */
export function base_run(params, tokens, cfg) {
  const T = tokens.length;
  const probe = new Probe(cfg, T, {}, ["resid_mid"]);
  const layers = [];
  const routes = empty_routes(cfg, T);
  let x_TD = embedded(params, tokens, cfg);
  for (let layer = 0; layer < cfg.layers; layer++) {
    const made = layer_forward(params, layer, x_TD, cfg, { T, probe, routes });
    layers.push({ before_TD: x_TD, after_TD: made.x_TD, keys: made.keys, values: made.values });
    x_TD = made.x_TD;
  }
  return {
    T,
    layers,
    mid_LTD: probe.record.resid_mid,
    routes,
    logits_V: logits_of(params, x_TD, cfg, T - 1, T),
  };
}

/**
 * Logits at the last position [V] of a run whose stream before a layer is another from position
 * `from` on: earlier positions keep the keys and values of the base run.
 */
export function resume(params, cfg, base, first, x_TD, from, edits = {}) {
  const { T } = base;
  const probe = new Probe(cfg, T, edits);
  for (let layer = first; layer < cfg.layers; layer++) {
    const looking = layer === cfg.layers - 1 ? T - 1 : from;
    const seen = base.layers[layer];
    x_TD = layer_forward(params, layer, x_TD, cfg, { T, probe, from, looking, seen }).x_TD;
  }
  return logits_of(params, x_TD, cfg, T - 1, T);
}
