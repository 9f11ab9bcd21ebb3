"""Methods scored over a zoo: a file per seed that grows, and tables of all that are finished.

Every method is asked of every specimen whose key was verified (`holds`), and of the model that all
of a seed were made from, in which there is nothing to find. The evidence of a specimen is shared
among methods, so that what one of them computed the next one takes. What was killed goes on where
it was; a seed that fails costs its own specimens only.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .. import __version__, checkpoint, numerics
from ..attribution import controls
from ..attribution.evidence import Evidence
from ..config import ConfigError
from ..runs import jobs, studies
from ..runs.folder import is_blank
from ..runs.progress import Progress
from ..zoo import folder
from ..zoo.specimen import Specimen
from . import rates, report, scoring
from .asked import Asked, checked, load, require_all

BEGUN = "method.json"  # whose scores a folder holds


class Begun(NamedTuple):
    """What is to be scored, checked."""

    asked: Asked
    job: jobs.Job


def score(method: str, zoo: Path, out: Path, **calls) -> dict:
    """`begin`, and then `finish`."""
    return finish(begin(method, zoo, out), **calls)


@numerics.fixed()
def begin(method: str, zoo: Path, out: Path) -> Begun:
    """Try a method on one specimen, and only then make the folder of its scores.

    Args:
      method: see `toymoe.validation.asked.load`.
      zoo: a folder of `toymoe zoo`.

    Raises:
      ConfigError: there is no such method or zoo, a file's function fails, scores made elsewhere
        are not those of this zoo, or the folder holds something else.
      CheckpointError: a file is damaged.
    """
    asked = load(method)
    names = folder.names(zoo)
    if not names:
        raise ConfigError(f"{zoo} holds no organisms: `toymoe zoo --out {zoo}` makes them.")
    specimen = folder.load(zoo, *names[0])
    if asked.given:
        require_all(asked, [_path(*name) for name in names], specimen.organism.cfg.model)
    elif asked.hash:  # of a file
        asked.functions[asked.name](scoring.evidence(specimen.organism, specimen.name))
    _claim(asked, out)
    seeds = list(dict.fromkeys(seed for seed, _ in names))
    work, read = partial(_scored, method, zoo, out), partial(finished, asked, zoo, out)
    return Begun(asked, jobs.Job(out, seeds, work, read))


def finish(begun: Begun, **calls) -> dict:
    """Score every specimen; write ``seed-N/scores.json``, score.json, score.csv, score.png and
    score.html.

    Args:
      calls: ``watch``, ``done`` and ``crew`` of `toymoe.runs.jobs.make`.

    Returns:
      What score.json holds: see `report.summary`; ``errors`` by seed.
    """
    asked, job = begun
    result: dict = {}

    def write(made):
        specimens = [s for found in made.of.values() for s in found]
        errors = {str(seed): error for seed, error in made.errors.items()}
        result.update(report.summary(asked, specimens), errors=errors)
        checkpoint.write_json(job.out / "score.json", result)
        report.write(result, specimens, job.out)

    jobs.make(job, lambda made: None, **calls).write(write)
    return result


def _claim(asked, out):
    """Make the folder of a method's scores, or check that it is this one's."""
    path = out / BEGUN
    if out.is_dir() and not is_blank(out) and not path.is_file():
        raise ConfigError(f"{out} exists already and holds no scores: name another with --out.")
    checkpoint.make_folder(out)
    if not path.is_file():
        checkpoint.write_json(path, {"method": asked.name}, replace=False)
    of = checkpoint.read_json(path, "name another with --out").get("method")
    if of != asked.name:
        raise ConfigError(f"{out} holds the scores of {of}: name another with --out.")


# --- one seed -----------------------------------------------------------------------------------


def _scored(method, zoo, out, seed, watch):
    (out / f"seed-{seed}").mkdir(exist_ok=True)
    score_seed(load(method), zoo, out, seed, watch)


@numerics.fixed()
def score_seed(
    asked: Asked,
    zoo: Path,
    out: Path,
    seed: int,
    watch: Callable[[Progress], None] = lambda progress: None,
) -> None:
    """Score one seed; go on with what ``out/seed-N/scores.json`` holds of it.

    Raises:
      ConfigError, CheckpointError: the method or a specimen cannot be used.
    """
    path = out / f"seed-{seed}" / "scores.json"
    names, known = _names(zoo, seed), _known(asked, path)
    made: dict[str, dict] = {}
    for i, name in enumerate(names):
        watch(Progress(name, i, len(names)))
        specimen = folder.load(zoo, seed, name)
        mark = studies.fingerprint(specimen.organism.aligned)
        if i == 0:
            made |= _nothing(asked, specimen, known)
            _write(asked, path, known | made)
        row = known.get(name, {})
        made[name] = row if row.get("model") == mark else _row(asked, specimen) | {"model": mark}
        if made[name] is not row:
            _write(asked, path, known | made)
    _write(asked, path, made)
    watch(Progress("done", len(names), len(names)))


def _nothing(asked, specimen, known) -> dict[str, dict]:
    """The seed's model before anything was taught, in which there is nothing to find."""
    o = specimen.organism
    mark = studies.fingerprint(o.pretrained)
    row = known.get(rates.NOTHING, {})
    if row.get("model") != mark:
        e = scoring.evidence(o._replace(aligned=o.pretrained), rates.NOTHING)
        names = [name for name in asked.names if name in asked.functions]
        row = {
            "seed": specimen.seed,
            "name": rates.NOTHING,
            "mechanism": "",
            "lesson": rates.NOTHING,
            "update": "",
            "holds": True,
            "answer": [],
            "methods": {name: scoring.of_method(asked.functions[name], e, ()) for name in names},
            "model": mark,
        }
    return {rates.NOTHING: row}


def _row(asked: Asked, s: Specimen) -> dict:
    """A specimen, and what every method says of it; plain numbers."""
    said = {}
    if s.holds:
        e = scoring.evidence(s.organism, s.name)
        for name in asked.names:
            said[name] = _said(asked, name, e, s)
    return {
        "seed": s.seed,
        "name": s.name,
        "mechanism": s.mechanism,
        "lesson": s.lesson,
        "update": s.update,
        "holds": bool(s.holds),
        "answer": list(s.answer),
        "methods": said,
    }


def _said(asked: Asked, name: str, e: Evidence, s: Specimen) -> dict:
    if name in asked.functions:
        return scoring.of_method(asked.functions[name], e, s.answer)
    path = _path(s.seed, s.name)
    given = checked(asked.given[path], e.cfg, f"{asked.name}, {path}")
    if isinstance(given, tuple):
        return scoring.of_names(given, s.answer)
    return scoring.of_scores(np.asarray(given), e, s.answer, None)


def finished(asked: Asked, zoo: Path, out: Path, seed: int) -> list[dict] | None:
    """What `score_seed` found, specimen by specimen; None before it came to its end.

    Raises:
      CheckpointError: damaged.
    """
    known, names = _known(asked, out / f"seed-{seed}" / "scores.json"), _names(zoo, seed)
    if [*known] != [rates.NOTHING, *names]:
        return None
    marks = (studies.fingerprint(folder.load(zoo, seed, name).organism.aligned) for name in names)
    same = all(known[name]["model"] == mark for name, mark in zip(names, marks, strict=True))
    return [*known.values()] if same else None


def _path(seed, name):
    return f"seed-{seed}/{name}"


def _names(zoo, seed):
    return [name for s, name in folder.names(zoo) if s == seed]


def _belongs(asked: Asked) -> dict:
    return {
        "toymoe": __version__,
        "methods": asked.names,
        "file": asked.hash,
        "pairs": scoring.PAIRS,
        "shufflings": controls.SHUFFLINGS,
    }


def _known(asked, path) -> dict[str, dict]:
    """What was scored of the same methods; of others, nothing."""
    if not path.is_file():
        return {}
    found = checkpoint.read_json(path, "delete it and run again")
    return found["specimens"] if found.get("belongs") == _belongs(asked) else {}


def _write(asked, path, specimens):
    checkpoint.write_json(path, {"belongs": _belongs(asked), "specimens": specimens})
