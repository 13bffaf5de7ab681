"""Spaces are shown in short; tests of whole searches hold their candidates."""

import numpy as np

from optomatic.candidates.grids import shown_space


def test_a_large_space_is_shown_in_short():
    space = [{"a": list(range(10**6)), "b": np.zeros(10**6)}, {"c": ["x" * 10**6, 1.5]}]
    text = shown_space(space)
    assert len(text) < 2000
    assert text.startswith("[{'a': [0, 1, 2, ")
    assert "1.5" in text


def test_values_without_a_repr_are_shown():
    class Shy:
        def __repr__(self):
            raise ValueError("no")

    assert "Shy" in shown_space({"value": [Shy()]})
