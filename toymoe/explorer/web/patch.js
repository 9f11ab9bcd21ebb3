// The panel Patch: a part of one run is put into the run of its twin, at one layer and position.

import { freeze, places, replace, TAPS } from "./taps.js";
import { forward } from "./model.js";
import { shared_margin } from "./patching.js";
import { answerCard } from "./answers.js";
import { arrows, button, decimal, h, radios, select, signed } from "./dom.js";
import { paramsOf, session, task } from "./session.js";
import { isChanged, WAYS } from "./state.js";

const roaming = { cell: null }; // the cell that the tab key stops at

const MEANING_OF_TAPS = {
  resid_pre: "residual stream before attention",
  pattern: "attention pattern (positions looked at)",
  head_out: "what attention heads add",
  resid_mid: "residual stream after attention",
  router_logits: "router logits",
  router_probs: "router probabilities",
  selected: "which experts are selected",
  gates: "gates of the selected experts",
  expert_out: "what experts say",
  contribution: "gate times what experts say",
  resid_post: "residual stream after the experts",
};

/** The pair of a state: tokens and answers of the hazard and of its twin. */
export function pairOf(state) {
  const { hazards, twins } = session.data.pairs.measured,
    i = state.pair;
  return {
    hazard: hazards.tokens_BP[i],
    twin: twins.tokens_BP[i],
    answers: [hazards.answer_B[i], twins.answer_B[i]],
  };
}

/** The run that a state patches into, and the one that its values come from. */
function sides(state) {
  const { hazard, twin: other } = pairOf(state);
  return state.way === "removed" ? { into: hazard, from: other } : { into: other, from: hazard };
}

/** What the patched model says, for the place of a state: logits at ANS; or null. */
export function patchedLogits(state) {
  const params = paramsOf(state.model),
    cfg = session.data.config.model,
    { into, from } = sides(state);
  if (!params) return null;
  const { tap, layer, position } = state,
    T = into.length;
  const source = forward(params, from, cfg, {
    record: tap === "selected" ? [] : [tap],
    last: true,
  });
  const edits =
    tap === "selected"
      ? { route: freeze(source.routes, places("route", cfg, T, { layer, position }), false) }
      : { [tap]: replace(places(tap, cfg, T, { layer, position }), source.record[tap]) };
  return forward(params, into, cfg, { edits, last: true }).logits;
}

/** The panel. */
export function patchPanel(state, go) {
  const { data } = session,
    pair = pairOf(state),
    params = paramsOf(state.model),
    cfg = data.config.model;
  const grid = task(
    "patch_grid",
    JSON.stringify([state.model, state.pair, state.tap, state.way]),
    () =>
      params && {
        params,
        cfg,
        hazard: pair.hazard,
        twin: pair.twin,
        answers: pair.answers,
        tap: state.tap,
        way: state.way,
      },
  );
  const logitsOf = (tokens) => params && forward(params, tokens, cfg, { last: true }).logits;
  const [hazardous, harmless] = [logitsOf(pair.hazard), logitsOf(pair.twin)];
  return [
    h("h2", { id: "panel-title" }, "Patch: does refusal come along?"),
    h("p", { class: "finding" }, patchFinding(state, grid, pair)),
    h(
      "div",
      { class: "controls" },
      select(
        "pair",
        "pair",
        state.pair,
        data.pairs.measured.hazards.tokens_BP.map((_, i) => [i, `${i}: ${inShort(i)}`]),
        (value) => go({ pair: Number(value), layer: null, position: null }),
        {},
      ),
      select(
        "tap",
        "what is put in (a tap)",
        state.tap,
        Object.keys(TAPS).map((tap) => [tap, `${tap}: ${MEANING_OF_TAPS[tap] ?? ""}`]),
        (tap) => go({ tap }),
      ),
      radios("way", "which way", state.way, Object.entries(WAYS), (way) => go({ way })),
    ),
    isChanged(state)
      ? h("p", { class: "note" }, "Patching looks at the model as it is, without your changes.")
      : null,
    h(
      "div",
      { class: "patching" },
      gridOf(state, grid, pair, go),
      h(
        "div",
        { class: "beside" },
        hazardous
          ? [
              h(
                "p",
                {},
                "Margin here: logit of REFUSE less the larger of the two right answers' logits. Hazard ",
                h("b", { class: "number" }, signed(shared_margin(hazardous, pair.answers))),
                " nats, twin ",
                h("b", { class: "number" }, signed(shared_margin(harmless, pair.answers))),
                " nats.",
              ),
            ]
          : null,
        patchedShown(state, pair, hazardous, harmless),
      ),
    ),
    h(
      "p",
      { class: "note" },
      "1: the margin is the other run's; 0: nothing came along. To carry is not to cause: every place that the difference passes carries it. " +
        "What both prompts share carries nothing, however much refusal needs it. The shares of several places need not add up to 1.",
    ),
  ];
}

function inShort(i) {
  const { data } = session,
    { hazards, twins } = data.pairs.measured;
  const part = (tokens) =>
    tokens
      .slice(-3, -1)
      .map((token) => data.names[token])
      .join(" ");
  return `${data.topics[hazards.topic_B[i]]}, ${part(hazards.tokens_BP[i])} / ${data.rule.swaps === "context" ? data.topics[twins.topic_B[i]] : part(twins.tokens_BP[i])}`;
}

function patchFinding(state, grid, pair) {
  if (!grid.value)
    return grid.error ?? `Computing all places: ${Math.round(100 * grid.progress)} %.`;
  const T = pair.hazard.length,
    i = grid.value.reduce((best, x, at) => (x > grid.value[best] ? at : best), 0);
  const [layer, t] = [Math.floor(i / T), i % T],
    words = session.data.names[pair.hazard[t]];
  if (grid.value[i] < 0.1)
    return `No single place of ${state.tap} carries refusal in this pair: ${decimal(grid.value[i])} at most.`;
  return `Of all places of ${state.tap}, layer ${layer} at ${words} (position ${t}) carries most: ${decimal(grid.value[i])} of the margin that the two differ by.`;
}

/** Positions as rows, layers as columns: it fits a narrow page, too. */
function gridOf(state, grid, pair, go) {
  const { data } = session,
    { layers } = data.config.model,
    T = pair.hazard.length,
    chosen = `${state.layer}-${state.position}`;
  const roving = roaming.cell ?? `${layers - 1}-${T - 1}`;
  const first = pair.hazard.findIndex((token, t) => token !== pair.twin[t]);
  return h(
    "table",
    { class: "patch-grid", onkeydown: arrows },
    h("caption", {}, `Share of the margin that a place carries, ${state.way}`),
    h(
      "thead",
      {},
      h(
        "tr",
        {},
        [
          "position",
          "hazard",
          "twin",
          ...Array.from({ length: layers }, (_, l) => `layer ${l}`),
        ].map((x) => h("th", { scope: "col" }, x)),
      ),
    ),
    h(
      "tbody",
      {},
      pair.hazard.map((token, t) =>
        h(
          "tr",
          { class: t < first ? "same" : "" },
          h("th", { scope: "row" }, String(t)),
          h("td", {}, data.names[token]),
          h("td", {}, token === pair.twin[t] ? "same" : data.names[pair.twin[t]]),
          Array.from({ length: layers }, (_, layer) => {
            const x = grid.value ? grid.value[layer * T + t] : null,
              cell = `${layer}-${t}`;
            const level = x === null ? 0 : Math.round(10 * Math.min(Math.max(x, 0), 1));
            return h(
              "td",
              {},
              button(x === null ? "…" : decimal(x), () => go({ layer, position: t }), {
                class: `patch-cell shade shade-${level} ${cell === chosen ? "chosen" : ""}`,
                "data-cell": cell,
                id: `patch-${cell}`,
                tabindex: cell === roving ? "0" : "-1",
                onfocus: () => {
                  roaming.cell = cell;
                },
                "aria-pressed": cell === chosen ? "true" : "false",
                "aria-label": `layer ${layer}, position ${t}, ${data.names[token]}: ${x === null ? "computing" : decimal(x)}`,
              }),
            );
          }),
        ),
      ),
    ),
  );
}

function patchedShown(state, pair, hazardous, harmless) {
  if (!hazardous) return null;
  const [ownLogits, otherLogits] =
    state.way === "removed" ? [hazardous, harmless] : [harmless, hazardous];
  const [own, other] = state.way === "removed" ? pair.answers : [...pair.answers].reverse();
  const names = state.way === "removed" ? ["the hazard", "its twin"] : ["the twin", "its hazard"];
  const there = state.layer !== null && state.position !== null;
  const logits = there ? patchedLogits(state) : null;
  return [
    h("h3", {}, "What the two prompts are answered, and the patched one"),
    h(
      "div",
      { class: "answers" },
      answerCard(`${names[0]}, as it is`, { logits: ownLogits }, own),
      there
        ? answerCard(
            `${names[0]}, with ${state.tap} of ${names[1]} at layer ${state.layer}, position ${state.position}`,
            { logits },
            own,
          )
        : h(
            "section",
            { class: "answer" },
            h("h4", {}, "patched"),
            h("p", {}, "Press a cell to hear what the patched model says."),
          ),
      answerCard(`${names[1]}, as it is`, { logits: otherLogits }, other),
    ),
    there
      ? h(
          "p",
          { id: "patched-margin" },
          `Patched margin: ${signed(shared_margin(logits, pair.answers), 2)} nats.`,
        )
      : null,
  ];
}
