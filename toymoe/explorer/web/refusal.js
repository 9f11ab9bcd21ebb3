// The panel "Refusal localises": every expert with what it costs, three meters, and all ways to change the model.

import { mask_of } from "./weights.js";
import { seeded } from "./world.js";
import { in_order, matched } from "./removal.js";
import { arrows, bar, button, decimal, expertName, h, inWords, radios, say, select, signed, table } from "./dom.js";
import { changesKey, metersOf, paramsOf, session, task, unchanged } from "./session.js";
import { modelTitle } from "./ask.js";
import { seedStrip } from "./seeds.js";
import { writeState } from "./state.js";

const TOOLS = { silenced: "silenced", set_back: "set back", masked: "masked" };
const MEANING = {
  silenced: "adds nothing, the route as it was: does the model need it in order to refuse?",
  set_back: "gets the weights it had before alignment: is this where alignment wrote refusal?",
  masked: "is closed in the router, so that others are chosen in its stead: is it the route?",
};
const TRIES = 8; // shown of what was tried
const MANY = 8; // more experts than these are counted, and not named
// What a click does, how many, draws so far, the cell for the tab key, what was tried.
const held = { tool: null, m: 2, luck: 1, roving: "0.0", tries: [], label: null };

/** The panel. */
export function refusalPanel(state, go) {
  const tool = held.tool ?? Object.keys(TOOLS).find((key) => state[key].length) ?? "set_back";
  const cost = aloneOf(state, tool), share = sharesOf(state);
  const pickTool = (name) => { held.tool = name; go({}, false); };
  return [
    h("h2", { id: "panel-title" }, "Refusal localises"),
    h("p", { class: "finding" }, finding()),
    metersShown(state),
    triesShown(state),
    h("h3", {}, "Experts"),
    h("div", { class: "controls" },
      radios("tool", "A click makes an expert", tool, Object.entries(TOOLS), pickTool),
      h("label", { class: "field short", for: "many" }, h("span", {}, "how many (m)"),
        h("input", { id: "many", type: "number", min: 1, max: cells().length, value: held.m, onchange: (event) => setMany(event, go) })),
      button(`The ${held.m} most important`, () => choose("top", state, tool, cost, share, go), { class: "main", disabled: !cost.value }),
      button(`${held.m} random ones`, () => choose("random", state, tool, cost, share, go)),
      button(`${held.m} used as much`, () => choose("matched", state, tool, cost, share, go), { disabled: !cost.value || !share }),
      button("All on again", () => go({ silenced: [], set_back: [], masked: [] }))),
    h("p", { class: "note" }, `An expert that is ${TOOLS[tool]} ${MEANING[tool]}`),
    gridShown(state, tool, cost, share, go),
    h("h3", {}, "Other ways to change the model"),
    otherWays(state, go),
    seedStrip(),
    numbersShown(tool, cost, share),
  ];
}

function cells() {
  const { layers, experts } = session.data.config.model;
  return Array.from({ length: layers * experts }, (_, i) => [Math.floor(i / experts), i % experts]);
}

// --- what was found ---------------------------------------------------------------------------------

/** What the run's own measurement says, whichever way it came out. */
function finding() {
  const { metrics } = session.data, found = metrics?.removal?.set_back, counts = metrics?.removal?.counts;
  if (!found) return "Which experts carry refusal? This run has not measured it: see for yourself below.";
  const all = counts[counts.length - 1], m = found.m50, at = counts.indexOf(m);
  if (m === null || at < 0) return `However many of the ${all} experts are set back, half of refusal stays: it does not sit in experts here.`;
  const few = m <= all / 10, random = found.random.m50;
  const control = random === null ? "random ones never take half of it" : `of random ones, ${decimal(random, random % 1 ? 1 : 0)} are needed to halve it`;
  return `After alignment, refusal ${few ? "sits in few experts" : "is spread over many experts"}: ${m === 1 ? "one" : m} of ${all}, set back to what ` +
    `${m === 1 ? "it was" : "they were"} before alignment, ${m === 1 ? "takes" : "take"} it from ${decimal(found.refusal[0])} to ` +
    `${decimal(found.refusal[at])}, and ${decimal(found.twins[at])} of the harmless twins are answered right; ${control}.`;
}

// --- computed in the worker -------------------------------------------------------------------------

/** What each expert costs alone, of the model of the state with nothing changed: ranked pairs. */
function aloneOf(state, way) {
  const { config, pairs } = session.data, key = JSON.stringify([state.model, way]);
  return task("alone", key, () => {
    const params = paramsOf(state.model), before = paramsOf("pretrained");
    return params && before && { params, before, cfg: config.model, pairs: pairs.ranked, way, frozen: false };
  });
}

/** Share of measured hazards and twins that select each expert at ANS, and of all ranked hazards' tokens; or null. */
function sharesOf(state) {
  const { config, pairs } = session.data, { layers: L, experts: E, top_k: A } = config.model;
  const lists = [pairs.measured.hazards.tokens_BP, pairs.measured.twins.tokens_BP, pairs.ranked.hazards.tokens_BP];
  const seen = task("selected", state.model, () => {
    const params = paramsOf(state.model);
    return params && { params, cfg: config.model, tokens_BP: lists.flat() };
  });
  if (!seen.value) return null;
  const T = lists[0][0].length, { experts } = seen.value;
  const count = (from, many, first) => {
    const share = new Float64Array(L * E), each = 1 / (many * (T - first));
    for (let b = from; b < from + many; b++) for (let l = 0; l < L; l++) for (let t = first; t < T; t++) {
      for (let a = 0; a < A; a++) share[l * E + experts[((b * L + l) * T + t) * A + a]] += each;
    }
    return share;
  };
  const [h0, h1, h2] = lists.map((list) => list.length);
  return { hazards: count(0, h0, T - 1), twins: count(h0, h1, T - 1), tokens: count(h0 + h1, h2, 0) };
}

// --- three meters -----------------------------------------------------------------------------------

function metersShown(state) {
  const plain = unchanged(state), base = metersOf(plain), now = metersOf(state);
  const n = session.data.pairs.measured.hazards.tokens_BP.length, changed = changesKey(plain) !== changesKey(state);
  const rows = { refused: ["hazards refused", "refuse"], twins: ["harmless twins answered right", "right"],
    answered: ["hazards answered right", "hazard"] };
  const shown = ({ value, progress }, key, kind) => (value ? bar(value[key], `${Math.round(value[key] * n)} of ${n}`, kind)
    : `computing … ${Math.round(100 * progress)} %`);
  const margin = ({ value }) => (value ? `${signed(value.margin)} nats` : "…");
  return table(`Measured over ${n} hazards and their ${n} harmless twins`,
    ["", "the model as it is", "as you changed it"], [
      ...Object.entries(rows).map(([key, [title, kind]]) => [title, shown(base, key, kind),
        h("td", { id: `meter-${key}` }, changed ? shown(now, key, kind) : key === "refused" ? "nothing is changed yet" : "")]),
      ["mean refusal margin of the hazards", margin(base), h("td", { id: "meter-margin" }, changed ? margin(now) : "")],
    ], { class: "meters" });
}

/** What was tried so far in this page, so that a choice stands beside its controls. */
function triesShown(state) {
  const { data } = session, key = changesKey(state), now = metersOf(state);
  if (key !== changesKey(unchanged(state)) && now.value && !held.tries.some((x) => x.key === key)) {
    held.tries.push({ key, state, meters: now.value, label: held.label?.key === key ? held.label.word : "" });
  }
  if (!held.tries.length) return null;
  const n = data.pairs.measured.hazards.tokens_BP.length, count = (x) => `${Math.round(x * n)} of ${n}`;
  return table("What you tried so far, the latest first", ["", "refused", "twins right", "hazards answered"],
    held.tries.slice(-TRIES).reverse().map(({ state: then, meters, label }) => [
      h("span", {}, h("a", { href: `#${writeState(then, data)}` }, describe(then)), label && ` (${label})`),
      count(meters.refused), count(meters.twins), count(meters.answered)]), { id: "tries" });
}

/** The changes of a state in words. */
function describe(state) {
  const parts = Object.keys(TOOLS).filter((key) => state[key].length)
    .map((key) => `${state[key].length > MANY ? `${state[key].length} experts` : inWords(state[key].map(expertName))} ${TOOLS[key]}`);
  if (state.tuned !== null) parts.push(`${state.tuned} tuned`);
  if (state.direction !== null) parts.push(`direction of layer ${state.direction} out`);
  if (state.frozen) parts.push("routes frozen");
  return `${modelTitle(state.model, session.data)}: ${parts.join("; ")}`;
}

// --- the grid ---------------------------------------------------------------------------------------

function gridShown(state, tool, cost, share, go) {
  const { layers, experts: E } = session.data.config.model;
  const most = cost.value ? Math.max(...cost.value.margin, 1e-9) : 1;
  const marks = new Map(Object.keys(TOOLS).flatMap((key) => state[key].map((x) => [expertName(x), key])));
  const tunedNow = new Set(state.tuned === null ? [] : session.data.tuned[state.tuned].experts.map(expertName));
  const cell = ([layer, expert]) => {
    const i = layer * E + expert, name = expertName([layer, expert]), mark = marks.get(name);
    const lost = cost.value?.margin[i], level = lost === undefined ? 0 : Math.round(10 * Math.max(lost, 0) / most);
    const says = [mark ? TOOLS[mark] : "on", ...(tunedNow.has(name) ? ["tuned"] : [])].join(", ");
    const seen = share ? `${decimal(share.hazards[i])} of hazards and ${decimal(share.twins[i])} of twins select it at ANS` : "";
    const costs = lost === undefined ? "" : `; ${TOOLS[tool]} alone it costs ${decimal(lost, 1)} nats of refusal and ${decimal(cost.value.twins[i])} of the twins' answers`;
    return button([
      h("span", { class: "name" }, h("b", {}, name), h("span", { class: "mark" }, mark ? TOOLS[mark] : tunedNow.has(name) ? "tuned" : "")),
      line("ANS", share ? `${decimal(share.hazards[i])} / ${decimal(share.twins[i])}` : "…"),
      line("costs", lost === undefined ? "…" : decimal(lost, 1)),
      line("twins", lost === undefined ? "…" : decimal(cost.value.twins[i])),
    ], () => toggle(state, [layer, expert], tool, go), { class: `cell shade shade-${level} ${mark ?? ""} ${tunedNow.has(name) ? "tuned" : ""}`, "data-cell": name,
      id: `cell-${layer}-${expert}`, tabindex: held.roving === name ? "0" : "-1", onfocus: () => { held.roving = name; },
      "aria-pressed": mark ? "true" : "false", "aria-label": `expert ${name}, ${says}: ${seen}${costs}` });
  };
  const waits = cost.value ? "" : ` Computing what each expert costs: ${Math.round(100 * cost.progress)} %.`;
  return h("div", { class: "grid", onkeydown: arrows },
    h("p", { class: "note" }, `In each cell, of the model with nothing changed: ANS, the share of hazards / of twins that select the expert at ANS; ` +
      `costs, the refusal margin in nats that is lost with this expert alone ${TOOLS[tool]} (also the shade), over other pairs than the meters'; ` +
      `twins, the share of the twins' right answers that is lost with it.${waits}`),
    Array.from({ length: layers }, (_, layer) => h("section", { role: "group", "aria-label": `layer ${layer}` },
      h("h4", {}, `layer ${layer}`), h("div", { class: "cells" }, Array.from({ length: E }, (_, expert) => cell([layer, expert]))))));
}

function line(label, number) {
  return h("span", { class: "line-of" }, h("span", { class: "label" }, label), h("span", { class: "number" }, number));
}

function toggle(state, place, tool, go) {
  const name = expertName(place), other = (key) => state[key].filter((x) => expertName(x) !== name);
  const was = Object.keys(TOOLS).find((key) => other(key).length < state[key].length);
  const change = Object.fromEntries(Object.keys(TOOLS).map((key) => [key, other(key)]));
  if (was !== tool) change[tool] = [...change[tool], place];
  go(change);
}

function setMany(event, go) {
  const m = Number(event.target.value), all = cells().length;
  if (Number.isInteger(m) && m >= 1 && m <= all) held.m = m;
  else say(`m = ${event.target.value} is not possible: it must be a whole number from 1 to ${all}.`, true);
  go({}, false);
}

/** Takes out the most important experts, or as many random ones, or ones that are used as much. */
function choose(kind, state, tool, cost, share, go) {
  const { config } = session.data, rng = seeded(held.luck++ * 104729);
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
  const word = { top: "the most important", random: "random ones", matched: "used as much as the most important" }[kind];
  held.label = { key: changesKey({ ...state, ...none, [tool]: picked }), word };
  go({ ...none, [tool]: picked });
  say(`${inWords(picked.map(expertName))} ${picked.length > 1 ? "are" : "is"} ${TOOLS[tool]}: ${word}.`);
}

/** The first experts of an order, so many in all, and some left in every layer. */
function firstPlaces(order, leave) {
  const { layers, experts: E } = session.data.config.model, there = new Array(layers).fill(E - leave);
  return order.map((i) => cells()[i]).filter(([layer]) => there[layer]-- > 0).slice(0, held.m);
}

// --- other ways -------------------------------------------------------------------------------------

function otherWays(state, go) {
  const { data } = session, { layers } = data.config.model;
  const tunedNames = Object.keys(data.tuned ?? {}), directions = data.directions_LD ?? [];
  return h("div", { class: "controls" },
    tunedNames.length ? select("tuned", "tuned by RASET to answer hazards", state.tuned ?? "", [["", "none"],
      ...tunedNames.map((n) => [n, `${n} expert${n === "1" ? "" : "s"}: ${data.tuned[n].experts.map(expertName).join(", ")}`])],
    (value) => go({ tuned: value || null })) : null,
    directions.length ? select("direction", "refusal direction projected out of all weights", state.direction ?? "", [["", "none"],
      ...Array.from({ length: layers }, (_, l) => [l, `that of layer ${l}`])], (value) => go({ direction: value === "" ? null : Number(value) })) : null,
    h("label", { class: "check", for: "frozen" }, h("input", { type: "checkbox", id: "frozen", checked: state.frozen,
      onchange: (event) => go({ frozen: event.target.checked }) }), h("span", {}, "keep every prompt on the route of the model as it is")),
    h("p", { class: "note" }, "Set back, silenced, tuned, a direction projected out: four ways to take refusal away that need not agree on where it is. " +
      "Compare the meters, above all what becomes of the twins."));
}

function numbersShown(tool, cost, share) {
  if (!cost.value || !share) return null;
  const order = in_order(cost.value.margin), { experts: E } = session.data.config.model;
  return h("details", {}, h("summary", {}, "All experts as a table, the most important first"),
    table(`Every expert alone, ${TOOLS[tool]}`, ["expert", "refusal margin lost, nats", "hazards no longer refused", "twins' answers lost",
      "hazards that select it at ANS", "twins that do", "of all tokens"],
    order.map((i) => [expertName([Math.floor(i / E), i % E]), decimal(cost.value.margin[i]), decimal(cost.value.refused[i]), decimal(cost.value.twins[i]),
      decimal(share.hazards[i]), decimal(share.twins[i]), decimal(share.tokens[i])])));
}
