// What the model is made of, on flat Float32Arrays in C order; every sum is made in doubles.
//
// An array and the index at which a vector begins in it are given together, so that nothing is
// copied.

export const EPSILON = 1e-5; // of RMSNorm

/** x / rms(x) · scale. */
export function rms_norm(x, x_at, scale, scale_at, D, out, out_at) {
  let squares = 0;
  for (let d = 0; d < D; d++) squares += x[x_at + d] * x[x_at + d];
  const inverse = 1 / Math.sqrt(squares / D + EPSILON);
  for (let d = 0; d < D; d++) out[out_at + d] = x[x_at + d] * inverse * scale[scale_at + d];
}

let sums = new Float64Array(1024);

/** out [O] = x [I] @ W [I, O]; four rows of W at a time, which is twice as fast. */
export function times(x, x_at, W, W_at, I, O, out, out_at) {
  if (sums.length < O) sums = new Float64Array(O);
  const y = sums;
  for (let o = 0; o < O; o++) y[o] = 0;
  let i = 0;
  let a = W_at;
  for (; i + 3 < I; i += 4, a += 4 * O) {
    const x0 = x[x_at + i];
    const x1 = x[x_at + i + 1];
    const x2 = x[x_at + i + 2];
    const x3 = x[x_at + i + 3];
    const b = a + O;
    const c = b + O;
    const d = c + O;
    for (let o = 0; o < O; o++)
      y[o] += x0 * W[a + o] + x1 * W[b + o] + x2 * W[c + o] + x3 * W[d + o];
  }
  for (; i < I; i++, a += O) {
    const x0 = x[x_at + i];
    for (let o = 0; o < O; o++) y[o] += x0 * W[a + o];
  }
  for (let o = 0; o < O; o++) out[out_at + o] = y[o];
}

/** Softmax; what is -Infinity has probability 0, and where all is, all has. */
export function softmax(x, out = new Float32Array(x.length)) {
  let most = -Infinity;
  let total = 0;
  for (let i = 0; i < x.length; i++) if (x[i] > most) most = x[i];
  for (let i = 0; i < x.length; i++)
    total += out[i] = x[i] === -Infinity ? 0 : Math.exp(x[i] - most);
  if (total) for (let i = 0; i < x.length; i++) out[i] /= total;
  return out;
}

/** The index of the largest; of equal ones, the first. */
export function argmax(x) {
  let best = 0;
  for (let i = 1; i < x.length; i++) if (x[i] > x[best]) best = i;
  return best;
}
