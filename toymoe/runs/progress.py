"""Where a run stands, and the bars on the terminal that show it."""

from typing import NamedTuple

from rich import progress


class Progress(NamedTuple):
    """Where a run or a study stands; the numbers are None where they are not known."""

    stage: str  # of a run: a phase of training, "analyse", "draw" or "explore"
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
)


class Bars:
    """A progress bar per stage, with loss, accuracy, NMI and the time left."""

    def __init__(self, console):
        self._bars = progress.Progress(
            progress.TextColumn("{task.description:<20}"),
            progress.BarColumn(24),
            progress.TextColumn("{task.completed:>5.0f}/{task.total:.0f}"),
            progress.TimeRemainingColumn(),
            progress.TextColumn("{task.fields[now]}"),
            console=console,
        )
        self._task, self._stage = None, None

    def __enter__(self):
        self._bars.start()
        return self

    def __exit__(self, *_):
        self._end()
        self._bars.stop()

    def show(self, p: Progress, seed: int | None = None) -> None:
        """The progress of a run."""
        if (p.stage, seed) != self._stage:
            self._end()
            label = "" if seed is None else f"seed {seed}: "
            self._stage = (p.stage, seed)
            self._task = self._bars.add_task(
                label + STAGES[p.stage], total=p.total, completed=p.done, now=""
            )
        now = ""
        if p.loss is not None:
            now = f"loss {p.loss:.3f}  accuracy {p.accuracy:.3f}  NMI {p.nmi:.2f}"
        self._bars.update(self._task, completed=p.done, now=now)

    def finish(self, line: str) -> None:
        """Put a line in the place of a seed's bars."""
        for task in list(self._bars.task_ids):
            self._bars.remove_task(task)
        self._task, self._stage = None, None
        self._bars.console.print(line, highlight=False)

    def _end(self) -> None:
        if self._task is not None and self._stage[0] in ("analyse", "draw", "explore"):
            self._bars.update(self._task, completed=1)
