// The panel Ask: a prompt, what is right, what the model says before and after alignment, and
// which experts take it.

import { answersShown, isHazardousTopic, requestOf, topicName } from "./answers.js";
import { arrows, button, h, say, select } from "./dom.js";
import { swapped } from "./first.js";
import { promptShown } from "./prompt.js";
import { session } from "./session.js";
import { promptOf, StateError } from "./state.js";
import { assemble, draw, request_of, seeded, tokens_of, twin, why, words_of } from "./world.js";

const asked = { text: null, luck: 1 }; // what is being typed, draws so far

/** The panel. */
export function askPanel(state, go) {
  const { data } = session,
    request = requestOf(state.prompt, data);
  return [
    h("h2", { id: "panel-title" }, "Ask the model"),
    askControls(state, request, go),
    verdict(request),
    h("h3", {}, "What the model says"),
    h("div", { class: "answers" }, answersShown(state, request)),
    h("h3", {}, "The prompt, and the experts that take each token"),
    h(
      "p",
      { class: "note" },
      `In each of ${data.config.model.layers} layers the router sends every token to ` +
        `${data.config.model.top_k} of ${data.config.model.experts} experts. An expert is named layer.expert; the number ` +
        "after it, and the shade, is its gate: how much of what it says is added. Press one to silence it, once more to undo that. Choose another word above it.",
    ),
    h(
      "div",
      {
        class: "prompt",
        role: "group",
        "aria-label": "the prompt, token by token",
        onkeydown: arrows,
      },
      promptShown(state, go),
    ),
    h(
      "div", // not a form: in a notebook's sandbox those never submit
      { class: "controls typed" },
      h(
        "label",
        { class: "field wide", for: "ask-text" },
        h("span", {}, "or type the whole prompt"),
        h("input", {
          id: "ask-text",
          type: "text",
          value: asked.text ?? state.prompt.join(" "),
          autocomplete: "off",
          spellcheck: "false",
          oninput: (event) => {
            asked.text = event.target.value;
          },
          onkeydown: (event) => {
            if (event.key === "Enter") typed(go);
          },
        }),
      ),
      button("Ask", () => typed(go)),
    ),
  ];
}

// --- choosing a prompt ---------------------------------------------------------------------------

function askControls(state, request, go) {
  const { data } = session;
  const { hazard_GYZ } = data.tables,
    names = (first, n) => data.names.slice(first, first + n);
  const verbs = names(data.verb, hazard_GYZ[0].length),
    entities = names(data.entity, hazard_GYZ[0][0].length);
  const numbered = (list) => list.map((name, i) => [i, name]);
  const change = (part) => (value) =>
    go({ prompt: changedPart(state, request, part, Number(value)) });
  return h(
    "div",
    { class: "controls" },
    select(
      "ask-topic",
      "topic",
      request.topic,
      numbered(data.topics.map((_, g) => topicName(g, data))),
      change("topic"),
    ),
    select("ask-verb", "verb", request.verb, numbered(verbs), change("verb")),
    select("ask-entity", "entity", request.entity, numbered(entities), change("entity")),
    button(`Swap the ${swapped()} for its twin`, () => swapTwin(state, go), { class: "main" }),
    button("Draw a hazard", () => go({ prompt: drawn(true) })),
    button("Draw at random", () => go({ prompt: drawn(null) })),
    h(
      "p",
      { class: "note" },
      "! marks a hazardous topic: some of its requests are hazards, others are not.",
    ),
  );
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
  const { data } = session,
    rng = nextLuck();
  for (;;) {
    const tokens = draw(rng, data),
      request = request_of(tokens, data);
    if (hazard === null || request?.hazard === hazard) return words_of(tokens, data);
  }
}

function swapTwin(state, go) {
  const { data } = session,
    tokens = tokens_of(state.prompt, data);
  const other = twin(nextLuck(), tokens, data); // null for a note, too
  if (!other)
    return say(
      `This prompt has no twin: no other ${swapped()} makes it hazardous, or harmless.`,
      true,
    );
  const [before, after] = [tokens, other].map((x) => request_of(x, data));
  go({ prompt: words_of(other, data) });
  return say(
    `${partName(before)} became ${partName(after)}: the request is ${after.hazard ? "hazardous" : "harmless"} now.`,
  );
}

function partName(request) {
  const { data } = session;
  return {
    context: data.topics[request.topic],
    verb: data.names[data.verb + request.verb],
    entity: data.names[data.entity + request.entity],
  }[data.rule.swaps];
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

// --- what is right, and why ----------------------------------------------------------------------

function verdict(request) {
  const { data } = session;
  const verb = data.names[data.verb + request.verb],
    entity = data.names[data.entity + request.entity];
  return h(
    "div",
    { class: `verdict ${request.hazard ? "hazard" : "harmless"}` },
    h(
      "p",
      { class: "question" },
      "After words about ",
      h("b", {}, data.topics[request.topic]),
      ": what of ",
      h("b", {}, `${verb} ${entity}`),
      "? ",
      request.note ? "This is a note: it asks for nothing, and states " : "The right answer is ",
      h("b", {}, data.names[request.answer]),
      request.note ? ". Asked, it would be " : ". The request is ",
      h("b", { class: "tag" }, request.hazard ? "! hazardous" : "harmless"),
      request.held_out ? ", and alignment never asked it" : "",
      ".",
    ),
    h("p", {}, holds(request, verb, entity)),
    h("p", { class: "note" }, why(request, data)),
  );
}

/** Which of topic, verb and entity are hazardous ones: read from the table of hazards. */
function holds({ topic, verb: y, entity: z }, verb, entity) {
  const { data } = session,
    { hazard_GYZ } = data.tables;
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
