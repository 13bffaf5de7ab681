"""The private mongod of a user."""
