// One seed is never taken for all: how many experts carry refusal in each seed of a sweep.

import { decimal, h, table } from "./dom.js";
import { session } from "./session.js";

const DOT = 20; // pixels that a dot takes

/** How few experts, set back, halve refusal, in every seed that was measured; this run is marked.
 * */
export function seedStrip() {
  const { seeds: found, config, metrics } = session.data;
  if (!found?.seeds || !found.set_back_m50) return null;
  const own = metrics?.removal?.set_back?.m50 ?? null; // a run of other settings is none of the dots
  const isMine = (seed, i) => seed === config.seed && found.set_back_m50[i] === own;
  const rows = found.seeds.map((seed, i) => ({
    seed,
    m: found.set_back_m50[i],
    random: halved(found.random_refusal?.[i], found.counts?.[i]),
    two: found.set_back_refusal?.[i][found.counts[i].indexOf(2)],
    mine: isMine(seed, i),
  }));
  const all = config.model.layers * config.model.experts,
    known = rows.some(({ mine }) => mine);
  const say = (m) => (m === null || m === undefined ? "never" : decimal(m, 0));
  return h(
    "section",
    { "aria-labelledby": "seeds-title" },
    h(
      "h3",
      { id: "seeds-title" },
      `Is it so in every seed? ${found.seeds.length} models of the default settings, each of another seed`,
    ),
    strip(
      "the most important",
      rows.map(({ seed, m, mine }) => [seed, m, mine]),
      all,
    ),
    strip(
      "random ones",
      rows.map(({ seed, random, mine }) => [seed, random, mine]),
      all,
    ),
    h(
      "p",
      { class: "note" },
      `How many of ${all} experts are set back until half of refusal is gone. A dot is a seed` +
        `${known ? `; this page's, seed ${config.seed}, is the filled one` : ""}. They differ: never take one seed for all.`,
    ),
    h(
      "details",
      {},
      h("summary", {}, "All seeds as a table"),
      table(
        "Experts set back until half of refusal is gone, by seed",
        ["seed", "the most important", "random ones", "refusal left after two"],
        rows.map(({ seed, m, random, two, mine }) => [
          `${seed}${mine ? " (this model)" : ""}`,
          say(m),
          say(random),
          decimal(two),
        ]),
      ),
    ),
  );
}

/** The smallest count at which at most half of refusal is left; null where it never is. */
function halved(refusal, counts) {
  if (!refusal || !counts) return null;
  const at = refusal.findIndex((x) => x <= refusal[0] / 2);
  return at < 0 ? null : counts[at];
}

/** Dots along a line from 0 to all experts; where they would cover one another, they stand on one
 * another. */
function strip(title, rows, all) {
  const where = (m) => Math.sqrt(m / all); // as in the figure of the report: few experts have room
  const near = DOT / Math.max(innerWidth - 100, 100),
    placed = [];
  const dots = rows
    .filter(([, m]) => m !== null && m !== undefined)
    .sort((a, b) => a[1] - b[1])
    .map(([seed, m, mine]) => {
      const beside = placed
        .filter(([at]) => Math.abs(at - where(m)) < near)
        .map(([, level]) => level);
      let level = 0;
      while (beside.includes(level)) level += 1;
      placed.push([where(m), level]);
      return h(
        "span",
        {
          class: `dot ${mine ? "mine" : ""}`,
          set: { left: `${100 * where(m)}%`, bottom: `${level * 1.35}em` },
          title: `seed ${seed}: ${m}`,
        },
        String(seed),
      );
    });
  const tall = 1 + Math.max(0, ...placed.map(([, level]) => level)),
    ticks = [...[0, 1, 2, 4, 8, 16, 32, 64, 128].filter((m) => m < 0.8 * all), all];
  const numbers = rows.map(([seed, m]) => `seed ${seed}: ${m ?? "never"}`).join(", ");
  return h(
    "div",
    { class: "strip", role: "img", "aria-label": `${title}: ${numbers}` },
    h("span", { class: "strip-title" }, title),
    h(
      "div",
      { class: "strip-line" },
      h("div", { class: "dots", set: { height: `${tall * 1.35 + 0.2}em` } }, dots),
      h(
        "div",
        { class: "ticks" },
        ticks.map((m) => h("span", { set: { left: `${100 * where(m)}%` } }, String(m))),
      ),
    ),
  );
}
