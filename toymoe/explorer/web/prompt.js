// The prompt, token by token: a word to choose, and the experts that take it.

import { topicName } from "./answers.js";
import { button, decimal, expertName, h, say } from "./dom.js";
import { runState, session } from "./session.js";

const walked = { roving: null }; // the cell at which the tab key stops

/** A card for each token. */
export function promptShown(state, go) {
  const { data } = session,
    { layers, top_k: A } = data.config.model;
  const out = runState(state),
    T = state.prompt.length;
  const off = new Set(state.silenced.map(expertName));
  const roving = walked.roving ?? `${T - 1}-0-0`;
  return state.prompt.map((word, t) =>
    h(
      "div",
      { class: "token" },
      wordPicker(state, t, word, go),
      Array.from({ length: layers }, (_, layer) =>
        h(
          "div",
          { class: "layer", role: "group", "aria-label": `layer ${layer}, ${word}` },
          !out
            ? "…"
            : Array.from({ length: A }, (_, a) => {
                const at = (layer * T + t) * A + a,
                  expert = out.routes.experts[at],
                  gate = out.routes.gates[at];
                const name = expertName([layer, expert]),
                  silent = off.has(name),
                  cell = `${t}-${layer}-${a}`;
                return button(
                  [h("span", {}, name), " ", h("span", { class: "number" }, decimal(gate))],
                  () => toggleSilenced(state, [layer, expert], go),
                  {
                    class: `expert shade shade-${Math.round(10 * Math.min(gate, 1))} ${silent ? "off" : ""}`,
                    "data-cell": cell,
                    tabindex: cell === roving ? "0" : "-1",
                    onfocus: () => {
                      walked.roving = cell;
                    },
                    "aria-pressed": silent ? "true" : "false",
                    "aria-label": `expert ${name}, gate ${decimal(gate)}, at ${word}${silent ? ", silenced" : ""}`,
                  },
                );
              }),
        ),
      ),
    ),
  );
}

function toggleSilenced(state, place, go) {
  const name = expertName(place),
    off = state.silenced.some((x) => expertName(x) === name);
  go({
    silenced: off
      ? state.silenced.filter((x) => expertName(x) !== name)
      : [...state.silenced, place],
  });
  say(
    off
      ? `Expert ${name} speaks again.`
      : `Expert ${name} is silenced, wherever the router sends a token to it.`,
  );
}

function wordPicker(state, t, word, go) {
  const { data } = session,
    T = state.prompt.length;
  const at = (first, n) => data.names.slice(first, first + n).map((name) => [name, name]);
  const { hazard_GYZ, word_GW } = data.tables;
  let options;
  if (t === 0 || t >= T - 1) options = [[word, word]];
  else if (t === T - 4)
    options = [
      ["ASK", "ASK"],
      ["NOTE", "NOTE"],
    ];
  else if (t === T - 3) options = at(data.verb, hazard_GYZ[0].length);
  else if (t === T - 2) options = at(data.entity, hazard_GYZ[0][0].length);
  else
    options = word_GW.map((words, g) => ({
      group: topicName(g, data),
      options: words.map((x) => [data.names[x], data.names[x]]),
    }));
  const what = `token ${t}`;
  if (options.length === 1) return h("div", { class: "word" }, word);
  return h(
    "select",
    {
      class: "word",
      "aria-label": what,
      id: `word-${t}`,
      value: word,
      onchange: (event) =>
        go({ prompt: state.prompt.map((x, i) => (i === t ? event.target.value : x)) }),
    },
    options.map((x) =>
      x.group
        ? h(
            "optgroup",
            { label: x.group },
            x.options.map(([key, text]) => h("option", { value: key }, text)),
          )
        : h("option", { value: x[0] }, x[1]),
    ),
  );
}
