// What takes long, in a thread of its own: messages { id, task, args } are answered { id, progress
// }, a share from 0 to 1, then { id, result }, or { id, error }, one sentence.
//
// A newer request of one task cancels the older one, which is answered { id, cancelled: true }. In
// a page that is not a worker nothing here does anything.

import { forward } from "./model.js";
import { alone_steps, answers_steps, meters_steps } from "./removal.js";
import { patch_grids_steps } from "./patching.js";

const EVERY = 40; // milliseconds between two looks at the messages that came

/** Task -> generator of its arguments, which yields shares and returns the result. */
export const TASKS = {
  answers: (a) => answers_steps(a.params, a.cfg, a.prompts, a.edits, a.frozen),
  meters: (a) => meters_steps(a.params, a.cfg, a.pairs, a.edits, a.frozen),
  alone: (a) => alone_steps(a.params, a.before, a.cfg, a.pairs, a.way, a.frozen),
  patch_grid: (a) => patch_grids_steps(a.params, a.cfg, pair_of(a), a.tap, a.way),
  patch_grids: (a) => patch_grids_steps(a.params, a.cfg, a.pairs, a.tap, a.way),
  selected: selected_steps,
};

function pair_of({ hazard, twin: other, answers: [first, second] }) {
  return {
    hazards: { tokens_BP: [hazard], answer_B: [first] },
    twins: { tokens_BP: [other], answer_B: [second] },
  };
}

/** The experts that prompts select, best first: { experts [B * L * T * A] }. */
function* selected_steps({ params, cfg, tokens_BP }) {
  const runs = [];
  for (const tokens of tokens_BP) {
    runs.push(forward(params, tokens, cfg, { last: true }).routes.experts);
    yield runs.length / tokens_BP.length;
  }
  const experts = new Int32Array(runs.length * runs[0].length);
  runs.forEach((run, b) => experts.set(run, b * run.length));
  return { experts };
}

/** Answers messages of a scope that has postMessage, as a worker has. */
export function serve(scope) {
  const newest = {}; // id of the newest request of each task
  scope.onmessage = async ({ data: { id, task, args } }) => {
    newest[task] = id;
    try {
      if (!(task in TASKS))
        throw new Error(
          `task ${task} is not known: it must be one of ${Object.keys(TASKS).join(", ")}.`,
        );
      const steps = TASKS[task](args);
      let step = steps.next();
      let paused = performance.now();
      while (!step.done) {
        if (performance.now() - paused > EVERY) {
          scope.postMessage({ id, progress: step.value });
          await new Promise((go_on) => setTimeout(go_on)); // newer messages come in here
          paused = performance.now();
          if (newest[task] !== id) return scope.postMessage({ id, cancelled: true });
        }
        step = steps.next();
      }
      scope.postMessage({ id, result: step.value });
    } catch (error) {
      scope.postMessage({ id, error: error.message });
    }
  };
}

if (typeof WorkerGlobalScope !== "undefined") serve(globalThis);
