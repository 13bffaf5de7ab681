"""One call of ``MongoSearchCV.fit``, step by step; ``search.py`` says in which order."""
