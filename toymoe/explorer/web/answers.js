// What a prompt asks and what models say to it: names, labels, and a card for every answer.

import { argmax, softmax } from "./arithmetic.js";
import { bar, decimal, h, signed } from "./dom.js";
import { REFUSE } from "./model.js";
import { runModel, runState, session } from "./session.js";
import { isChanged } from "./state.js";
import { request_of, tokens_of } from "./world.js";

const TOP = 5; // tokens shown of each answer

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
  return {
    ...request_of(
      tokens_of(
        words.map((word) => (word === "NOTE" ? "ASK" : word)),
        data,
      ),
      data,
    ),
    note,
  };
}

/** The most probable tokens at ANS and the refusal margin in nats, of logits [V]. */
export function saidOf(logits, answer) {
  const probs = softmax(logits);
  const order = Array.from(probs.keys())
    .sort((a, b) => logits[b] - logits[a])
    .slice(0, TOP);
  return {
    token: argmax(logits),
    top: order.map((token) => ({ token, prob: probs[token] })),
    margin: answer === undefined ? null : logits[REFUSE] - logits[answer],
  };
}

/** A card for each model that a state compares: before alignment, as it is, as it was changed. */
export function answersShown(state, request) {
  const { data } = session,
    names = data.models.map(({ name }) => name);
  const columns = [];
  if (names.includes("pretrained") && state.model !== "pretrained")
    columns.push(["before alignment", runModel("pretrained", state.prompt)]);
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
  if (!out)
    return h(
      "section",
      { class: "answer" },
      h("h4", {}, title),
      h("p", {}, "unpacking the model …"),
    );
  const { token, top, margin } = saidOf(out.logits, answer);
  const kind = token === REFUSE ? "refuse" : token === answer ? "right" : "";
  const judged =
    token === REFUSE
      ? "it refuses"
      : answer === undefined
        ? ""
        : token === answer
          ? "right"
          : "wrong";
  return h(
    "section",
    { class: `answer ${kind}` },
    h("h4", {}, title),
    h("p", { class: "said" }, h("b", {}, data.names[token]), judged && ` ${judged}`),
    margin === null || note
      ? null
      : h(
          "p",
          { class: "margin" },
          "refusal margin ",
          h("b", { class: "number" }, signed(margin)),
          " nats",
        ),
    h(
      "table",
      { class: "top" },
      h("caption", { class: "hidden" }, `most probable tokens, ${title}`),
      h(
        "thead",
        { class: "hidden" },
        h("tr", {}, h("th", { scope: "col" }, "token"), h("th", { scope: "col" }, "probability")),
      ),
      h(
        "tbody",
        {},
        top.map(({ token: t, prob }) =>
          h(
            "tr",
            {},
            h("th", { scope: "row" }, data.names[t]),
            h(
              "td",
              {},
              bar(prob, decimal(prob, 3), t === REFUSE ? "refuse" : t === answer ? "right" : ""),
            ),
          ),
        ),
      ),
    ),
  );
}
