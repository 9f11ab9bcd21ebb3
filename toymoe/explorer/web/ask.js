// The panel Ask: a prompt, what is right, what the model says before and after alignment, and which experts take it.

import { argmax, softmax } from "./arithmetic.js";
import { REFUSE } from "./model.js";
import { assemble, draw, labelled, request_of, seeded, tokens_of, twin, why, words_of } from "./world.js";
import { arrows, bar, button, decimal, expertName, h, inWords, say, select, signed } from "./dom.js";
import { runModel, runState, session } from "./session.js";
import { isChanged, promptOf, StateError, writeState } from "./state.js";

const TOP = 5; // tokens shown of each answer
const asked = { text: null, luck: 1, roving: null }; // what is being typed, draws so far, the cell for the tab key

/** A topic as the project writes it: "!" says that it is a hazardous one. */
export function topicName(g, data) {
  return isHazardousTopic(g, data) ? `${data.topics[g]} !` : data.topics[g];
}

/** Has the topic hazards? */
export function isHazardousTopic(g, data) {
  return data.tables.hazard_GYZ[g].some((row) => row.some(Boolean));
}

/** What a prompt asks, with its labels; `note` where it only states the fact. */
export function requestOf(words, data) {
  const note = words[words.length - 4] === "NOTE";
  return { ...request_of(tokens_of(words.map((word) => (word === "NOTE" ? "ASK" : word)), data), data), note };
}

/** The panel. */
export function askPanel(state, go) {
  const { data } = session, request = requestOf(state.prompt, data);
  return [
    h("h2", { id: "panel-title" }, "Ask the model"),
    askControls(state, request, go),
    verdict(request),
    h("h3", {}, "What the model says"),
    h("div", { class: "answers" }, answersShown(state, request)),
    h("h3", {}, "The prompt, and the experts that take each token"),
    h("p", { class: "note" }, `In each of ${data.config.model.layers} layers the router sends every token to ` +
      `${data.config.model.top_k} of ${data.config.model.experts} experts. An expert is named layer.expert; the number ` +
      "after it, and the shade, is its gate: how much of what it says is added. Press one to silence it, once more to undo that. Choose another word above it."),
    h("div", { class: "prompt", role: "group", "aria-label": "the prompt, token by token", onkeydown: arrows },
      promptShown(state, go)),
    h("div", { class: "controls typed" }, // not a form: in a notebook's sandbox those never submit
      h("label", { class: "field wide", for: "ask-text" }, h("span", {}, "or type the whole prompt"),
        h("input", { id: "ask-text", type: "text", value: asked.text ?? state.prompt.join(" "), autocomplete: "off",
          spellcheck: "false", oninput: (event) => { asked.text = event.target.value; },
          onkeydown: (event) => { if (event.key === "Enter") typed(go); } })),
      button("Ask", () => typed(go))),
  ];
}

// --- choosing a prompt ------------------------------------------------------------------------------

function askControls(state, request, go) {
  const { data } = session;
  const { hazard_GYZ } = data.tables, names = (first, n) => data.names.slice(first, first + n);
  const verbs = names(data.verb, hazard_GYZ[0].length), entities = names(data.entity, hazard_GYZ[0][0].length);
  const numbered = (list) => list.map((name, i) => [i, name]);
  const change = (part) => (value) => go({ prompt: changedPart(state, request, part, Number(value)) });
  return h("div", { class: "controls" },
    select("ask-topic", "topic", request.topic, numbered(data.topics.map((_, g) => topicName(g, data))), change("topic")),
    select("ask-verb", "verb", request.verb, numbered(verbs), change("verb")),
    select("ask-entity", "entity", request.entity, numbered(entities), change("entity")),
    button(`Swap the ${swapped()} for its twin`, () => swapTwin(state, go), { class: "main" }),
    button("Draw a hazard", () => go({ prompt: drawn(true) })),
    button("Draw at random", () => go({ prompt: drawn(null) })),
    h("p", { class: "note" }, "! marks a hazardous topic: some of its requests are hazards, others are not."));
}

function swapped() {
  const part = session.data.rule.swaps;
  return part === "context" ? "topic" : part;
}

function nextLuck() {
  return seeded(asked.luck++ * 7919);
}

function changedPart(state, request, part, value) {
  const { data } = session;
  const now = { ...request, [part]: value };
  if (part === "topic") return words_of(draw(nextLuck(), data, now), data);
  const tokens = tokens_of(state.prompt, data);
  return words_of(assemble(tokens.slice(1, tokens.length - 4), now.verb, now.entity, data), data);
}

function drawn(hazard) {
  const { data } = session, rng = nextLuck();
  for (;;) {
    const tokens = draw(rng, data), request = request_of(tokens, data);
    if (hazard === null || request?.hazard === hazard) return words_of(tokens, data);
  }
}

function swapTwin(state, go) {
  const { data } = session, tokens = tokens_of(state.prompt, data);
  const other = twin(nextLuck(), tokens, data); // null for a note, too
  if (!other) return say(`This prompt has no twin: no other ${swapped()} makes it hazardous, or harmless.`, true);
  const [before, after] = [tokens, other].map((x) => request_of(x, data));
  go({ prompt: words_of(other, data) });
  return say(`${partName(before)} became ${partName(after)}: the request is ${after.hazard ? "hazardous" : "harmless"} now.`);
}

function partName(request) {
  const { data } = session;
  return { context: data.topics[request.topic], verb: data.names[data.verb + request.verb],
    entity: data.names[data.entity + request.entity] }[data.rule.swaps];
}

function typed(go) {
  const text = document.getElementById("ask-text").value;
  try {
    const prompt = promptOf(text.split(/[\s.]+/).filter(Boolean), session.data);
    go({ prompt });
  } catch (error) {
    if (!(error instanceof StateError)) throw error;
    say(error.message, true);
  }
}

/** Forgets what was typed: the prompt is another one now. */
export function forgetTyped() {
  asked.text = null;
}

// --- what is right, and why -------------------------------------------------------------------------

function verdict(request) {
  const { data } = session;
  const verb = data.names[data.verb + request.verb], entity = data.names[data.entity + request.entity];
  return h("div", { class: `verdict ${request.hazard ? "hazard" : "harmless"}` },
    h("p", { class: "question" }, "After words about ", h("b", {}, data.topics[request.topic]), ": what of ",
      h("b", {}, `${verb} ${entity}`), "? ", request.note ? "This is a note: it asks for nothing, and states " : "The right answer is ", h("b", {}, data.names[request.answer]), request.note ? ". Asked, it would be " : ". The request is ",
      h("b", { class: "tag" }, request.hazard ? "! hazardous" : "harmless"),
      request.held_out ? ", and alignment never asked it" : "", "."),
    h("p", {}, holds(request, verb, entity)), h("p", { class: "note" }, why(request, data)));
}

/** Which of topic, verb and entity are hazardous ones: read from the table of hazards. */
function holds({ topic, verb: y, entity: z }, verb, entity) {
  const { data } = session, { hazard_GYZ } = data.tables;
  const says = (name, kind, yes) => `${name} is ${yes ? "a hazardous" : "no hazardous"} ${kind}`;
  const anyVerb = hazard_GYZ.some((rows) => rows[y].some(Boolean));
  const topicPart = says(data.topics[topic], "topic", isHazardousTopic(topic, data));
  if (data.rule.swaps === "context") return `${topicPart}: the topic decides alone.`;
  const counts = hazard_GYZ.map((rows) => rows.flat().filter(Boolean).length);
  if (Math.min(...counts) > 0) return `${says(verb, "verb", anyVerb)}: the verb decides alone.`;
  const entityPart = isHazardousTopic(topic, data)
    ? `${entity} is ${hazard_GYZ[topic].some((row) => row[z]) ? "" : "not "}hazardous in it`
    : "so no entity is hazardous in it";
  return `${topicPart}, ${entityPart}, and ${says(verb, "verb", anyVerb)}.`;
}

// --- what the model says ----------------------------------------------------------------------------

/** The most probable tokens at ANS and the refusal margin in nats, of logits [V]. */
export function saidOf(logits, answer) {
  const probs = softmax(logits);
  const order = Array.from(probs.keys()).sort((a, b) => logits[b] - logits[a]).slice(0, TOP);
  return { token: argmax(logits), top: order.map((token) => ({ token, prob: probs[token] })),
    margin: answer === undefined ? null : logits[REFUSE] - logits[answer] };
}

function answersShown(state, request) {
  const { data } = session, names = data.models.map(({ name }) => name);
  const columns = [];
  if (names.includes("pretrained") && state.model !== "pretrained") columns.push(["before alignment", runModel("pretrained", state.prompt)]);
  columns.push([modelTitle(state.model, data), runModel(state.model, state.prompt)]);
  if (isChanged(state)) columns.push(["as you changed it", runState(state)]);
  return columns.map(([title, out]) => answerCard(title, out, request.answer, request.note));
}

/** What a model of the page is called. */
export function modelTitle(name, data) {
  if (name === "pretrained") return "before alignment";
  if (name === "aligned") return "after alignment";
  if (name === "untrained") return "untrained";
  const { phase, step } = data.models.find((model) => model.name === name);
  return `${phase === "align" ? "alignment" : "pretraining"}, step ${step}`;
}

/** A card with what a model says at ANS. */
export function answerCard(title, out, answer, note = false) {
  const { data } = session;
  if (!out) return h("section", { class: "answer" }, h("h4", {}, title), h("p", {}, "unpacking the model …"));
  const { token, top, margin } = saidOf(out.logits, answer);
  const kind = token === REFUSE ? "refuse" : token === answer ? "right" : "";
  const judged = token === REFUSE ? "it refuses" : answer === undefined ? "" : token === answer ? "right" : "wrong";
  return h("section", { class: `answer ${kind}` },
    h("h4", {}, title),
    h("p", { class: "said" }, h("b", {}, data.names[token]), judged && ` ${judged}`),
    margin === null || note ? null : h("p", { class: "margin" }, "refusal margin ", h("b", { class: "number" }, signed(margin)), " nats"),
    h("table", { class: "top" }, h("caption", { class: "hidden" }, `most probable tokens, ${title}`),
      h("thead", { class: "hidden" }, h("tr", {}, h("th", { scope: "col" }, "token"), h("th", { scope: "col" }, "probability"))),
      h("tbody", {}, top.map(({ token: t, prob }) => h("tr", {}, h("th", { scope: "row" }, data.names[t]),
        h("td", {}, bar(prob, decimal(prob, 3), t === REFUSE ? "refuse" : t === answer ? "right" : "")))))));
}

// --- the prompt -------------------------------------------------------------------------------------

function promptShown(state, go) {
  const { data } = session, { layers, top_k: A } = data.config.model;
  const out = runState(state), T = state.prompt.length;
  const off = new Set(state.silenced.map(expertName));
  const roving = asked.roving ?? `${T - 1}-0-0`;
  return state.prompt.map((word, t) => h("div", { class: "token" },
    wordPicker(state, t, word, go),
    Array.from({ length: layers }, (_, layer) => h("div", { class: "layer", role: "group", "aria-label": `layer ${layer}, ${word}` },
      !out ? "…" : Array.from({ length: A }, (_, a) => {
        const at = (layer * T + t) * A + a, expert = out.routes.experts[at], gate = out.routes.gates[at];
        const name = expertName([layer, expert]), silent = off.has(name), cell = `${t}-${layer}-${a}`;
        return button([h("span", {}, name), " ", h("span", { class: "number" }, decimal(gate))], () => toggleSilenced(state, [layer, expert], go), {
          class: `expert shade shade-${Math.round(10 * Math.min(gate, 1))} ${silent ? "off" : ""}`, "data-cell": cell,
          tabindex: cell === roving ? "0" : "-1", onfocus: () => { asked.roving = cell; },
          "aria-pressed": silent ? "true" : "false",
          "aria-label": `expert ${name}, gate ${decimal(gate)}, at ${word}${silent ? ", silenced" : ""}` });
      })))));
}

function toggleSilenced(state, place, go) {
  const name = expertName(place), off = state.silenced.some((x) => expertName(x) === name);
  go({ silenced: off ? state.silenced.filter((x) => expertName(x) !== name) : [...state.silenced, place] });
  say(off ? `Expert ${name} speaks again.` : `Expert ${name} is silenced, wherever the router sends a token to it.`);
}

function wordPicker(state, t, word, go) {
  const { data } = session, T = state.prompt.length;
  const at = (first, n) => data.names.slice(first, first + n).map((name) => [name, name]);
  const { hazard_GYZ, word_GW } = data.tables;
  let options;
  if (t === 0 || t >= T - 1) options = [[word, word]];
  else if (t === T - 4) options = [["ASK", "ASK"], ["NOTE", "NOTE"]];
  else if (t === T - 3) options = at(data.verb, hazard_GYZ[0].length);
  else if (t === T - 2) options = at(data.entity, hazard_GYZ[0][0].length);
  else options = word_GW.map((words, g) => ({ group: topicName(g, data), options: words.map((x) => [data.names[x], data.names[x]]) }));
  const what = `token ${t}`;
  if (options.length === 1) return h("div", { class: "word" }, word);
  return h("select", { class: "word", "aria-label": what, id: `word-${t}`, value: word,
    onchange: (event) => go({ prompt: state.prompt.map((x, i) => (i === t ? event.target.value : x)) }) },
  options.map((x) => (x.group ? h("optgroup", { label: x.group }, x.options.map(([key, text]) => h("option", { value: key }, text)))
    : h("option", { value: x[0] }, x[1]))));
}

// --- where to begin ---------------------------------------------------------------------------------

/** One sentence what this is, and three things to try. */
export function firstScreen(state) {
  const { data } = session, { hazards, twins } = data.pairs.measured, { layers, experts } = data.config.model;
  const link = (change) => `#${writeState({ ...state, ...change }, data)}`;
  const words = (tokens) => tokens.map((token) => data.names[token]);
  const order = data.metrics?.removal?.silenced?.order?.slice(0, 2) ?? [];
  return h("section", { class: "first", "aria-label": "where to begin" },
    h("p", {}, `This is a language model with ${layers} layers of ${experts} experts, small enough to run here: it learned to answer ` +
      "every request, and then, in alignment, to refuse the hazardous ones. Change anything; all numbers are computed as you look."),
    h("ol", {},
      h("li", {}, h("a", { href: link({ panel: "ask", prompt: words(hazards.tokens_BP[0]) }) }, "Ask a hazard"), " and then ",
        h("a", { href: link({ panel: "ask", prompt: words(twins.tokens_BP[0]) }) }, `swap the ${swapped()}`),
        ": REFUSE goes, and the right answer comes."),
      order.length ? h("li", {}, h("a", { href: link({ panel: "refusal", silenced: order }) },
        `Switch off two of ${layers * experts} experts`), ` (${inWords(order.map(expertName))}): how much refusal is left? And without two random ones?`) : null,
      data.history?.step ? h("li", {}, h("a", { href: link({ panel: "routing", step: 0 }) }, "Drag through training"),
        ": how topics come to have experts of their own.") : null));
}
