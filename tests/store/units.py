"""Units, results and stores for the tests of the store: no estimator, no data."""

import secrets

from optomatic.records import Failure, Result, Timing, Unit, Work

#: Leases that a test can wait for.
SHORT = Timing(lease=0.6, unstarted=0.3)


def work(queue="a queue", constraints="some constraints", **options):
    """Return what some units have in common."""
    spec = dict.fromkeys(("estimator", "X", "y", "splits"), "0" * 64)
    env = {"python": "3.11", "cloudpickle": "3"}
    options = {"return_train_score": False, **options}
    return Work("score", spec, options, env, (), queue, constraints)


def unit(key, *, split=0, params_text="{}", **options):
    """Return a unit with this key."""
    its_work = work(**options)
    return Unit(f"u1:{key}:{its_work.constraints}", key, split, {}, params_text, its_work)


def some_units(count, **options):
    """Return `count` units with keys that no other test has."""
    stem = secrets.token_hex(8)
    return [unit(f"{stem}{n:06}", **options) for n in range(count)]


def good(score=1.0, train=None):
    """Return the result of a unit that went well."""
    return Result(score, train, 0.01, 0.001, 10)


def bad(kind="builtins.ValueError", text="it went wrong"):
    """Return the result of a unit whose estimator raised."""
    failure = Failure("fit", kind, text, "Traceback")
    return Result(None, None, 0.01, 0.0, 10, (failure,))


def ids(units):
    """Return the ids of units or jobs."""
    return [one.id for one in units]
