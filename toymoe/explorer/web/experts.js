// Every expert with what it costs: the grid, a click on it, and experts chosen by a rule.

import { arrows, button, decimal, expertName, h, inWords, say, table } from "./dom.js";
import { in_order, matched } from "./removal.js";
import { changesKey, paramsOf, session, task } from "./session.js";
import { mask_of } from "./weights.js";
import { seeded } from "./world.js";

export const TOOLS = { silenced: "silenced", set_back: "set back", masked: "masked" };
export const MEANING = {
  silenced: "adds nothing, the route as it was: does the model need it in order to refuse?",
  set_back: "gets the weights it had before alignment: is this where alignment wrote refusal?",
  masked: "is closed in the router, so that others are chosen in its stead: is it the route?",
};
// How many are chosen by a rule, draws so far, the cell at which the tab key stops, the rule last
// chosen by.
export const held = { m: 2, luck: 1, roving: "0.0", label: null };

function cells() {
  const { layers, experts } = session.data.config.model;
  return Array.from({ length: layers * experts }, (_, i) => [Math.floor(i / experts), i % experts]);
}

/** What each expert costs alone, of the model of the state with nothing changed: ranked pairs. */
export function aloneOf(state, way) {
  const { config, pairs } = session.data,
    key = JSON.stringify([state.model, way]);
  return task("alone", key, () => {
    const params = paramsOf(state.model),
      before = paramsOf("pretrained");
    return (
      params &&
      before && { params, before, cfg: config.model, pairs: pairs.ranked, way, frozen: false }
    );
  });
}

/** Share of measured hazards and twins that select each expert at ANS, and of all ranked hazards'
 * tokens; or null. */
export function sharesOf(state) {
  const { config, pairs } = session.data,
    { layers: L, experts: E, top_k: A } = config.model;
  const lists = [
    pairs.measured.hazards.tokens_BP,
    pairs.measured.twins.tokens_BP,
    pairs.ranked.hazards.tokens_BP,
  ];
  const seen = task("selected", state.model, () => {
    const params = paramsOf(state.model);
    return params && { params, cfg: config.model, tokens_BP: lists.flat() };
  });
  if (!seen.value) return null;
  const T = lists[0][0].length,
    { experts } = seen.value;
  const count = (from, many, first) => {
    const share = new Float64Array(L * E),
      each = 1 / (many * (T - first));
    for (let b = from; b < from + many; b++)
      for (let l = 0; l < L; l++)
        for (let t = first; t < T; t++) {
          for (let a = 0; a < A; a++) share[l * E + experts[((b * L + l) * T + t) * A + a]] += each;
        }
    return share;
  };
  const [h0, h1, h2] = lists.map((list) => list.length);
  return {
    hazards: count(0, h0, T - 1),
    twins: count(h0, h1, T - 1),
    tokens: count(h0 + h1, h2, 0),
  };
}

// --- the grid ------------------------------------------------------------------------------------

/** A button for each expert, in the order of their numbers. */
export function gridShown(state, tool, cost, share, go) {
  const { layers, experts: E } = session.data.config.model;
  const most = cost.value ? Math.max(...cost.value.margin, 1e-9) : 1;
  const marks = new Map(
    Object.keys(TOOLS).flatMap((key) => state[key].map((x) => [expertName(x), key])),
  );
  const tunedNow = new Set(
    state.tuned === null ? [] : session.data.tuned[state.tuned].experts.map(expertName),
  );
  const cell = ([layer, expert]) => {
    const i = layer * E + expert,
      name = expertName([layer, expert]),
      mark = marks.get(name);
    const lost = cost.value?.margin[i],
      level = lost === undefined ? 0 : Math.round((10 * Math.max(lost, 0)) / most);
    const says = [mark ? TOOLS[mark] : "on", ...(tunedNow.has(name) ? ["tuned"] : [])].join(", ");
    const seen = share
      ? `${decimal(share.hazards[i])} of hazards and ${decimal(share.twins[i])} of twins select it at ANS`
      : "";
    const costs =
      lost === undefined
        ? ""
        : `; ${TOOLS[tool]} alone it costs ${decimal(lost, 1)} nats of refusal and ${decimal(cost.value.twins[i])} of the twins' answers`;
    return button(
      [
        h(
          "span",
          { class: "name" },
          h("b", {}, name),
          h("span", { class: "mark" }, mark ? TOOLS[mark] : tunedNow.has(name) ? "tuned" : ""),
        ),
        line("ANS", share ? `${decimal(share.hazards[i])} / ${decimal(share.twins[i])}` : "…"),
        line("costs", lost === undefined ? "…" : decimal(lost, 1)),
        line("twins", lost === undefined ? "…" : decimal(cost.value.twins[i])),
      ],
      () => toggle(state, [layer, expert], tool, go),
      {
        class: `cell shade shade-${level} ${mark ?? ""} ${tunedNow.has(name) ? "tuned" : ""}`,
        "data-cell": name,
        id: `cell-${layer}-${expert}`,
        tabindex: held.roving === name ? "0" : "-1",
        onfocus: () => {
          held.roving = name;
        },
        "aria-pressed": mark ? "true" : "false",
        "aria-label": `expert ${name}, ${says}: ${seen}${costs}`,
      },
    );
  };
  const waits = cost.value
    ? ""
    : ` Computing what each expert costs: ${Math.round(100 * cost.progress)} %.`;
  return h(
    "div",
    { class: "grid", onkeydown: arrows },
    h(
      "p",
      { class: "note" },
      `In each cell, of the model with nothing changed: ANS, the share of hazards / of twins that select the expert at ANS; ` +
        `costs, the refusal margin in nats that is lost with this expert alone ${TOOLS[tool]} (also the shade), over other pairs than the meters'; ` +
        `twins, the share of the twins' right answers that is lost with it.${waits}`,
    ),
    Array.from({ length: layers }, (_, layer) =>
      h(
        "section",
        { role: "group", "aria-label": `layer ${layer}` },
        h("h4", {}, `layer ${layer}`),
        h(
          "div",
          { class: "cells" },
          Array.from({ length: E }, (_, expert) => cell([layer, expert])),
        ),
      ),
    ),
  );
}

function line(label, number) {
  return h(
    "span",
    { class: "line-of" },
    h("span", { class: "label" }, label),
    h("span", { class: "number" }, number),
  );
}

function toggle(state, place, tool, go) {
  const name = expertName(place),
    other = (key) => state[key].filter((x) => expertName(x) !== name);
  const was = Object.keys(TOOLS).find((key) => other(key).length < state[key].length);
  const change = Object.fromEntries(Object.keys(TOOLS).map((key) => [key, other(key)]));
  if (was !== tool) change[tool] = [...change[tool], place];
  go(change);
}

/** Takes the number of experts that a rule chooses. */
export function setMany(event, go) {
  const m = Number(event.target.value),
    all = cells().length;
  if (Number.isInteger(m) && m >= 1 && m <= all) held.m = m;
  else
    say(
      `m = ${event.target.value} is not possible: it must be a whole number from 1 to ${all}.`,
      true,
    );
  go({}, false);
}

/** Takes out the most important experts, or as many random ones, or ones that are used as much. */
export function choose(kind, state, tool, cost, share, go) {
  const { config } = session.data,
    rng = seeded(held.luck++ * 104729);
  const leave = tool === "masked" ? config.model.top_k : 0; // that a router still can choose
  const top = () => firstPlaces(in_order(cost.value.margin), leave);
  let picked;
  if (kind === "top") picked = top();
  else if (kind === "random") picked = firstPlaces(in_order(cells().map(() => rng())), leave);
  else {
    const made = matched(mask_of(top(), config.model), share.tokens, rng, config.model);
    picked = cells().filter((_, i) => made[i]);
  }
  const none = Object.fromEntries(Object.keys(TOOLS).map((key) => [key, []]));
  const word = {
    top: "the most important",
    random: "random ones",
    matched: "used as much as the most important",
  }[kind];
  held.label = { key: changesKey({ ...state, ...none, [tool]: picked }), word };
  go({ ...none, [tool]: picked });
  say(
    `${inWords(picked.map(expertName))} ${picked.length > 1 ? "are" : "is"} ${TOOLS[tool]}: ${word}.`,
  );
}

/** The first experts of an order, so many in all, and some left in every layer. */
function firstPlaces(order, leave) {
  const { layers, experts: E } = session.data.config.model,
    there = new Array(layers).fill(E - leave);
  return order
    .map((i) => cells()[i])
    .filter(([layer]) => there[layer]-- > 0)
    .slice(0, held.m);
}

/** The same numbers as a table. */
export function numbersShown(tool, cost, share) {
  if (!cost.value || !share) return null;
  const order = in_order(cost.value.margin),
    { experts: E } = session.data.config.model;
  return h(
    "details",
    {},
    h("summary", {}, "All experts as a table, the most important first"),
    table(
      `Every expert alone, ${TOOLS[tool]}`,
      [
        "expert",
        "refusal margin lost, nats",
        "hazards no longer refused",
        "twins' answers lost",
        "hazards that select it at ANS",
        "twins that do",
        "of all tokens",
      ],
      order.map((i) => [
        expertName([Math.floor(i / E), i % E]),
        decimal(cost.value.margin[i]),
        decimal(cost.value.refused[i]),
        decimal(cost.value.twins[i]),
        decimal(share.hazards[i]),
        decimal(share.twins[i]),
        decimal(share.tokens[i]),
      ]),
    ),
  );
}
