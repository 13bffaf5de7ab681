"""Searches of all kinds in one store, and a way to draw them."""

import matplotlib
import pytest
from commands.conftest import filled as filled
from matplotlib import pyplot as plt

matplotlib.use("agg")


@pytest.fixture(autouse=True)
def _figures():
    """Close all figures at the end."""
    yield
    plt.close("all")
