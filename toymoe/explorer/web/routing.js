// The panel "Routing follows topic": which expert takes which topic, through training, with its
// controls.

import { modelTitle, topicName } from "./answers.js";
import { bar, button, decimal, h, shaded, table } from "./dom.js";
import { session } from "./session.js";
import { wordShown } from "./words.js";

const play = { timer: null };
const FRAME = 450; // milliseconds of a step while it plays

/** The panel. */
export function routingPanel(state, go) {
  const { history } = session.data;
  return [
    h("h2", { id: "panel-title" }, "Routing follows topic"),
    history?.step
      ? throughTraining(state, go)
      : h("p", {}, "This run has kept no history of its training."),
    wordShown(state, go),
    contrastsShown(),
  ];
}

// --- through training ----------------------------------------------------------------------------

function throughTraining(state, go) {
  const { data } = session,
    { history } = data,
    s = state.step,
    last = history.step.length - 1;
  const best = (values) => Math.max(...values);
  const [now, first, mixed] = [
    history.nmi_topic_context[s],
    history.nmi_topic_context[0],
    history.nmi_topic_shuffled[s],
  ];
  const there = data.models.find(
    ({ phase, step }) => phase === phaseOf(s) && step === history.step[s],
  );
  const follows =
    best(history.nmi_topic_context[last]) >=
    Math.max(0.1, 2 * best(first), 2 * best(history.nmi_topic_shuffled[last]));
  return [
    h(
      "p",
      { class: "finding" },
      `Routing ${follows ? "follows" : "hardly follows"} the topic: the experts that take a word tell ` +
        `${decimal(best(history.nmi_topic_context[last]))} of what there is to know about its topic (NMI, best layer); before training ${decimal(best(first))}, ` +
        `with the topics shuffled ${decimal(best(history.nmi_topic_shuffled[last]))}.`,
    ),
    h(
      "div",
      { class: "controls" },
      h(
        "label",
        { class: "field wide", for: "step" },
        h("span", {}, `training: ${stepTitle(s)}`),
        h("input", {
          id: "step",
          type: "range",
          min: 0,
          max: last,
          step: 1,
          value: s,
          "aria-valuetext": stepTitle(s),
          oninput: (event) => go({ step: Number(event.target.value) }, false),
          onchange: (event) => go({ step: Number(event.target.value) }),
        }),
      ),
      button(play.timer ? "Pause" : "Play", () => playOrPause(state, go), {
        id: "play",
        class: "main",
      }),
      there && there.name !== state.model
        ? button(`Look at the model of this step (${modelTitle(there.name, data)})`, () =>
            go({ model: there.name }),
          )
        : null,
    ),
    h(
      "div",
      { class: "side" },
      curve(history.nmi_topic_context, history.nmi_topic_shuffled, s),
      table(
        "How much experts tell of the topic (NMI: 0 nothing, 1 all)",
        ["", ...now.map((_, l) => `layer ${l}`)],
        [
          [stepTitle(s), ...now.map((x) => decimal(x))],
          ["control: step 0, untrained", ...first.map((x) => decimal(x))],
          ["control: the same step, topics shuffled", ...mixed.map((x) => decimal(x))],
        ],
        { id: "nmi" },
      ),
    ),
    h(
      "p",
      { class: "note" },
      "Each cell: of a hundred selections by words of the topic (a row), how many are of the expert (a column). The experts of a layer stand in the order of " +
        "the topic that they end up serving; their numbers are those of all panels. ! marks a hazardous topic.",
    ),
    now.map((_, layer) =>
      h(
        "div",
        { class: "pair" },
        topicTable(`layer ${layer}, step 0: untrained`, 0, layer),
        topicTable(`layer ${layer}, ${stepTitle(s)}`, s, layer),
      ),
    ),
  ];
}

function phaseOf(s) {
  const { phase } = session.data.history;
  return ["pretrain", "align"][phase[s]] ?? phase[s];
}

function stepTitle(s) {
  return `${phaseOf(s) === "align" ? "alignment" : "pretraining"}, after step ${session.data.history.step[s]}`;
}

/** Goes on by itself until the end; whoever wants less motion steps by the slider. */
function playOrPause(state, go) {
  const last = session.data.history.step.length - 1;
  if (play.timer) {
    clearInterval(play.timer);
    play.timer = null;
    return go({}, false);
  }
  let s = state.step === last ? 0 : state.step;
  play.timer = setInterval(() => {
    s += 1;
    if (s >= last || !document.getElementById("panel-routing")) {
      clearInterval(play.timer);
      play.timer = null;
    }
    if (document.getElementById("panel-routing")) go({ step: Math.min(s, last) }, false);
  }, FRAME);
  return go({ step: s }, false);
}

function shares(s, layer) {
  return session.data.history.topic_expert[s][layer].map((counts) => {
    const all = Math.max(
      counts.reduce((a, b) => a + b, 0),
      1,
    );
    return counts.map((n) => n / all);
  });
}

/** Experts of a layer by the topic they end up serving, its busiest first: as in all figures. */
function orderOf(layer) {
  const last = shares(session.data.history.step.length - 1, layer),
    E = last[0].length;
  const most = Array.from({ length: E }, (_, e) => last.map((row) => row[e]));
  const topic = most.map((column) => column.indexOf(Math.max(...column)));
  return Array.from({ length: E }, (_, e) => e).sort(
    (a, b) => topic[a] - topic[b] || Math.max(...most[b]) - Math.max(...most[a]) || a - b,
  );
}

function topicTable(caption, s, layer) {
  const { data } = session,
    order = orderOf(layer),
    share = shares(s, layer);
  return table(
    caption,
    ["", ...order.map((e) => `${layer}.${e}`)],
    share.map((row, g) => [
      topicName(g, data),
      ...order.map((e) => shaded(Math.round(100 * row[e]) || "", 2 * row[e])),
    ]),
    { class: "map" },
  );
}

/** NMI of every layer over training, and of shuffled topics, as lines; the table below has the
 * numbers. */
function curve(found, mixed, s) {
  const { step, phase } = session.data.history,
    W = 640,
    H = 150,
    END = 570,
    last = step.length - 1;
  const switched = Math.max(...step.filter((_, i) => phase[i] === phase[0])),
    at = step.map((x, i) => x + (phase[i] === phase[0] ? 0 : switched));
  const x = (i) => 8 + (END - 8) * Math.sqrt(at[i] / at[last]),
    y = (v) => H - 8 - (H - 16) * Math.max(v, 0);
  const line = (layer, rows, kind) =>
    h("polyline", {
      class: `line ${kind}`,
      points: rows.map((row, i) => `${x(i).toFixed(1)},${y(row[layer]).toFixed(1)}`).join(" "),
    });
  return h(
    "figure",
    {},
    h(
      "svg",
      {
        viewBox: `0 0 ${W} ${H}`,
        class: "curve",
        role: "img",
        "aria-label":
          "NMI of topic and expert over training, a line for each layer, and with the topics shuffled",
      },
      h("line", { class: "axis", x1: 8, x2: END, y1: y(0), y2: y(0) }),
      h("line", { class: "axis", x1: x(last), x2: x(last), y1: y(0), y2: y(1) }),
      found[0].map((_, layer) => [
        line(layer, mixed, "control"),
        line(layer, found, `layer-${layer % 4}`),
      ]),
      lineNames(found[last], mixed[last], y).map(([text, kind, height]) =>
        h("text", { class: `name ${kind}`, x: END + 6, y: height + 4 }, text),
      ),
      h("line", { class: "now", x1: x(s), x2: x(s), y1: 4, y2: H - 4 }),
    ),
    h(
      "figcaption",
      { class: "note" },
      "NMI (from 0 to 1) over training (√ of the step), a line for each layer, dashed with the topics shuffled. The upright line is where the slider stands.",
    ),
  );
}

/** The names of the lines at their ends, none over another: [text, class, height]. */
function lineNames(found, mixed, y) {
  const names = [
    ...found.map((v, layer) => [`layer ${layer}`, `layer-${layer % 4}`, y(v)]),
    ["shuffled", "control", y(Math.max(...mixed))],
  ];
  names.sort((a, b) => b[2] - a[2]);
  for (let i = 1; i < names.length; i++) names[i][2] = Math.min(names[i][2], names[i - 1][2] - 18);
  return names;
}

// --- contrasts -----------------------------------------------------------------------------------

function contrastsShown() {
  const { metrics, rule } = session.data,
    found = metrics?.contrasts;
  if (!found) return null;
  const rows = {
    cross_topic: "prompts of different topics",
    same_topic: "control: prompts of one topic",
    intent_twins: `twins: ${rule.swaps === "context" ? "topic" : rule.swaps} swapped, the hazard flips`,
    neutral_twins: "control: verb swapped, the hazard stays",
  };
  const models = {
    untrained: "untrained",
    pretrained: "before alignment",
    aligned: "after alignment",
  };
  const mean = (values) => (values ? values.reduce((a, b) => a + b, 0) / values.length : null);
  const kept = Object.entries(rows).filter(([name]) => found.aligned[name]);
  const value = (which, name, measure) => mean(found[which][name]?.[measure]);
  const lines = (measure) => {
    const most = Math.max(
      ...kept.flatMap(([name]) => Object.keys(models).map((which) => value(which, name, measure))),
    );
    return kept.map(([name, title]) => [
      title,
      ...Object.keys(models).map((which) =>
        bar(value(which, name, measure) / most, decimal(value(which, name, measure), 3)),
      ),
    ]);
  };
  const ratio = metrics.ratios?.cross_by_same_topic;
  return h(
    "section",
    {},
    h("h3", {}, "How far apart are the routes of two prompts?"),
    ratio
      ? h(
          "p",
          {},
          `Prompts of different topics differ ${decimal(ratio.aligned, 1)} times as much as prompts of one topic; in the untrained model ${decimal(ratio.untrained, 1)} times.`,
        )
      : null,
    table(
      "Jensen–Shannon divergence of routes, nats: whole prompts, mean over layers",
      ["", ...Object.values(models)],
      lines("js"),
    ),
    table(
      "The same at ANS alone, where the answer falls",
      ["", ...Object.values(models)],
      lines("js_answer"),
    ),
    h(
      "p",
      { class: "note" },
      "Twins share all of their words but one, so over whole prompts their routes are near each other in any model, trained or not: " +
        "a small number there says nothing about learning. Compare a row with its control, and trained with untrained.",
    ),
  );
}
