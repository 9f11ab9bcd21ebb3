// One word in two topics: does the router read the word alone, or what it is about?

import { modelTitle, topicName } from "./answers.js";
import { decimal, h, inWords, select, shaded, table } from "./dom.js";
import { paramsOf, session, task } from "./session.js";
import { sharedWords } from "./state.js";
import { assemble, context_of, seeded } from "./world.js";

const PROMPTS = 60; // drawn of each topic, to see where a shared word goes

/** Which experts take a word that topics share, in each of them. */
export function wordShown(state, go) {
  const { data } = session,
    words = sharedWords(data);
  if (!words.length) return null;
  const word = state.word ?? words[0],
    token = data.names.indexOf(word);
  const topics = data.tables.word_GW.flatMap((row, g) => (row.includes(token) ? [g] : []));
  const names = data.models.map(({ name }) => name);
  const wanted = [...new Set([...(names.includes("untrained") ? ["untrained"] : []), state.model])];
  return h(
    "section",
    {},
    h("h3", {}, "One word in two topics"),
    h(
      "p",
      {},
      `${word} is a word of ${inWords(topics.map((g) => topicName(g, data)))}. If the router only read the word, the same experts would take it in both. ` +
        "Computed by the model in this page.",
    ),
    h(
      "div",
      { class: "controls" },
      select(
        "word",
        "word",
        word,
        words.map((x) => [x, x]),
        (value) => go({ word: value }),
      ),
    ),
    wanted.map((name) => wordTable(name, word, token, topics)),
  );
}

function wordTable(name, word, token, topics) {
  const { data } = session,
    { layers: L, experts: E, top_k: A } = data.config.model;
  const prompts = topics.flatMap((g) => contextsWith(g, token));
  const seen = task("selected", `${name} ${word}`, () => {
    const params = paramsOf(name);
    return params && { params, cfg: data.config.model, tokens_BP: prompts };
  });
  if (!seen.value) return h("p", {}, `computing, ${modelTitle(name, data)} …`);
  const T = prompts[0].length,
    counts = topics.map(() => new Float64Array(L * E)),
    met = topics.map(() => 0);
  prompts.forEach((tokens, b) =>
    tokens.forEach((x, t) => {
      if (x !== token) return;
      const which = Math.floor(b / PROMPTS);
      met[which] += 1;
      for (let l = 0; l < L; l++)
        for (let a = 0; a < A; a++)
          counts[which][l * E + seen.value.experts[((b * L + l) * T + t) * A + a]] += 1;
    }),
  );
  const share = (which, i) => counts[which][i] / Math.max(met[which], 1);
  return h(
    "div",
    { class: "words" },
    Array.from({ length: L }, (_, l) => {
      const used = Array.from({ length: E }, (_, e) => e)
        .filter((e) => topics.some((_, w) => share(w, l * E + e) >= 0.05))
        .sort(
          (a, b) =>
            share(0, l * E + b) - share(1, l * E + b) - share(0, l * E + a) + share(1, l * E + a),
        );
      const common =
        Array.from({ length: E }, (_, e) =>
          Math.min(share(0, l * E + e), share(topics.length - 1, l * E + e)),
        ).reduce((a, b) => a + b, 0) / A;
      return h(
        "div",
        {},
        table(
          `layer ${l}, ${modelTitle(name, data)}: share of ${word} that each expert takes`,
          ["in topic", ...used.map((e) => `${l}.${e}`)],
          topics.map((g, which) => [
            topicName(g, data),
            ...used.map((e) => shaded(decimal(share(which, l * E + e)), share(which, l * E + e))),
          ]),
          { class: "map" },
        ),
        h("p", { class: "note" }, `in common: ${decimal(common)}`),
      );
    }),
  );
}

/** Prompts of a topic in whose context the word stands; the request is always the same. */
function contextsWith(topic, token) {
  const { data } = session,
    rng = seeded(1000 * token + topic),
    made = [];
  for (let tries = 0; made.length < PROMPTS && tries < 100 * PROMPTS; tries++) {
    const context = context_of(rng, data, topic, data.config.world.context);
    if (context.includes(token)) made.push(assemble(context, 0, 0, data));
  }
  while (made.length < PROMPTS)
    made.push(
      made[0] ?? assemble(context_of(rng, data, topic, data.config.world.context), 0, 0, data),
    );
  return made;
}
