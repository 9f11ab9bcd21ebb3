// The panel Code: the present state as plain Python calls, which print the numbers that the page
// shows.

import { softmax } from "./arithmetic.js";
import { REFUSE } from "./model.js";
import { shared_margin } from "./patching.js";
import { button, decimal, h, say, signed, table } from "./dom.js";
import { requestOf, saidOf } from "./answers.js";
import { metersOf, runState, session } from "./session.js";
import { pairOf, patchedLogits } from "./patch.js";
import { isChanged, writeState } from "./state.js";

/** The panel. */
export function codePanel(state) {
  const text = pythonOf(state),
    link = `#${writeState({ ...state, panel: "code" }, session.data)}`;
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      say("The code is copied.");
    } catch {
      const range = document.createRange();
      range.selectNodeContents(document.getElementById("python"));
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      say("The browser does not let a page copy: the code is selected, copy it by the keys.");
    }
  };
  return [
    h("h2", { id: "panel-title" }, "Code: check it in Python"),
    h(
      "p",
      {},
      "Whatever stands in the other panels, this computes it again, with the package that trained the model: paste it into a file or a notebook. " +
        "Beside it is what the page finds. ",
      session.data.precision.kind === "float32"
        ? ""
        : "The page's weights are rounded, so the last digits can differ.",
    ),
    h(
      "div",
      { class: "coding" },
      h(
        "div",
        {},
        button("Copy the code", copy, { class: "main" }),
        h(
          "pre",
          { id: "python", tabindex: "0", role: "region", "aria-label": "Python code" },
          text,
        ),
      ),
      h("div", {}, expected(state)),
    ),
    h("p", {}, "This state as an address: ", h("a", { href: link, id: "address" }, link)),
  ];
}

/** What the code prints, computed by the page. */
function expected(state) {
  const { data } = session,
    request = requestOf(state.prompt, data),
    out = runState(state),
    meters = metersOf(state);
  const n = data.pairs.measured.hazards.tokens_BP.length,
    count = (key) => (meters.value ? `${Math.round(meters.value[key] * n)} of ${n}` : "…");
  const rows = [];
  if (out) {
    const { top, margin } = saidOf(out.logits, request.answer);
    rows.push(...top.map(({ token, prob }) => [data.names[token], decimal(prob, 3)]));
    if (!request.note) rows.push(["refusal margin, nats", signed(margin, 2)]);
  }
  rows.push(
    ["hazards refused", count("refused")],
    ["twins answered right", count("twins")],
    ["hazards answered right", count("answered")],
  );
  const patched = patchable(state) ? patchedLogits(state) : null;
  if (patched) {
    rows.push(
      ["patched: most probable", data.names[saidOf(patched).token]],
      ["patched: P(REFUSE)", decimal(softmax(patched)[REFUSE], 3)],
      ["patched margin, nats", signed(shared_margin(patched, pairOf(state).answers), 2)],
    );
  }
  return table("What it prints, as the page computes it", ["", "the page"], rows, {
    id: "expected",
  });
}

function patchable(state) {
  return state.layer !== null && state.position !== null;
}

// --- the text ------------------------------------------------------------------------------------

/** Python that computes a state's numbers again. */
export function pythonOf(state) {
  const { data } = session,
    request = requestOf(state.prompt, data),
    edited = editLines(state);
  const lines = [
    ...(folderOf(state) ? ["from pathlib import Path", ""] : []),
    "import numpy as np",
    "",
    "from toymoe import explorer, model, organism, world",
    ...(state.direction === null ? [] : ["from toymoe.attacks import steering"]),
    ...(isSnapshot(state) ? ["from toymoe.explorer import checkpoints"] : []),
    ...(edited.length || patchable(state) ? ["from toymoe.model import taps"] : []),
    "",
    `o = organism.load(${JSON.stringify(data.source)})`,
    "cfg, names = o.cfg.model, list(world.vocabulary(o.cfg.world))",
    "ranked, measured = explorer.pairs(o)",
    "",
    "# The model, and what is changed in its weights.",
    ...weightLines(state),
    "",
    "",
    "def run(tokens_BT):",
    '    """Logits at ANS [B, V]."""',
    ...edited,
    `    out = model.forward(params, tokens_BT, cfg${edited.length ? ", edits=edits" : ""})`,
    "    return np.asarray(out.logits_BTV[:, -1])",
    "",
    "",
    "# One prompt: the most probable tokens, and the refusal margin.",
    ...wordLines(state.prompt),
    "logits_V = run([[names.index(word) for word in words]])[0]",
    "probs_V = np.exp(logits_V - logits_V.max())",
    "probs_V /= probs_V.sum()",
    "for token in np.argsort(-probs_V)[:5]:",
    '    print(f"{names[token]}: {probs_V[token]:.3f}")',
    ...(request.note
      ? []
      : [
          `margin = logits_V[world.REFUSE] - logits_V[names.index("${data.names[request.answer]}")]`,
          'print(f"refusal margin, nats: {margin:+.2f}")',
        ]),
    "",
    "# The three meters.",
    "hazards_B = run(measured.hazards.tokens_BP).argmax(-1)",
    "twins_B = run(measured.twins.tokens_BP).argmax(-1)",
    "refused, n = (hazards_B == world.REFUSE).sum(), len(hazards_B)",
    'print(f"hazards refused: {refused} of {n}")',
    'print(f"twins answered right: {(twins_B == measured.twins.answer_B).sum()} of {n}")',
    'print(f"hazards answered right: {(hazards_B == measured.hazards.answer_B).sum()} of {n}")',
    ...(patchable(state) ? patchLines(state) : []),
  ];
  return `${lines.join("\n")}\n`;
}

/** The prompt as lines of Python that are not too long. */
function wordLines(words, most = 80) {
  const lines = [];
  for (const word of words) {
    const last = lines[lines.length - 1];
    if (last !== undefined && last.length + word.length < most)
      lines[lines.length - 1] = `${last} ${word}`;
    else lines.push(word);
  }
  return [
    "words = (",
    ...lines.map((text, i) => `    "${text}${i < lines.length - 1 ? " " : ""}"`),
    ").split()",
  ];
}

function isSnapshot(state) {
  return !["pretrained", "aligned"].includes(state.model);
}

/** The folder of the run, as an argument, where a snapshot is read from it. */
function folderOf(state) {
  return isSnapshot(state) && state.model !== "untrained"
    ? `, Path(${JSON.stringify(session.data.source)})`
    : "";
}

/** The expression of a model's parameters before any change. */
function plainParams(state) {
  if (!isSnapshot(state)) return `o.${state.model}`;
  return `checkpoints.params(o, checkpoints.named(${JSON.stringify(state.model)}, o.cfg)${folderOf(state)})`;
}

function placesText(list) {
  return `[${list.map(([layer, expert]) => `(${layer}, ${expert})`).join(", ")}]`;
}

function weightLines(state) {
  const lines = [`base = ${plainParams(state)}`];
  if (state.tuned === null) lines.push("params = base");
  else if (state.model === "aligned") lines.push(`params = explorer.tuned(o, ${state.tuned})`);
  else
    lines.push(
      `params = explorer.shared.with_delta(base, explorer.tuned(o, ${state.tuned}), o.aligned)`,
    );
  if (state.set_back.length)
    lines.push(`params = explorer.set_back(params, o.pretrained, ${placesText(state.set_back)})`);
  if (state.direction !== null)
    lines.push(
      `params = steering.project_out(params, explorer.directions(ranked)[${state.direction}])`,
    );
  return lines;
}

function editLines(state) {
  if (!isChanged(state)) return [];
  const given = [],
    lines = [];
  const where = (name, tap, list) => {
    lines.push(
      `    ${name} = np.zeros((cfg.layers, 1, 1, cfg.experts${tap === "expert_out" ? ", 1" : ""}), bool)`,
    );
    lines.push(`    for layer, expert in ${placesText(list)}:`);
    lines.push(
      `        ${name} |= taps.places("${tap}", cfg, tokens_BT, layer=layer, expert=expert)`,
    );
  };
  if (state.silenced.length) {
    where("silenced", "expert_out", state.silenced);
    given.push("expert_out=taps.zero(silenced)");
  }
  if (state.masked.length) {
    where("masked", "router_logits", state.masked);
    given.push("router_logits=taps.replace(masked, taps.CLOSED)");
  }
  if (state.frozen) {
    lines.push("    routes = model.forward(base, tokens_BT, cfg).routes");
    given.push("route=taps.freeze(routes)");
  }
  if (!given.length) return [];
  return [
    ...lines,
    "    edits = taps.edits(",
    "        cfg,",
    "        tokens_BT,",
    ...given.map((x) => `        ${x},`),
    "    )",
  ];
}

function patchLines(state) {
  const [into, from] = state.way === "removed" ? ["hazards", "twins"] : ["twins", "hazards"];
  const { tap, layer, position, pair } = state,
    at = `layer=${layer}, position=${position}`;
  return [
    "",
    "# One patch, in the model as it is: logit(REFUSE) less the larger of the two right answers' logits.",
    `into_1T = measured.${into}.tokens_BP[${pair}:${pair + 1}]`,
    `from_1T = measured.${from}.tokens_BP[${pair}:${pair + 1}]`,
    ...(tap === "selected"
      ? [
          "source = model.forward(base, from_1T, cfg)",
          `where = taps.places("route", cfg, into_1T, ${at})`,
          "patch = taps.edits(cfg, into_1T, route=taps.freeze(source.routes, where, gates=False))",
        ]
      : [
          `source = model.forward(base, from_1T, cfg, record=("${tap}",))`,
          `where = taps.places("${tap}", cfg, into_1T, ${at})`,
          `patch = taps.edits(cfg, into_1T, ${tap}=taps.replace(where, source.record["${tap}"]))`,
        ]),
    "logits_V = np.asarray(model.forward(base, into_1T, cfg, edits=patch).logits_BTV[0, -1])",
    "probs_V = np.exp(logits_V - logits_V.max())",
    "probs_V /= probs_V.sum()",
    `right = [measured.hazards.answer_B[${pair}], measured.twins.answer_B[${pair}]]`,
    'print(f"patched: most probable: {names[logits_V.argmax()]}")',
    'print(f"patched: P(REFUSE): {probs_V[world.REFUSE]:.3f}")',
    'print(f"patched margin, nats: {logits_V[world.REFUSE] - logits_V[right].max():+.2f}")',
  ];
}
