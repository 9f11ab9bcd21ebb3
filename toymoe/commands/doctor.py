"""``toymoe doctor``: can this machine run toymoe, and how fast?"""

from ..machine import doctor
from ..start import set_flags


def add(command) -> None:
    command("doctor", _doctor, "Can this machine run toymoe, and how fast?", settings=False)


def _doctor(args) -> int:
    set_flags()  # without importing JAX, which may be what is broken

    mark = {True: "ok", False: "PROBLEM", None: "?"}
    try:
        from ..pages import terminal
    except ImportError:  # rich is what is missing
        for row in doctor.examine().rows:
            print(f"{row.name}: {row.value}, {mark[row.ok]}. {row.advice}")
        return 1
    console = terminal.console()
    with console.status("looking and measuring, about three seconds"):
        found = doctor.examine()
    rows = [(row.name, row.value, mark[row.ok], row.advice) for row in found.rows]
    console.print(terminal.table(("", "found", "", "what to do"), rows))
    if found.estimate:
        first, again = found.estimate["total_s"], found.estimate["again_s"]
        console.print(
            f"`toymoe run` will take about {first:.0f} s, and {again:.0f} s once compiled."
        )
        from ..classroom import lesson

        rows = lesson.expected(found.estimate["compile_s"] / doctor.RUN["compile_s"])
        shown = [(n, title, f"{m} min", "" if s is None else f"{s} s") for n, title, m, s in rows]
        console.print(terminal.table(("lesson", "", "your time", "of it computing"), shown))
    console.print("toymoe runs here." if found.ok else "toymoe does not run here yet.")
    return 0 if found.ok else 1
