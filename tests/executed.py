"""What standalone workers ran, counted in the database."""

from pymongo import MongoClient


class Executed:
    """Counts, from the database's own log of changes, the calls that workers finished."""

    def __init__(self, uri):
        self._client = MongoClient(uri)
        self._database = self._client.get_default_database()
        finished = {
            "operationType": "update",
            "updateDescription.updatedFields.completed_by": {"$type": "string"},
        }
        marks = {"operationType": "insert", "fullDocument.mark": True}
        self._stream = self._database["units"].watch([{"$match": {"$or": [finished, marks]}}])
        self.by_test = {}

    def note(self, test):
        """Count what was finished since the last look as done by `test`."""
        workers = {w["_id"] for w in self._database["workers"].find({"kind": "standalone"})}
        # What happened before this moment is in the stream before this mark.
        mark = self._database["units"].insert_one({"mark": True}).inserted_id
        self._database["units"].delete_one({"_id": mark})
        while (change := self._stream.next())["operationType"] == "update":
            worker = change["updateDescription"]["updatedFields"]["completed_by"]
            if worker in workers:
                self.by_test[test] = self.by_test.get(test, 0) + 1

    def close(self):
        self._stream.close()
        self._client.close()
