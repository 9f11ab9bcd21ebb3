// The page: its state, its address, its tabs. Panels say what they look like; here they are put
// together.

import { TAPS } from "./taps.js";
import { modelTitle } from "./answers.js";
import { askPanel, forgetTyped } from "./ask.js";
import { button, expertName, h, say, select, show } from "./dom.js";
import { codePanel } from "./code.js";
import { firstScreen } from "./first.js";
import { patchPanel } from "./patch.js";
import { refusalPanel } from "./refusal.js";
import { routingPanel } from "./routing.js";
import { beginSession, nextTurn, session, unchanged } from "./session.js";
import {
  checked,
  defaultState,
  isChanged,
  PANELS,
  readState,
  StateError,
  writeState,
} from "./state.js";

const VIEWS = {
  ask: askPanel,
  routing: routingPanel,
  refusal: refusalPanel,
  patch: patchPanel,
  code: codePanel,
};
const look = { theme: "", projector: false }; // how the page is looked at: not a part of its state
const current = { state: null, waiting: false };

begin();

function begin() {
  const data = JSON.parse(document.getElementById("data").textContent);
  beginSession(data, again, (sentence) => say(sentence, true));
  document.title = data.title;
  show(
    document.getElementById("app"),
    h("div", { id: "page" }),
    h("p", { id: "live", role: "status", "aria-live": "polite" }),
  );
  current.state = defaultState(data);
  arrive();
  addEventListener("popstate", () => arrive());
  addEventListener("click", follow);
  addEventListener("resize", again);
}

/** Follows a link to a state; in a page inside another one the address is not its own. */
function follow(event) {
  const link = event.target.closest?.('a[href^="#"]');
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  remember(link.getAttribute("href"), true);
  arrive(link.getAttribute("href"));
}

/** Writes a state into the address, if the page has one of its own. */
function remember(fragment, step) {
  try {
    history[step ? "pushState" : "replaceState"](null, "", fragment);
  } catch {
    // A page inside another one: the state is kept here alone.
  }
}

/** Takes the state from an address; a bad one is answered by a sentence, and the page begins anew.
 * */
function arrive(text = location.hash) {
  try {
    current.state = readState(text, session.data, Object.keys(TAPS));
    say("");
  } catch (error) {
    current.state = defaultState(session.data);
    say(
      error instanceof StateError
        ? `${error.message} The page shows its first state instead.`
        : "The address cannot be read. The page shows its first state instead.",
      true,
    );
  }
  forgetTyped();
  again();
}

/** Goes to another state: what changes, and whether it becomes a new step of the back button. */
function go(change, step = true) {
  let next;
  try {
    next = checked({ ...current.state, ...change }, session.data);
  } catch (error) {
    if (!(error instanceof StateError)) throw error;
    return say(error.message, true);
  }
  current.state = next;
  if (change.prompt) forgetTyped();
  say("");
  remember(`#${writeState(next, session.data)}`, step);
  return again();
}

/** Shows the page once more, soon; several calls make one. */
function again() {
  if (current.waiting) return;
  current.waiting = true;
  queueMicrotask(() => {
    current.waiting = false;
    nextTurn();
    show(document.getElementById("page"), whole(current.state));
  });
}

// --- the frame -----------------------------------------------------------------------------------

function whole(state) {
  const { data } = session;
  return [
    h(
      "header",
      {},
      h("h1", {}, data.title),
      h(
        "div",
        { class: "tools" },
        button("Copy link", copyLink),
        select(
          "theme",
          "look",
          look.theme,
          [
            ["", "as the system"],
            ["light", "light"],
            ["dark", "dark"],
          ],
          (value) => {
            look.theme = value;
            document.documentElement.dataset.theme = value;
            again();
          },
        ),
        h(
          "label",
          { class: "check", for: "projector" },
          h("input", {
            type: "checkbox",
            id: "projector",
            checked: look.projector,
            onchange: (event) => {
              look.projector = event.target.checked;
              document.documentElement.classList.toggle("projector", look.projector);
            },
          }),
          h("span", {}, "projector"),
        ),
      ),
    ),
    h(
      "nav",
      { "aria-label": "panels" },
      Object.entries(PANELS).map(([name, title]) =>
        h(
          "a",
          {
            href: `#${writeState({ ...state, panel: name }, data)}`,
            id: `tab-${name}`,
            "aria-current": name === state.panel ? "page" : false,
          },
          title,
        ),
      ),
    ),
    changes(state),
    h(
      "main",
      { "aria-labelledby": "panel-title" },
      state.panel === "ask" ? firstScreen(state) : null,
      h("div", { id: `panel-${state.panel}` }, VIEWS[state.panel](state, go)),
    ),
    h(
      "footer",
      {},
      h("p", {}, precision()),
      h(
        "p",
        {},
        `toymoe ${data.version ?? data.toymoe}. One model, one seed, a toy language: it shows how an ` +
          "argument is made and checked, not what large models do. All of it runs in this page; nothing is sent anywhere.",
      ),
    ),
  ];
}

/** Which model is looked at, and all that was changed in it. */
function changes(state) {
  const { data } = session;
  const chips = [
    ["silenced", "silenced"],
    ["set_back", "set back"],
    ["masked", "masked"],
  ].flatMap(([key, word]) =>
    state[key].map((place) =>
      button(
        `${expertName(place)} ${word} ×`,
        () => go({ [key]: state[key].filter((x) => x !== place) }),
        { class: "chip", "aria-label": `expert ${expertName(place)} is ${word}: undo` },
      ),
    ),
  );
  if (state.tuned !== null)
    chips.push(
      button(`tuned: ${state.tuned} ×`, () => go({ tuned: null }), {
        class: "chip",
        "aria-label": `${state.tuned} experts are tuned: undo`,
      }),
    );
  if (state.direction !== null)
    chips.push(
      button(
        `direction of layer ${state.direction} projected out ×`,
        () => go({ direction: null }),
        { class: "chip" },
      ),
    );
  if (state.frozen)
    chips.push(button("routes frozen ×", () => go({ frozen: false }), { class: "chip" }));
  return h(
    "section",
    { class: "changes", "aria-label": "the model, and what is changed in it" },
    select(
      "model",
      "model",
      state.model,
      data.models.map(({ name }) => [name, modelTitle(name, data)]),
      (model) => go({ model }),
    ),
    isChanged(state)
      ? [...chips, button("Undo all", () => go(unchanged(state)), { class: "main" })]
      : h("span", { class: "note" }, "nothing is changed in it"),
  );
}

function precision() {
  const { kind, prompts, answers, selections, of, logit } = session.data.precision;
  if (kind === "float32") return "The weights are the run's own, in single precision.";
  const part = (count, all) => `${count} of ${all.toLocaleString("en")}`;
  return (
    `The weights are kept in half precision (${kind}), so this is the run's model nearly, not exactly: over ${prompts.toLocaleString("en")} prompts ` +
    `${part(answers, prompts)} answers and ${part(selections, of)} selections of experts differ, and a logit by ${logit.toFixed(2)} at most.`
  );
}

async function copyLink() {
  const fragment = `#${writeState(current.state, session.data)}`;
  const link = location.protocol === "about:" ? fragment : location.href.replace(/#.*|$/, fragment);
  try {
    await navigator.clipboard.writeText(link);
    say("The link to this state is copied.");
  } catch {
    say(`The browser does not let a page copy; the link is ${link}`);
  }
}
