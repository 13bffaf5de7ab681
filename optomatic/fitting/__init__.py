"""The steps of ``MongoSearchCV.fit``, in the order of ``search.py``, and how a search is kept."""
