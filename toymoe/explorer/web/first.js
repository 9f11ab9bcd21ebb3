// Where to begin: one sentence what this is, and three things to try.

import { expertName, h, inWords } from "./dom.js";
import { session } from "./session.js";
import { writeState } from "./state.js";

/** What a twin swaps, as the page calls it. */
export function swapped() {
  const part = session.data.rule.swaps;
  return part === "context" ? "topic" : part;
}

/** One sentence what this is, and three things to try. */
export function firstScreen(state) {
  const { data } = session,
    { hazards, twins } = data.pairs.measured,
    { layers, experts } = data.config.model;
  const link = (change) => `#${writeState({ ...state, ...change }, data)}`;
  const words = (tokens) => tokens.map((token) => data.names[token]);
  const order = data.metrics?.removal?.silenced?.order?.slice(0, 2) ?? [];
  return h(
    "section",
    { class: "first", "aria-label": "where to begin" },
    h(
      "p",
      {},
      `This is a language model with ${layers} layers of ${experts} experts, small enough to run here: it learned to answer ` +
        "every request, and then, in alignment, to refuse the hazardous ones. Change anything; all numbers are computed as you look.",
    ),
    h(
      "ol",
      {},
      h(
        "li",
        {},
        h(
          "a",
          { href: link({ panel: "ask", prompt: words(hazards.tokens_BP[0]) }) },
          "Ask a hazard",
        ),
        " and then ",
        h(
          "a",
          { href: link({ panel: "ask", prompt: words(twins.tokens_BP[0]) }) },
          `swap the ${swapped()}`,
        ),
        ": REFUSE goes, and the right answer comes.",
      ),
      order.length
        ? h(
            "li",
            {},
            h(
              "a",
              { href: link({ panel: "refusal", silenced: order }) },
              `Switch off two of ${layers * experts} experts`,
            ),
            ` (${inWords(order.map(expertName))}): how much refusal is left? And without two random ones?`,
          )
        : null,
      data.history?.step
        ? h(
            "li",
            {},
            h("a", { href: link({ panel: "routing", step: 0 }) }, "Drag through training"),
            ": how topics come to have experts of their own.",
          )
        : null,
    ),
  );
}
