"""The parts of ``compare.py``: the work, the peers, hyperopt's client, the pictures."""
