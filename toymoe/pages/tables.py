"""Numbers as people read them in tables, on a page or a terminal."""


def number(value, digits: int = 3) -> str:
    """For people: 0.994, "–" where there is nothing to measure, lists by layer with slashes."""
    if value is None:
        return "–"
    if isinstance(value, list | tuple):
        return " / ".join(number(v, digits) for v in value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.{digits}f}"


def interval(s: dict | None, digits: int = 3) -> str:
    """A ``median`` with its interval, from ``low`` to ``high``: 0.5 [0.4, 0.6]."""
    if s is None:
        return "–"
    median, low, high = (number(float(s[name]), digits) for name in ("median", "low", "high"))
    return f"{median} [{low}, {high}]"
