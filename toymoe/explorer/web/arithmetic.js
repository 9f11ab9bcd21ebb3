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

/** out [O] = x [I] @ W [I, O]; four columns of W at a time, each read of x serving them all. */
export function times(x, x_at, W, W_at, I, O, out, out_at) {
  let o = 0;
  for (; o + 3 < O; o += 4) {
    let y0 = 0;
    let y1 = 0;
    let y2 = 0;
    let y3 = 0;
    for (let i = 0, at = W_at + o; i < I; i++, at += O) {
      const x_i = x[x_at + i];
      y0 += x_i * W[at];
      y1 += x_i * W[at + 1];
      y2 += x_i * W[at + 2];
      y3 += x_i * W[at + 3];
    }
    out[out_at + o] = y0;
    out[out_at + o + 1] = y1;
    out[out_at + o + 2] = y2;
    out[out_at + o + 3] = y3;
  }
  for (; o < O; o++) {
    let y = 0;
    for (let i = 0; i < I; i++) y += x[x_at + i] * W[W_at + i * O + o];
    out[out_at + o] = y;
  }
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
