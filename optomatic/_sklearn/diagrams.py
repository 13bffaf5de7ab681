"""HTML below the diagram that scikit-learn draws of an estimator.

============================================  ==========================================
name (versions it was checked on)             why there is no public way
============================================  ==========================================
``_repr_html_inner``, ``_repr_mimebundle_``   notebooks ask for these, and they hold that
(1.6-1.9)                                     ``set_config(display=...)`` is respected
============================================  ==========================================
"""

from __future__ import annotations

from typing import Any


class WithMoreHTML:
    """An estimator that shows more below its diagram; stands before scikit-learn's class."""

    def _html_below(self) -> str:
        """Return what stands below the diagram; empty for nothing."""
        return ""

    def _repr_html_inner(self) -> str:
        return f"{super()._repr_html_inner()}{self._html_below()}"  # type: ignore[misc]

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        bundle: dict[str, Any] = super()._repr_mimebundle_(**kwargs)  # type: ignore[misc]
        if "text/html" in bundle:
            bundle["text/html"] += self._html_below()
        return bundle
