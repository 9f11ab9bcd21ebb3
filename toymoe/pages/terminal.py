"""Tables and progress bars on the terminal."""

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table


def console(stderr: bool = False) -> Console:
    """A terminal that writes text as it is given: brackets are no markup."""
    made = Console(markup=False, stderr=stderr)
    if made.width < 1:  # COLUMNS=0, say, in which rich would print nothing
        made.width = 80
    return made


def table(head, rows) -> Table:
    """A table of anything, its cells written with str."""
    table = Table(*head, box=box.SIMPLE_HEAD)
    for row in rows:
        table.add_row(*map(str, row))
    return table


STAGES = dict(pretrain="pretraining", align="alignment", analyse="measuring", draw="drawing")


class Bars:
    """A progress bar per stage, with loss, accuracy, NMI and the time left."""

    def __init__(self, console):
        self._bars = Progress(
            TextColumn("{task.description:<20}"),
            BarColumn(24),
            TextColumn("{task.completed:>5.0f}/{task.total:.0f}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[now]}"),
            console=console,
        )
        self._task, self._stage = None, None

    def __enter__(self):
        self._bars.start()
        return self

    def __exit__(self, *_):
        self._end()
        self._bars.stop()

    def show(self, p, seed: int | None = None) -> None:
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
        if self._task is not None and self._stage[0] in ("analyse", "draw"):
            self._bars.update(self._task, completed=1)


class Steps:
    """One progress bar that goes from step to step, with the name of the present one."""

    def __init__(self, console):
        self._bars = Progress(
            TextColumn("{task.description:<40}"),
            BarColumn(24),
            TextColumn("{task.completed:>3.0f}/{task.total:.0f}"),
            TimeRemainingColumn(),
            console=console,
        )
        self._task = None

    def __enter__(self):
        self._bars.start()
        return self

    def __exit__(self, *_):
        self._bars.stop()

    def show(self, name: str, done: int, total: int) -> None:
        """The step now begun, and how many are done."""
        if self._task is None:
            self._task = self._bars.add_task("", total=total)
        label = name.replace("_", " ")
        self._bars.update(self._task, description=label, completed=done, total=total)

    def finish(self, line: str) -> None:
        """A line above the bar, which starts anew."""
        if self._task is not None:
            self._bars.remove_task(self._task)
        self._task = None
        self._bars.console.print(line, highlight=False)
