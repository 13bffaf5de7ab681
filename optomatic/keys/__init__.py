"""Keys: equal work has equal digests; with the versions that count, and the exceptions."""
