"""Where a run stands, and the bars on the terminal that show it."""

from typing import NamedTuple

from rich import progress


class Progress(NamedTuple):
    """Where a run or a study stands; the numbers are None where they are not known."""

    stage: str  # of a run: a phase of training, "analyse", "draw", "explore"; or "elsewhere"
    done: int  # steps
    total: int
    loss: float | None = None
    accuracy: float | None = None  # right answers on the probes' harmless requests
    nmi: float | None = None  # of topic and expert, best layer


STAGES = dict(
    pretrain="pretraining",
    align="alignment",
    analyse="measuring",
    draw="drawing",
    explore="explorer",
    elsewhere="elsewhere",
)


class Bars:
    """A bar per stage of a run, or per seed, with loss, accuracy, NMI and the time left."""

    def __init__(self, console):
        self._bars = progress.Progress(
            progress.TextColumn("{task.description:<20}"),
            progress.BarColumn(24),
            progress.TextColumn("{task.completed:>5.0f}/{task.total:.0f}"),
            progress.TimeRemainingColumn(),
            progress.TextColumn("{task.fields[now]}"),
            console=console,
        )
        self._at: dict[int | None, tuple] = {}  # by seed: its stage, and the bar of that

    def __enter__(self):
        self._bars.start()
        return self

    def __exit__(self, *_):
        self._end(None)
        self._bars.stop()

    def show(self, p: Progress, seed: int | None = None) -> None:
        """The progress of a run."""
        stage, bar = self._at.get(seed, ("", None))
        if p.stage != stage:
            self._end(seed)
            label = ("" if seed is None else f"seed {seed}: ") + STAGES.get(p.stage, p.stage)
            bar = self._bars.add_task(label, total=p.total, now="")
            self._at[seed] = p.stage, bar
        now = ""
        if p.loss is not None:
            now = f"loss {p.loss:.3f}  accuracy {p.accuracy:.3f}  NMI {p.nmi:.2f}"
        self._bars.update(bar, completed=p.done, now=now)

    def finish(self, seed: int, error: str) -> None:
        """Put what came of a seed in the place of its bar."""
        self._end(seed)
        self._bars.console.print(f"seed {seed}: {error or 'done'}", highlight=False)

    def _end(self, seed) -> None:
        stage, bar = self._at.pop(seed, ("", None))
        if seed is not None and bar is not None:
            self._bars.remove_task(bar)
        elif stage in ("analyse", "draw", "explore"):
            self._bars.update(bar, completed=1)
