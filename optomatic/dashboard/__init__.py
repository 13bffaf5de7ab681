"""Pages about the searches of a database, and a report of one.  ``optomatic dashboard`` serves."""
