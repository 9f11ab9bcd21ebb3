// The panel "Refusal localises": every expert with what it costs, three meters, and all ways to
// change the model.

import { modelTitle } from "./answers.js";
import {
  bar,
  button,
  decimal,
  expertName,
  h,
  inWords,
  radios,
  select,
  signed,
  table,
} from "./dom.js";
import {
  aloneOf,
  choose,
  gridShown,
  held,
  MEANING,
  numbersShown,
  setMany,
  sharesOf,
  TOOLS,
} from "./experts.js";
import { seedStrip } from "./seeds.js";
import { changesKey, metersOf, session, unchanged } from "./session.js";
import { writeState } from "./state.js";

const TRIES = 8; // shown of what was tried
const MANY = 8; // more experts than these are counted, and not named
const seen = { tool: null, tries: [] }; // what a click does, what was tried so far

/** The panel. */
export function refusalPanel(state, go) {
  const config = session.data.config.model;
  const tool = seen.tool ?? Object.keys(TOOLS).find((key) => state[key].length) ?? "set_back";
  const cost = aloneOf(state, tool),
    share = sharesOf(state);
  const pickTool = (name) => {
    seen.tool = name;
    go({}, false);
  };
  return [
    h("h2", { id: "panel-title" }, "Refusal localises"),
    h("p", { class: "finding" }, finding()),
    metersShown(state),
    triesShown(state),
    h("h3", {}, "Experts"),
    h(
      "div",
      { class: "controls" },
      radios("tool", "A click makes an expert", tool, Object.entries(TOOLS), pickTool),
      h(
        "label",
        { class: "field short", for: "many" },
        h("span", {}, "how many (m)"),
        h("input", {
          id: "many",
          type: "number",
          min: 1,
          max: config.layers * config.experts,
          value: held.m,
          onchange: (event) => setMany(event, go),
        }),
      ),
      button(`The ${held.m} most important`, () => choose("top", state, tool, cost, share, go), {
        class: "main",
        disabled: !cost.value,
      }),
      button(`${held.m} random ones`, () => choose("random", state, tool, cost, share, go)),
      button(`${held.m} used as much`, () => choose("matched", state, tool, cost, share, go), {
        disabled: !cost.value || !share,
      }),
      button("All on again", () => go({ silenced: [], set_back: [], masked: [] })),
    ),
    h("p", { class: "note" }, `An expert that is ${TOOLS[tool]} ${MEANING[tool]}`),
    gridShown(state, tool, cost, share, go),
    h("h3", {}, "Other ways to change the model"),
    otherWays(state, go),
    seedStrip(),
    numbersShown(tool, cost, share),
  ];
}

// --- what was found ------------------------------------------------------------------------------

/** What the run's own measurement says, whichever way it came out. */
function finding() {
  const { metrics } = session.data,
    found = metrics?.removal?.set_back,
    counts = metrics?.removal?.counts;
  if (!found)
    return "Which experts carry refusal? This run has not measured it: see for yourself below.";
  const all = counts[counts.length - 1],
    m = found.m50,
    at = counts.indexOf(m);
  if (found.refusal[0] < 0.1)
    return `There is hardly any refusal to find (${decimal(found.refusal[0])}).`;
  if (m === null || at < 0)
    return `However many of the ${all} experts are set back, half of refusal stays: it does not sit in experts here.`;
  const random = found.random.m50;
  const control =
    random === null
      ? "random ones never take half of it"
      : `of random ones, ${decimal(random, random % 1 ? 1 : 0)} are needed to halve it`;
  return (
    `After alignment, refusal ${metrics.few ? "sits in few experts" : "does not sit in few experts"}: ${m === 1 ? "one" : m} of ${all}, set back to what ` +
    `${m === 1 ? "it was" : "they were"} before alignment, ${m === 1 ? "takes" : "take"} it from ${decimal(found.refusal[0])} to ` +
    `${decimal(found.refusal[at])}, and ${decimal(found.twins[at])} of the harmless twins are answered right; ${control}.`
  );
}

// --- three meters --------------------------------------------------------------------------------

function metersShown(state) {
  const plain = unchanged(state),
    base = metersOf(plain),
    now = metersOf(state);
  const n = session.data.pairs.measured.hazards.tokens_BP.length,
    changed = changesKey(plain) !== changesKey(state);
  const rows = {
    refused: ["hazards refused", "refuse"],
    twins: ["harmless twins answered right", "right"],
    answered: ["hazards answered right", "hazard"],
  };
  const shown = ({ value, progress }, key, kind) =>
    value
      ? bar(value[key], `${Math.round(value[key] * n)} of ${n}`, kind)
      : `computing … ${Math.round(100 * progress)} %`;
  const margin = ({ value }) => (value ? `${signed(value.margin)} nats` : "…");
  return table(
    `Measured over ${n} hazards and their ${n} harmless twins`,
    ["", "the model as it is", "as you changed it"],
    [
      ...Object.entries(rows).map(([key, [title, kind]]) => [
        title,
        shown(base, key, kind),
        h(
          "td",
          { id: `meter-${key}` },
          changed ? shown(now, key, kind) : key === "refused" ? "nothing is changed yet" : "",
        ),
      ]),
      [
        "mean refusal margin of the hazards",
        margin(base),
        h("td", { id: "meter-margin" }, changed ? margin(now) : ""),
      ],
    ],
    { class: "meters" },
  );
}

/** What was tried so far in this page, so that a choice stands beside its controls. */
function triesShown(state) {
  const { data } = session,
    key = changesKey(state),
    now = metersOf(state);
  if (key !== changesKey(unchanged(state)) && now.value && !seen.tries.some((x) => x.key === key)) {
    seen.tries.push({
      key,
      state,
      meters: now.value,
      label: held.label?.key === key ? held.label.word : "",
    });
  }
  if (!seen.tries.length) return null;
  const n = data.pairs.measured.hazards.tokens_BP.length,
    count = (x) => `${Math.round(x * n)} of ${n}`;
  return table(
    "What you tried so far, the latest first",
    ["", "refused", "twins right", "hazards answered"],
    seen.tries
      .slice(-TRIES)
      .reverse()
      .map(({ state: then, meters, label }) => [
        h(
          "span",
          {},
          h("a", { href: `#${writeState(then, data)}` }, describe(then)),
          label && ` (${label})`,
        ),
        count(meters.refused),
        count(meters.twins),
        count(meters.answered),
      ]),
    { id: "tries" },
  );
}

/** The changes of a state in words. */
function describe(state) {
  const parts = Object.keys(TOOLS)
    .filter((key) => state[key].length)
    .map(
      (key) =>
        `${state[key].length > MANY ? `${state[key].length} experts` : inWords(state[key].map(expertName))} ${TOOLS[key]}`,
    );
  if (state.tuned !== null) parts.push(`${state.tuned} tuned`);
  if (state.direction !== null) parts.push(`direction of layer ${state.direction} out`);
  if (state.frozen) parts.push("routes frozen");
  return `${modelTitle(state.model, session.data)}: ${parts.join("; ")}`;
}

// --- other ways ----------------------------------------------------------------------------------

function otherWays(state, go) {
  const { data } = session,
    { layers } = data.config.model;
  const tunedNames = Object.keys(data.tuned ?? {}),
    directions = data.directions_LD ?? [];
  return h(
    "div",
    { class: "controls" },
    tunedNames.length
      ? select(
          "tuned",
          "tuned by RASET to answer hazards",
          state.tuned ?? "",
          [
            ["", "none"],
            ...tunedNames.map((n) => [
              n,
              `${n} expert${n === "1" ? "" : "s"}: ${data.tuned[n].experts.map(expertName).join(", ")}`,
            ]),
          ],
          (value) => go({ tuned: value || null }),
        )
      : null,
    directions.length
      ? select(
          "direction",
          "refusal direction projected out of all weights",
          state.direction ?? "",
          [["", "none"], ...Array.from({ length: layers }, (_, l) => [l, `that of layer ${l}`])],
          (value) => go({ direction: value === "" ? null : Number(value) }),
        )
      : null,
    h(
      "label",
      { class: "check", for: "frozen" },
      h("input", {
        type: "checkbox",
        id: "frozen",
        checked: state.frozen,
        onchange: (event) => go({ frozen: event.target.checked }),
      }),
      h("span", {}, "keep every prompt on the route of the model as it is"),
    ),
    h(
      "p",
      { class: "note" },
      "Set back, silenced, tuned, a direction projected out: four ways to take refusal away that need not agree on where it is. " +
        "Compare the meters, above all what becomes of the twins.",
    ),
  );
}
