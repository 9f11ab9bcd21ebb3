// What the page is made of: a description of elements, and what brings the document up to it.
//
// A panel says what it should look like now, every time; `show` changes only what differs, so that
// the focus, a slider that is being dragged and the place in a long table stay where they are. No
// text is ever read as markup.

const SVG = "http://www.w3.org/2000/svg";

/** An element as it should be: a tag, its attributes, and what is in it (text, numbers, elements,
 * lists, null).
 * `on…` is a listener; `value` and `checked` are what the control shows; `set` is an object of CSS
 * properties. */
export function h(tag, given = {}, ...inside) {
  return {
    tag,
    given,
    inside: inside.flat(Infinity).filter((x) => x !== null && x !== undefined && x !== false),
  };
}

/** Brings what is in an element up to a list of descriptions. */
export function show(parent, ...wanted) {
  const list = wanted.flat(Infinity).filter((x) => x !== null && x !== undefined && x !== false);
  list.forEach((want, i) => {
    const have = parent.childNodes[i];
    if (!have) parent.append(madeNode(want, parent));
    else if (!isAlike(have, want)) have.replaceWith(madeNode(want, parent));
    else if (want.tag) updateNode(have, want);
    else if (have.data !== String(want)) have.data = String(want);
  });
  while (parent.childNodes.length > list.length) parent.lastChild.remove();
}

function isAlike(node, want) {
  if (!want.tag) return node.nodeType === 3;
  return (
    node.nodeType === 1 && node.localName === want.tag && (node.id || "") === (want.given.id ?? "")
  );
}

function madeNode(want, parent) {
  if (!want.tag) return document.createTextNode(String(want));
  const inSvg = want.tag === "svg" || parent.namespaceURI === SVG;
  const node = inSvg ? document.createElementNS(SVG, want.tag) : document.createElement(want.tag);
  updateNode(node, want);
  return node;
}

function updateNode(node, { given, inside }) {
  for (const { name } of [...node.attributes]) {
    if (
      name !== "style" &&
      (given[name] === undefined || given[name] === null || given[name] === false)
    ) {
      node.removeAttribute(name);
    }
  }
  const before = node.listening ?? [];
  node.listening = Object.keys(given).filter((name) => name.startsWith("on"));
  for (const name of before) if (!node.listening.includes(name)) node[name] = null;
  for (const [name, value] of Object.entries(given)) {
    if (name.startsWith("on")) node[name] = value;
    else if (name === "set")
      Object.entries(value).forEach(([key, x]) => node.style.setProperty(key, x));
    else if (
      name !== "value" &&
      name !== "checked" &&
      value !== undefined &&
      value !== null &&
      value !== false
    ) {
      const text = value === true ? "" : String(value);
      if (node.getAttribute(name) !== text) node.setAttribute(name, text);
    }
  }
  show(node, inside);
  // After the options of a select are there.
  if (given.value !== undefined && node.value !== String(given.value)) node.value = given.value;
  if (given.checked !== undefined) node.checked = given.checked;
}

// --- numbers as the project writes them ----------------------------------------------------------

/** A share or a number with some decimals, without the zero before the point; a real minus sign. */
export function decimal(x, places = 2) {
  if (x === null || x === undefined || Number.isNaN(x)) return "–";
  const text = Math.abs(x).toFixed(places);
  const zero = Number(text) === 0;
  if (zero && places === 1) return "0";
  return (x < 0 && !zero ? "−" : "") + text.replace(/^0(?=\.)/, "");
}

/** With its sign: what is added or lost. */
export function signed(x, places = 1) {
  const text = decimal(x, places);
  return x > 0 && Number(x.toFixed(places)) !== 0 ? `+${text}` : text;
}

/** "layer.expert", counted from 0, as in every figure. */
export function expertName([layer, expert]) {
  return `${layer}.${expert}`;
}

/** A list in words. */
export function inWords(names) {
  return names.length < 2
    ? names.join("")
    : `${names.slice(0, -1).join(", ")} and ${names[names.length - 1]}`;
}

// --- parts that panels share ---------------------------------------------------------------------

/** A button. */
export function button(label, onclick, given = {}) {
  return h("button", { type: "button", onclick, ...given }, label);
}

/** A labelled select; options are [value, text] or {group, options}. */
export function select(id, label, value, options, onpick, given = {}) {
  const option = ([key, text]) =>
    h("option", { value: key, selected: String(key) === String(value) }, text);
  const rows = options.map((x) =>
    x.group ? h("optgroup", { label: x.group }, x.options.map(option)) : option(x),
  );
  return h(
    "label",
    { class: "field", for: id },
    h("span", {}, label),
    h("select", { id, value, onchange: (event) => onpick(event.target.value), ...given }, rows),
  );
}

/** One of a few, as radio buttons in a box with a name. */
export function radios(name, legend, value, options, onpick) {
  return h(
    "fieldset",
    { class: "radios" },
    h("legend", {}, legend),
    options.map(([key, text]) =>
      h(
        "label",
        { for: `${name}-${key}` },
        h("input", {
          type: "radio",
          id: `${name}-${key}`,
          name,
          checked: key === value,
          onchange: () => onpick(key),
        }),
        h("span", {}, text),
      ),
    ),
  );
}

/** A table with headers in a box of its own, which can be scrolled by keys where it is too wide. */
export function table(caption, head, rows, given = {}) {
  return h(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h(
      "table",
      given,
      h("caption", {}, caption),
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          head.map((cell) => (cell === "" ? h("td") : h("th", { scope: "col" }, cell))),
        ),
      ),
      h(
        "tbody",
        {},
        rows.map(([first, ...rest]) =>
          h(
            "tr",
            {},
            h("th", { scope: "row" }, first),
            rest.map((cell) => (cell?.tag === "td" ? cell : h("td", {}, cell))),
          ),
        ),
      ),
    ),
  );
}

/** A cell of a table whose shade says how much its number is of the largest; the number stands in
 * it. */
export function shaded(text, share, given = {}) {
  const level = Math.round(Math.min(Math.max(share, 0), 1) * 10);
  return h("td", { ...given, class: `shade shade-${level} ${given.class ?? ""}` }, text);
}

/** A share as a bar with its number beside it. */
export function bar(share, text, kind = "") {
  const width = `${(100 * Math.min(Math.max(share, 0), 1)).toFixed(1)}%`;
  return h(
    "span",
    { class: "bar-line" },
    h("span", { class: `bar ${kind}`, "aria-hidden": "true" }, h("span", { set: { width } })),
    h("span", { class: "bar-text" }, text),
  );
}

/** Arrow keys go from cell to cell: the buttons of a group are one stop of the tab key. */
export function arrows(event) {
  const steps = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] };
  const from = event.target.closest("[data-cell]");
  if (!from || !(event.key in steps)) return;
  event.preventDefault();
  const [dx, dy] = steps[event.key];
  const here = from.getBoundingClientRect();
  const middle = (box) => [box.left + box.width / 2, box.top + box.height / 2];
  const [x, y] = middle(here);
  const found = [...event.currentTarget.querySelectorAll("[data-cell]")]
    .map((cell) => {
      const [cx, cy] = middle(cell.getBoundingClientRect());
      const along = (cx - x) * dx + (cy - y) * dy;
      return {
        cell,
        along,
        far: along + 3 * Math.abs((cx - x) * dy) + 3 * Math.abs((cy - y) * dx),
      };
    })
    .filter(({ along }) => along > 4)
    .sort((a, b) => a.far - b.far)[0];
  if (!found) return;
  event.currentTarget
    .querySelectorAll("[data-cell]")
    .forEach((cell) => cell.setAttribute("tabindex", "-1"));
  found.cell.setAttribute("tabindex", "0");
  found.cell.focus();
}

/** Says something to those who listen, and shows it. */
export function say(text, wrong = false) {
  const live = document.getElementById("live");
  live.className = wrong ? "wrong" : "";
  live.textContent = text;
}
