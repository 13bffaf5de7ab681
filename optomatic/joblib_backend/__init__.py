"""joblib's backend ``optomatic``: calls run on the workers of a store."""
