// What is kept while the page is open: the data, the models unpacked so far, what was computed.
//
// Nothing here waits. A panel asks for what it needs and gets it, or null (a number of progress)
// while it is being made; when it is there, the page is shown again.

import { tuned, set_back, project_out, mask_of } from "./weights.js";
import { CLOSED, freeze, places, replace, zero } from "./taps.js";
import { forward } from "./model.js";
import { unpack_params, unpack_tuned } from "./unpack.js";
import { defaultState, noChanges } from "./state.js";
import { tokens_of } from "./world.js";

const MOST_MODELS = 24; // of a megabyte and a half each
const MOST_SAID = 64;
export const session = {
  data: null,
  again: () => {},
  fail: () => {},
  models: new Map(),
  edited: new Map(),
  said: new Map(),
  results: new Map(),
  running: new Map(),
  worker: null,
  next: 0,
  turn: 0,
};

/** Begins: `again` shows the page once more, `fail` says a sentence. */
export function beginSession(data, again, fail) {
  Object.assign(session, { data, again, fail });
}

/** A new look at the page: what is asked for from now on is wanted, what is not asked for again is
 * not. */
export function nextTurn() {
  session.turn++;
}

function blobText(id) {
  return document.getElementById(id).textContent;
}

function kept(map, key, make) {
  if (map.has(key)) return map.get(key).value;
  const entry = { value: null };
  map.set(key, entry);
  make()
    .then((value) => {
      entry.value = value;
      session.again();
    })
    .catch((error) => session.fail(error.message));
  return null;
}

/** The parameters of a model by its name, or null while they are unpacked. */
export function paramsOf(name) {
  const { models, parameters, precision } = session.data;
  const { blob } = models.find((model) => model.name === name);
  return kept(session.models, name, () =>
    unpack_params(blobText(blob), parameters, precision.kind),
  );
}

/** What tuning some experts adds to their weights, or null while it is unpacked. */
function tunedOf(name) {
  const { config, precision } = session.data,
    { blob, experts } = session.data.tuned[name];
  return kept(session.models, `tuned ${name}`, () =>
    unpack_tuned(blobText(blob), experts.length, config.model, precision.kind),
  );
}

/** The parameters of a state with all its changes of weights, or null while something is unpacked.
 * */
export function editedParams(state) {
  const { config, directions_LD } = session.data;
  let params = paramsOf(state.model);
  const delta = state.tuned === null ? undefined : tunedOf(state.tuned);
  const before = state.set_back.length ? paramsOf("pretrained") : undefined;
  if (!params || delta === null || before === null) return null;
  const key = JSON.stringify([state.model, state.tuned, state.set_back, state.direction]);
  if (!session.edited.has(key)) {
    if (delta) params = tuned(params, session.data.tuned[state.tuned].experts, delta, config.model);
    if (before) params = set_back(params, before, mask_of(state.set_back, config.model));
    if (state.direction !== null) params = project_out(params, directions_LD[state.direction]);
    session.edited.set(key, params);
    if (session.edited.size > MOST_MODELS)
      session.edited.delete(session.edited.keys().next().value);
  }
  return session.edited.get(key);
}

/** What a state changes on the way, but for frozen routes, which are each prompt's own. */
export function editsOf(state, T) {
  const cfg = session.data.config.model,
    edits = {};
  const at = (tap, experts) =>
    experts
      .map(([layer, expert]) => places(tap, cfg, T, { layer, expert }))
      .reduce((a, b) => a.map((on, i) => on | b[i]));
  if (state.silenced.length) edits.expert_out = zero(at("expert_out", state.silenced));
  if (state.masked.length) edits.router_logits = replace(at("router_logits", state.masked), CLOSED);
  return edits;
}

/** What the model of a state says to a prompt, as `forward` gives it, logits of the last position
 * only; or null. The last ones are kept: panels ask for one of them several times. */
export function runState(state, words = state.prompt) {
  const params = editedParams(state);
  const base = state.frozen ? paramsOf(state.model) : undefined;
  if (!params || base === null) return null;
  const key = `${changesKey(state)} ${words.join(" ")}`;
  if (!session.said.has(key)) {
    const cfg = session.data.config.model;
    const tokens = tokens_of(words, session.data);
    const edits = editsOf(state, tokens.length);
    if (base) edits.route = freeze(forward(base, tokens, cfg, { last: true }).routes);
    session.said.set(key, forward(params, tokens, cfg, { edits, last: true }));
    if (session.said.size > MOST_SAID) session.said.delete(session.said.keys().next().value);
  }
  return session.said.get(key);
}

/** What a model says to a prompt with nothing changed; or null. */
export function runModel(name, words) {
  return runState({ ...unchanged(defaultState(session.data)), model: name }, words);
}

// --- long computations ---------------------------------------------------------------------------

/** The result of a task of the worker: { value } when it is there, else { progress } from 0 to 1.
 * `key` says what it is the result of. Of each task one is computed at a time: the first that is
 * still asked for. */
export function task(kind, key, args) {
  const full = `${kind} ${key}`;
  if (session.results.has(full)) return session.results.get(full);
  const busy = session.running.get(kind);
  if (busy && busy.full === full) {
    busy.turn = session.turn;
    return { value: null, progress: busy.progress };
  }
  if (busy && busy.turn === session.turn) return { value: null, progress: 0 }; // its turn comes
  const given = args();
  if (given === null) return { value: null, progress: 0 };
  const id = ++session.next;
  session.running.set(kind, { id, full, progress: 0, turn: session.turn });
  workerOf().postMessage({ id, task: kind, args: given });
  return { value: null, progress: 0 };
}

/** The worker: the engine's part of this page's own script. */
function workerOf() {
  if (session.worker) return session.worker;
  const text = document.getElementById("main").textContent.split("// --- page ---")[0];
  session.worker = new Worker(URL.createObjectURL(new Blob([text], { type: "text/javascript" })));
  session.worker.onmessage = ({ data: message }) => hear(message);
  session.worker.onerror = (event) => session.fail(`The computation stopped: ${event.message}`);
  return session.worker;
}

function hear({ id, progress, result, error }) {
  const [kind, busy] = [...session.running].find(([, x]) => x.id === id) ?? [];
  if (!busy) return; // another one was asked for since
  if (progress !== undefined) busy.progress = progress;
  if (result !== undefined || error !== undefined) {
    session.running.delete(kind);
    session.results.set(busy.full, { value: result ?? null, error });
    if (error) session.fail(error);
  }
  session.again();
}

/** The three meters of a state, over the measured pairs; see `task`. */
export function metersOf(state) {
  const { config, pairs } = session.data;
  return task("meters", changesKey(state), () => {
    const params = editedParams(state),
      frozen = state.frozen ? paramsOf(state.model) : undefined;
    if (!params || frozen === null) return null;
    const edits = editsOf(state, pairs.measured.hazards.tokens_BP[0].length);
    return { params, cfg: config.model, pairs: pairs.measured, edits, frozen: frozen ?? null };
  });
}

/** The same state with nothing changed in its model. */
export function unchanged(state) {
  return { ...state, ...noChanges() };
}

/** What distinguishes the model of one state from that of another. */
export function changesKey(state) {
  const { model, silenced, set_back: back, masked, tuned: set, direction, frozen } = state;
  const sorted = (list) => list.map((x) => x.join(".")).sort();
  return JSON.stringify([
    model,
    sorted(silenced),
    sorted(back),
    sorted(masked),
    set,
    direction,
    frozen,
  ]);
}
