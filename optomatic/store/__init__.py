"""Where it waits.  The only folder that imports pymongo."""
