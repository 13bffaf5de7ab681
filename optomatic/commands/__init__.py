"""The command line: each verb is a public call of the library, and prints what that returns."""
