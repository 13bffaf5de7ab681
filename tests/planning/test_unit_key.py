"""The key of a unit: what is computed, and by which versions."""

import pytest
from sklearn.svm import SVC

from optomatic.keys.digest import Digest, digest_of
from optomatic.keys.environment import python_minor, versions
from optomatic.planning import planner
from optomatic.planning.planner import Environments, hash_of_environment, key_of
from optomatic.planning.workload import FitWorkload
from optomatic.records import CONTENT


def test_keys_of_the_same_work_share_their_first_part_whatever_the_versions():
    old, new = (hash_of_environment({"numpy": version}) for version in ("1.0", "2.0"))
    one, other = key_of(b"what", old), key_of(b"what", new)
    assert len(one) == len(other) == 64
    assert one[:CONTENT] == other[:CONTENT]
    assert one[CONTENT:] != other[CONTENT:]
    assert key_of(b"something else", old)[:CONTENT] != one[:CONTENT]


def test_the_order_of_versions_does_not_count():
    one, other = {"a": "1", "b": "2"}, {"b": "2", "a": "1"}
    assert hash_of_environment(one) == hash_of_environment(other)
    assert hash_of_environment(one) != hash_of_environment({"a": "2", "b": "1"})


def test_versions_of_what_was_met_count_and_of_nothing_else():
    environments = Environments(digest_of(SVC()), FitWorkload.always)
    plain, frames = Digest(""), Digest("", modules=frozenset({"pandas"}))
    assert environments.of(plain) == versions(FitWorkload.always)
    assert environments.of(frames) == versions([*FitWorkload.always, "pandas"])
    assert "pandas" not in environments.of(plain)
    assert environments.hash_of(plain) == hash_of_environment(environments.of(plain))
    assert environments.hash_of(plain) != environments.hash_of(frames)


@pytest.mark.parametrize("shared", [True, False])
def test_the_python_minor_counts_where_code_of_ones_own_was_met(shared):
    own, plain = digest_of(lambda: 1), Digest("")
    common, candidate = (own, plain) if shared else (plain, own)
    assert Environments(common, ()).of(candidate)["python"] == python_minor()
    assert "python" not in Environments(plain, ()).of(plain)


def test_another_version_makes_another_key(monkeypatch):
    before = Environments(Digest(""), ()).hash_of(Digest(""))
    monkeypatch.setattr(planner, "versions", lambda _: {"scikit-learn": "99.0"})
    assert Environments(Digest(""), ()).hash_of(Digest("")) != before
