"""What parent and child say to each other on their channel.

===================  ==========================================================================
parent to child      meaning
===================  ==========================================================================
``setup``            first message: ``path`` (``sys.path``), ``python_path`` (the environment's
                     own PYTHONPATH or None), ``idle`` (seconds or None)
``score``            ``units``: [[id, split, params_text, number of the bundle]], ``bundles``:
                     [{key, spec, options}], ``parts``: {sha: [kind, path]}
``call``             one call of joblib: ``id``, ``text``, ``spec``, ``options``, ``parts`` as
                     above, ``folder`` for what it returns (:mod:`~optomatic.worker.returns`)
``end``              finish, once what came before is scored
===================  ==========================================================================

A child answers with one ``[done, begun]`` after another.  ``done`` is ``[id, result, seconds]``
or null, ``begun`` the id of the unit that starts now or null; ``[null, null]``, once, says that
the child is ready.  A unit that has limits begins twice: its clock starts anew once its data
is loaded.  Units are scored in the order in which they came.  Where the result is null, the child
has refused the unit, says why in place of the seconds (:mod:`~optomatic.worker.refusal`), and
ends.
"""

from __future__ import annotations

from typing import Any

from optomatic.records import Failure, Result

#: Texts of a failure are cut here, in characters, the traceback in its middle.
_LONGEST_TEXT, _LONGEST_TRACEBACK = 8_000, 32_000


def result_to_wire(result: Result) -> list[Any]:
    """Return `result` as plain lists, numbers and texts; long texts are cut."""
    failures = [failure_to_wire(failure) for failure in result.failures]
    return [
        result.test,
        result.train,
        result.fit_time,
        result.score_time,
        result.n_test,
        failures,
        result.extra,
    ]


def failure_to_wire(failure: Failure) -> list[str | None]:
    """Return `failure` as a list of texts; long ones are cut."""
    text = _cut(failure.text, _LONGEST_TEXT)
    traceback = _cut(failure.traceback, _LONGEST_TRACEBACK)
    return [failure.stage, failure.type, text, traceback, failure.metric]


def refusal_to_wire(why: str, child: str, failure: Failure | None) -> list[Any]:
    """Return what a child says of a unit that it refuses (:mod:`~optomatic.worker.refusal`)."""
    return [_cut(why, _LONGEST_TEXT), child, failure and failure_to_wire(failure)]


def result_from_wire(wire: list[Any]) -> Result:
    """Return the result that :func:`result_to_wire` made `wire` of."""
    test, train, fit_time, score_time, n_test, failed, extra = wire
    failures = tuple(Failure(*failure) for failure in failed)
    return Result(test, train, fit_time, score_time, n_test, failures, extra)


def _cut(text: str, length: int) -> str:
    """Shorten `text` in its middle: a traceback says most at its two ends."""
    if len(text) <= length:
        return text
    half = length // 2
    return f"{text[:half]}\n[... {len(text) - 2 * half} characters cut ...]\n{text[-half:]}"
