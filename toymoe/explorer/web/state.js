// A state of the page and the fragment of its address, in which all that can be seen is written.
// The same keys, order and defaults as toymoe/explorer/state.py.

export const PANELS = {
  ask: "Ask",
  routing: "Routing follows topic",
  refusal: "Refusal localises",
  patch: "Patch",
  code: "Code",
};
const EXPERT_LISTS = ["silenced", "set_back", "masked"];
const NUMBERS = ["direction", "pair", "layer", "position", "step"];
export const WAYS = {
  removed: "the twin's values into the hazard (removes refusal)",
  restored: "the hazard's values into the twin (brings refusal)",
};

/** Thrown with one sentence for the reader. */
export class StateError extends Error {}

/** The keys that change a state's model, and what they are where nothing is changed. */
export function noChanges() {
  return { silenced: [], set_back: [], masked: [], tuned: null, direction: null, frozen: false };
}

/** The state of a page that was just opened. */
export function defaultState(data) {
  return {
    panel: "ask",
    model: data.models.some(({ name }) => name === "aligned")
      ? "aligned"
      : data.models[data.models.length - 1].name,
    prompt: data.pairs.measured.hazards.tokens_BP[0].map((token) => data.names[token]),
    ...noChanges(),
    pair: 0,
    tap: "expert_out",
    way: "removed",
    layer: null,
    position: null,
    step: Math.max((data.history?.step?.length ?? 1) - 1, 0),
    word: null,
  };
}

/** A state from a fragment, with or without "#"; what is not named keeps its default.
 * Throws StateError: what was given, what is allowed, what to do. */
export function readState(text, data, tapNames) {
  const state = defaultState(data);
  const parts = decoded(String(text).replace(/^[^#]*#/, ""))
      .split("&")
      .filter(Boolean),
    given = new Set();
  for (const part of parts) {
    const at = part.indexOf("=");
    const key = at < 0 ? part : part.slice(0, at);
    const value = at < 0 ? "" : part.slice(at + 1);
    if (!(key in state)) {
      throw new StateError(
        `The address says ${part}, and no part of a state is called ${key}: ` +
          `there are ${Object.keys(state).join(", ")}.`,
      );
    }
    if (given.has(key)) throw new StateError(`The address says ${key} twice: keep one of the two.`);
    given.add(key);
    state[key] = readPart(key, value, data, tapNames);
  }
  return checked(state, data);
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new StateError("The address has a % that stands for nothing: copy the link once more.");
  }
}

function readPart(key, value, data, tapNames) {
  const { layers, experts } = data.config.model;
  if (EXPERT_LISTS.includes(key)) {
    const found = value
      .split(",")
      .filter(Boolean)
      .map((x) => oneExpert(key, x, layers, experts));
    return found.filter(([l, e], i) => found.findIndex(([m, f]) => l === m && e === f) === i);
  }
  if (NUMBERS.includes(key)) {
    const sizes = {
      direction: data.directions_LD?.length ?? 0,
      pair: data.pairs.measured.hazards.tokens_BP.length,
      layer: layers,
      position: data.pairs.measured.hazards.tokens_BP[0].length,
      step: data.history?.step?.length ?? 0,
    };
    const number = Number(value);
    if (value === "" || !Number.isInteger(number) || number < 0 || number >= sizes[key]) {
      throw new StateError(
        sizes[key]
          ? `The address says ${key}=${value}: it must be a whole number from 0 to ` +
              `${sizes[key] - 1}.`
          : `The address says ${key}=${value}, and this page has none.`,
      );
    }
    return number;
  }
  if (key === "frozen") return oneOf(key, value, ["0", "1"]) === "1";
  if (key === "prompt") return promptOf(value.split("."), data);
  const allowed = {
    panel: Object.keys(PANELS),
    model: data.models.map(({ name }) => name),
    tuned: Object.keys(data.tuned ?? {}),
    way: Object.keys(WAYS),
    tap: tapNames,
    word: sharedWords(data),
  }[key];
  return oneOf(key, value, allowed);
}

function oneOf(key, value, allowed) {
  if (allowed.includes(value)) return value;
  throw new StateError(
    allowed.length
      ? `The address says ${key}=${value}: it must be one of ${allowed.join(", ")}.`
      : `The address says ${key}=${value}, and this page has none.`,
  );
}

function oneExpert(key, text, layers, experts) {
  const [, layer, expert] = /^(\d+)\.(\d+)$/.exec(text) ?? [];
  if (layer === undefined || Number(layer) >= layers || Number(expert) >= experts) {
    throw new StateError(
      `The address says ${key}=…${text}: an expert is named layer.expert, from 0.0 to ` +
        `${layers - 1}.${experts - 1}.`,
    );
  }
  return [Number(layer), Number(expert)];
}

/** The words of a prompt, if it has the form of one: BOS, words of topics, ASK or NOTE, a verb, an
 * entity, ANS. */
export function promptOf(words, data, most = 64) {
  const stray = words.find((word) => !data.names.includes(word));
  if (stray !== undefined) {
    throw new StateError(
      stray === ""
        ? "A word of the prompt is empty: give words of the toy language."
        : `The model has no word ${stray}: its words are such as ${data.names[data.tables.word_GW[0][0]]}, ` +
            `${data.names[data.verb]}, ${data.names[data.entity]} and ANS.`,
    );
  }
  const tokens = words.map((word) => data.names.indexOf(word)),
    n = tokens.length;
  const within = (token, first, end) => token >= first && token < end,
    topicWords = data.tables.word_GW.flat();
  const formed =
    n >= 6 &&
    n <= most &&
    words[0] === "BOS" &&
    ["ASK", "NOTE"].includes(words[n - 4]) &&
    words[n - 1] === "ANS" &&
    within(tokens[n - 3], data.verb, data.entity) &&
    within(tokens[n - 2], data.entity, data.answer) &&
    tokens.slice(1, n - 4).every((token) => topicWords.includes(token));
  if (!formed) {
    throw new StateError(
      `The prompt of ${n} words has not the form of one: it must be BOS, words of topics, ASK, a verb, ` +
        `an entity and ANS, ${most} words at most.`,
    );
  }
  return words;
}

/** Refuses what no model can be made of. */
export function checked(state, data) {
  const { layers, experts, top_k: wanted } = data.config.model;
  for (let layer = 0; layer < layers; layer++) {
    const closed = new Set(state.masked.filter(([l]) => l === layer).map(([, e]) => e)).size;
    if (experts - closed < wanted) {
      throw new StateError(
        `${closed} of the ${experts} experts of layer ${layer} are masked, and the router chooses ` +
          `${wanted} of them: leave it that many.`,
      );
    }
  }
  return state;
}

/** The fragment of a state, without "#"; defaults are left out. */
export function writeState(state, data) {
  const usual = defaultState(data);
  const text = (key) => {
    const value = state[key];
    if (EXPERT_LISTS.includes(key)) return value.map((x) => x.join(".")).join(",");
    if (key === "prompt") return value.join(".");
    if (key === "frozen") return value ? "1" : "0";
    return value === null ? "" : String(value);
  };
  return Object.keys(usual)
    .filter((key) => JSON.stringify(state[key]) !== JSON.stringify(usual[key]) && text(key) !== "")
    .map((key) => `${key}=${text(key)}`)
    .join("&");
}

/** Words that two topics share: their names hold both. */
export function sharedWords(data) {
  const count = new Map();
  data.tables.word_GW.forEach((words) =>
    words.forEach((token) => count.set(token, (count.get(token) ?? 0) + 1)),
  );
  return [...count].filter(([, n]) => n > 1).map(([token]) => data.names[token]);
}

/** Is anything changed in the model of this state? */
export function isChanged(state) {
  return (
    EXPERT_LISTS.some((key) => state[key].length) ||
    state.tuned !== null ||
    state.direction !== null ||
    state.frozen
  );
}
