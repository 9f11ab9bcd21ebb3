// Text in the page -> parameters: the way back of toymoe/explorer/pack.py.
//
// base64 -> gunzip -> byte planes (all low bytes, then the next ones, …) -> numbers -> arrays.

/** The parameters of a blob: a nested dict of Float32Arrays. `listed` is data.parameters. */
export async function unpack_params(text, listed, kind) {
  const arrays = await unpack_arrays(
      text,
      listed.map(({ shape }) => shape),
      kind,
    ),
    params = {};
  listed.forEach(({ name }, i) => {
    const folders = name.split("/");
    const leaf = folders.pop();
    let inside = params;
    for (const folder of folders) inside = inside[folder] ??= {};
    inside[leaf] = arrays[i];
  });
  return params;
}

/** The blob of a tuned model: [{ gate_up, down }, …], differences of `n` experts. */
export async function unpack_tuned(text, n, cfg, kind) {
  const { width: D, expert_width: F } = cfg;
  const shapes = Array.from({ length: n }, () => [
    [D, 2 * F],
    [F, D],
  ]).flat();
  const arrays = await unpack_arrays(text, shapes, kind);
  return Array.from({ length: n }, (_, i) => ({ gate_up: arrays[2 * i], down: arrays[2 * i + 1] }));
}

/** Arrays of some shapes, one after the other in the blob. */
export async function unpack_arrays(text, shapes, kind) {
  const flat = planes_to_numbers(await gunzip(bytes_of(text)), kind);
  const arrays = [];
  const sizes = shapes.map((shape) => shape.reduce((n, m) => n * m, 1));
  const total = sizes.reduce((n, m) => n + m, 0);
  if (flat.length !== total) {
    throw new Error(
      `this page's weights are ${flat.length} numbers, and ${total} are needed: make it anew.`,
    );
  }
  let at = 0;
  for (const size of sizes) arrays.push(flat.slice(at, (at += size)));
  return arrays;
}

function bytes_of(base64) {
  return Uint8Array.from(atob(base64.trim()), (letter) => letter.charCodeAt(0));
}

async function gunzip(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function planes_to_numbers(planes, kind) {
  const size = { float16: 2, float32: 4 }[kind];
  if (!size)
    throw new Error(`weights of kind ${kind} are not known: it must be float16 or float32.`);
  const n = planes.length / size;
  const bits = new Uint32Array(n);
  for (let plane = 0; plane < size; plane++) {
    for (let i = 0; i < n; i++) bits[i] |= planes[plane * n + i] << (8 * plane);
  }
  return kind === "float32"
    ? new Float32Array(bits.buffer)
    : Float32Array.from(bits, half_to_number);
}

/** A float16 of 16 bits: sign, 5 of the exponent, 10 of the fraction. */
export function half_to_number(bits) {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? (1 + fraction / 1024) * 2 ** (exponent - 15) : fraction * 2 ** -24);
}
