"""How small the letters of a figure are."""

from matplotlib.text import Text


def least_font(figure) -> float:
    """The smallest size of all texts of a figure that are seen, in points."""
    texts = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text()]
    return min(text.get_fontsize() for text in texts)
