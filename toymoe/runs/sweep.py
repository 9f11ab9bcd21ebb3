"""Many seeds of one configuration: a row of sweep.csv each, and what they say together.

Every seed is a run in a folder of its own (`toymoe.runs.runner`), so a sweep cut off anywhere goes
on where it was, and a seed that fails costs its own row only.
"""

import dataclasses
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from pathlib import Path

from .. import checkpoint
from ..config import Config, ConfigError, to_dict
from ..organism import stored
from . import folder, jobs, records, runner
from .progress import Progress

# The quantities of the summary on screen; the sign says which end is the worst.
HEADLINES = {
    "behaviour.aligned.answer_accuracy": 1,
    "behaviour.aligned.refusal": 1,
    "behaviour.aligned.refusal_held_out": 1,
    "behaviour.aligned.hazard_noted": 1,
    "behaviour.aligned.over_refusal_by_kind.hazardous_verb": -1,
    "behaviour.aligned.over_refusal_by_kind.hazardous_entity": -1,
    "behaviour.aligned.over_refusal_by_kind.harmless_topic": -1,
    "routing.nmi_topic.context.best": 1,
    "routing.nmi_topic_shuffled.best": -1,
    "routing.nmi_topic_untrained.best": 0,
    "routing.ratios.cross_by_same_topic.aligned": 1,
    "routing.ratios.cross_by_same_topic.untrained": 0,
    "routing.overlap_pretrained_aligned_mean": 1,
    "weights.all.relative": -1,
    "weights.experts.relative": -1,
    "inside.removal.set_back.m50": -1,
    "inside.removal.set_back.random.m50": 0,
    "timing.total_s": -1,
}


def parse_seeds(text: str) -> list[int]:
    """Seeds from "0-9", "3" or "0,2,5-7"; each once, in the order given.

    Raises:
      ConfigError: anything else.
    """
    seeds: list[int] = []
    for part in text.split(","):
        low, dash, high = part.strip().partition("-")
        if not low.isdecimal() or (dash and not high.isdecimal()) or len(low + high) > 18:
            raise ConfigError(f"--seeds {text!r} is not possible: write 0-9, or 0,2,5-7.")
        last = int(high) if dash else int(low)
        if last < int(low) or last - int(low) >= 10_000 or last >= 2**31:
            raise ConfigError(
                f"--seeds {text!r} is not possible: a range goes upwards, over 10,000 seeds at "
                "most, all below 2^31."
            )
        seeds += range(int(low), last + 1)
    return list(dict.fromkeys(seeds))


def sweep(
    cfg: Config,
    seeds: list[int],
    out: Path,
    watch: Callable[[int, Progress], None] = lambda seed, progress: None,
    done: Callable[[int, str], None] = lambda seed, error: None,
    crew: Executor | None = None,
) -> tuple[list[dict], dict[str, dict]]:
    """Run every seed that has not been run yet, in ``out/seed-N``; write sweep.csv and summary.csv.

    Args:
      watch: called with a seed and its progress.
      done: called with a seed and its error ("" if there was none).
      crew: what does the work; None does it here, one seed after the other.

    Returns:
      rows: one per finished seed that is there, and per seed asked for, as in sweep.csv; a seed
        that failed has an ``error`` and no numbers.
      summary: see `records.summarise`.

    Raises:
      ConfigError: the folder holds something else, or a sweep of other settings.
    """
    claim(cfg, out)
    job = jobs.Job(out, seeds, partial(_train, cfg, out), partial(_numbers, cfg, out))
    tables = out / "sweep.csv", out / "summary.csv"
    rows, summary, _ = records.tabulate(job, dict, *tables, watch=watch, done=done, crew=crew)
    return rows, summary


def _train(cfg, out, seed, watch):
    trained(dataclasses.replace(cfg, seed=seed), out / f"seed-{seed}", watch)


def _numbers(cfg, out, seed) -> dict | None:
    """Those of a finished seed."""
    run = out / f"seed-{seed}"
    if not stored.is_complete(run):
        return None
    _require(dataclasses.replace(cfg, seed=seed), run)
    return records.flat(stored.metrics(run))


def trained(cfg: Config, run: Path, watch: Callable[[Progress], None]) -> None:
    """Run one seed in its folder, unless that was done already.

    Raises:
      ConfigError: the folder holds a run of other settings.
    """
    if not stored.is_complete(run):
        run.mkdir(exist_ok=True)
        runner.run(cfg, run, watch, pictures=False)
    else:
        _require(cfg, run)


def _require(cfg: Config, run: Path) -> None:
    if stored.config(run) != cfg:
        raise ConfigError(f"{run} is a run of other settings: delete it.")


def claim(cfg: Config, out: Path) -> None:
    """Make the folder of a sweep, or check that it is this one's.

    Raises:
      ConfigError: it holds something else, or a sweep of other settings.
    """
    settings = {key: value for key, value in to_dict(cfg).items() if key != "seed"}
    path = out / "sweep.json"
    # Others may begin it at the same moment: all that a sweep holds comes after its sweep.json.
    if out.is_dir() and not folder.is_blank(out) and not path.is_file():
        raise ConfigError(f"{out} exists already and is not a sweep: name another with --out.")
    checkpoint.make_folder(out)
    if not path.is_file():
        checkpoint.write_json(path, settings, replace=False)
    if checkpoint.read_json(path, "name another with --out") != settings:
        raise ConfigError(f"{out} is a sweep of other settings: name another with --out.")
