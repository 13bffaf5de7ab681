"""What the database knows of a search."""


def assert_all_stored(database, search_id):
    """Assert that each unit of a search has its end in the database."""
    record = database["searches"].find_one({"_id": search_id})
    assert record["state"] == "completed"
    pages = database["search_units"].find({"_id": {"$regex": f"^{record['listing']}:"}})
    ids = [unit_id for page in pages for unit_id in page["ids"]]
    assert len(ids) == record["n_units"] > 0
    keys = {unit_id.split(":")[1] for unit_id in ids}
    served = database["units"].distinct(
        "key", {"key": {"$in": list(keys)}, "state": {"$in": ["completed", "failed", "dead"]}}
    )
    assert set(served) == keys
