"""Tables and progress bars on the terminal."""

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
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


class Steps:
    """A bar that goes from step to step, with the name of the present one; or one for each seed."""

    def __init__(self, console):
        self._bars = Progress(
            TextColumn("{task.description:<40}"),
            BarColumn(24),
            TextColumn("{task.completed:>3.0f}/{task.total:.0f}"),
            TimeRemainingColumn(),
            console=console,
        )
        self._of: dict[int | None, TaskID] = {}  # by seed

    def __enter__(self):
        self._bars.start()
        return self

    def __exit__(self, *_):
        self._bars.stop()

    def show(self, name: str, done: int, total: int, seed: int | None = None) -> None:
        """The step now begun, and how many are done."""
        if seed not in self._of:
            self._of[seed] = self._bars.add_task("", total=total)
        label = ("" if seed is None else f"seed {seed}: ") + name.replace("_", " ")
        self._bars.update(self._of[seed], description=label, completed=done, total=total)

    def finish(self, seed: int, error: str) -> None:
        """Put what came of a seed in the place of its bar."""
        if seed in self._of:
            self._bars.remove_task(self._of.pop(seed))
        self._bars.console.print(f"seed {seed}: {error or 'done'}", highlight=False)
