"""Numbers and lists as they stand in a sentence."""


def share(value: float | None) -> str:
    """0.13 as .13; – where there is nothing to measure."""
    if value is None:
        return "–"
    text = f"{value:.2f}"
    return text.replace("0.", ".", 1) if abs(value) < 0.995 else text


def listed(words: list[str]) -> str:
    """One; one and two; one, two and three."""
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))
