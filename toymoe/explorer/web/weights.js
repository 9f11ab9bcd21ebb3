// Changes of the parameters that give an ordinary model again: toymoe/attacks/steering.py and the
// removal of toymoe/attribution/removal.py. None changes its arguments; what stays the same is
// shared.

/** The experts of the mask [L, E] with their weights as `before`. */
export function set_back(params, before, where_LE) {
  return with_experts(params, where_LE, (name, size, i) =>
    before.layers.experts[name].subarray(i * size, (i + 1) * size),
  );
}

/** The experts of the mask [L, E] say nothing, and keep their gates. */
export function silence(params, where_LE) {
  return with_experts(params, where_LE, (name, size) =>
    name === "down" ? new Float32Array(size) : null,
  );
}

/**
 * The differences that tuning made, added: experts [[layer, expert], …], changes [{ gate_up, down
 * }, …].
 */
export function tuned(params, experts, changes, cfg) {
  const where_LE = mask_of(experts, cfg);
  return with_experts(params, where_LE, (name, size, i) => {
    const change = changes[experts.findIndex(([layer, e]) => layer * cfg.experts + e === i)][name];
    return params.layers.experts[name]
      .subarray(i * size, (i + 1) * size)
      .map((w, j) => w + change[j]);
  });
}

/** The mask [L, E] of some experts [[layer, expert], …]. */
export function mask_of(experts, cfg) {
  const where_LE = new Uint8Array(cfg.layers * cfg.experts);
  for (const [layer, e] of experts) where_LE[layer * cfg.experts + e] = 1;
  return where_LE;
}

function with_experts(params, where_LE, weights) {
  const experts = {};
  for (const [name, array] of Object.entries(params.layers.experts)) {
    const size = array.length / where_LE.length;
    experts[name] = array.slice();
    where_LE.forEach((on, i) => {
      const made = on ? weights(name, size, i) : null;
      if (made) experts[name].set(made, i * size);
    });
  }
  return { ...params, layers: { ...params.layers, experts } };
}

/** W' = W (1 - r rᵀ) for every matrix that writes to the residual stream: embedding, attention and
 * experts. The same as projecting r [D] out of the stream everywhere (arXiv 2406.11717, eq. 5). */
export function project_out(params, direction_D) {
  const r = Float32Array.from(direction_D);
  const D = r.length;
  const without = (matrix) => {
    const made = matrix.slice();
    for (let at = 0; at < made.length; at += D) {
      let along = 0;
      for (let d = 0; d < D; d++) along += matrix[at + d] * r[d];
      for (let d = 0; d < D; d++) made[at + d] -= along * r[d];
    }
    return made;
  };
  const { out, experts } = params.layers;
  const layers = {
    ...params.layers,
    out: without(out),
    experts: { ...experts, down: without(experts.down) },
  };
  return { ...params, embed: without(params.embed), layers };
}
