// The toy language: reading and drawing prompts, their labels and their twins, from the tables of
// the page. toymoe/world/prompts.py and twins.py. A prompt is BOS, context, ASK, verb, entity, ANS.
//
// Axes of the tables: G topics, Y verbs, Z entities, W words of a topic.

const SURE = 1e-4; // half of what the last kept digit of a table of probabilities is worth, and more

/** Uniform numbers from 0 to 1, always the same of one seed (mulberry32). */
export function seeded(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

function pick(rng, options) {
  return options[Math.floor(rng() * options.length)];
}

function range(n) {
  return Array.from({ length: n }, (_, i) => i);
}

/** The tokens of names: a list, or one text of names with spaces or dots between. */
export function tokens_of(words, data) {
  const names = Array.isArray(words) ? words : words.split(/[\s.]+/).filter(Boolean);
  return names.map((name) => {
    const token = data.names.indexOf(name);
    if (token < 0)
      throw new Error(`${name} is no word of this world: its words are in the list of tokens.`);
    return token;
  });
}

/** The names of tokens. */
export function words_of(tokens, data) {
  return Array.from(tokens, (token) => data.names[token]);
}

// --- labels --------------------------------------------------------------------------------------

/** The request of a topic, verb and entity with all its labels. */
export function labelled(topic, verb, entity, data) {
  const look = (name) => data.tables[name][topic][verb][entity];
  return {
    topic,
    verb,
    entity,
    answer: look("answer_GYZ"),
    hazard: Boolean(look("hazard_GYZ")),
    control: Number(look("control_GYZ")),
    held_out: Boolean(look("held_out_GYZ")),
  };
}

/**
 * What a prompt asks, with its labels, or null where it has not the form of one. Its topic is the
 * one whose chain makes its context likeliest.
 */
export function request_of(tokens, data) {
  const { BOS, ASK, ANS } = data.specials;
  const n = tokens.length;
  const verb = tokens[n - 3] - data.verb;
  const entity = tokens[n - 2] - data.entity;
  const [verbs, entities] = [data.entity - data.verb, data.answer - data.entity];
  const formed = n > 5 && tokens[0] === BOS && tokens[n - 4] === ASK && tokens[n - 1] === ANS;
  if (!formed || verb < 0 || verb >= verbs || entity < 0 || entity >= entities) return null;
  const topic = topic_of(Array.from(tokens).slice(1, n - 4), data);
  return topic === null ? null : labelled(topic, verb, entity, data);
}

/** The topic whose chain makes the context likeliest, or null where a token is no topic's word. */
export function topic_of(context, data) {
  const { word_GW, chain_GWW } = data.tables;
  if (!context.every((token) => word_GW.some((words) => words.includes(token)))) return null;
  const scores = word_GW.map((words, g) => {
    const at = context.map((token) => words.indexOf(token));
    const strays = at.filter((w) => w < 0).length;
    const likely = at.reduce((sum, w, c) => {
      if (!c || w < 0 || at[c - 1] < 0) return sum;
      const step_W = chain_GWW[g][at[c - 1]];
      return sum + Math.log(Math.max(step_W[w] - (w ? step_W[w - 1] : 0), SURE));
    }, 0);
    return likely - 1000 * strays; // a word that the topic has not rules it out
  });
  return scores.indexOf(Math.max(...scores));
}

/** Which parts of a request decide: those of which another choice alone flips the hazard. */
export function deciding(request, data) {
  return data.rule.parts.filter((part) => options_of(request, data, part, true).length);
}

/** Why a request is hazardous or not, in one or two sentences. */
export function why(request, data) {
  const parts = deciding(request, data);
  const { name, meaning } = data.rule;
  const others =
    parts.length > 1 ? `${parts.slice(0, -1).join(", ")} or ${parts.at(-1)}` : parts[0];
  const flip = parts.length ? ` Another ${others} alone would make it ` : "";
  if (request.hazard) {
    return `Hazardous by the rule ${name}: ${meaning}.${flip && `${flip}harmless.`}`;
  }
  const like = request.control
    ? `, though it looks like a hazard (${data.controls[request.control - 1].replace("_", " ")})`
    : "";
  return `Harmless${like}: hazardous would be ${meaning}.${flip && `${flip}hazardous.`}`;
}

// --- drawing -------------------------------------------------------------------------------------

/** A prompt at random: what is not given is drawn, every choice alike. */
export function draw(rng, data, { topic = null, verb = null, entity = null } = {}) {
  const { hazard_GYZ } = data.tables;
  const chosen = (given, n) => given ?? pick(rng, range(n));
  const [g, y, z] = [
    chosen(topic, hazard_GYZ.length),
    chosen(verb, hazard_GYZ[0].length),
    chosen(entity, hazard_GYZ[0][0].length),
  ];
  return assemble(context_of(rng, data, g, data.config.world.context), y, z, data);
}

/** Context words from a topic's chain. */
export function context_of(rng, data, topic, n) {
  const words = data.tables.word_GW[topic];
  const made = [Math.floor(rng() * words.length)];
  while (made.length < n) {
    const u = rng();
    const step_W = data.tables.chain_GWW[topic][made.at(-1)];
    made.push(Math.min(step_W.filter((below) => below <= u).length, words.length - 1));
  }
  return made.map((w) => words[w]);
}

/** The tokens of a context and a request. */
export function assemble(context, verb, entity, data) {
  const { BOS, ASK, ANS } = data.specials;
  return [BOS, ...context, ASK, data.verb + verb, data.entity + entity, ANS];
}

// --- twins ---------------------------------------------------------------------------------------

/**
 * Kind of twin -> the part swapped, and whether the hazard must flip (true), stay (false), or
 * either (null); `intent` swaps what the hazard rule says.
 */
export const TWINS = {
  intent: [null, true],
  neutral: ["verb", false],
  object: ["entity", true],
  topic: ["context", null],
};

/** The other choices of one part of a request that flip its hazard, or keep it. */
export function options_of(request, data, part, flip) {
  const { hazard_GYZ } = data.tables;
  const key = { context: "topic", verb: "verb", entity: "entity" }[part];
  const sizes = {
    topic: hazard_GYZ.length,
    verb: hazard_GYZ[0].length,
    entity: hazard_GYZ[0][0].length,
  };
  return range(sizes[key]).filter((other) => {
    const { topic, verb, entity } = { ...request, [key]: other };
    const flips = Boolean(hazard_GYZ[topic][verb][entity]) !== request.hazard;
    return other !== request[key] && (flip === null || flips === flip);
  });
}

/** A twin of a prompt, or null where there is none. */
export function twin(rng, tokens, data, kind = "intent") {
  const [named, flip] = TWINS[kind];
  const part = named ?? data.rule.swaps;
  const request = request_of(tokens, data);
  const options = request ? options_of(request, data, part, flip) : [];
  if (!options.length) return null;
  const context = Array.from(tokens).slice(1, tokens.length - 4);
  const other = pick(rng, options);
  if (part === "verb") return assemble(context, other, request.entity, data);
  if (part === "entity") return assemble(context, request.verb, other, data);
  return assemble(context_of(rng, data, other, context.length), request.verb, request.entity, data);
}
