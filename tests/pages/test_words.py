"""Numbers and lists in a sentence, by hand."""

import pytest

from toymoe.pages import words


@pytest.mark.parametrize(
    ("value", "text"), [(0.13, ".13"), (1.0, "1.00"), (0.996, "1.00"), (0.0, ".00"), (None, "–")]
)
def test_shares_without_their_zero(value, text):
    assert words.share(value) == text


def test_lists():
    assert [words.listed(list("abc"[:n])) for n in range(4)] == ["", "a", "a and b", "a, b and c"]
