"""For the processes that joblib's own tests start: the backend is known, managers may be used.

Proxies of multiprocessing's managers identify themselves by a key that only children of the
manager's process inherit; a worker is none, so it is given the key.
"""

import multiprocessing
import os

if "JOBLIB_OWN_KEY" in os.environ:
    multiprocessing.current_process().authkey = os.environ["JOBLIB_OWN_KEY"].encode()
if "OPTOMATIC_DB" in os.environ:
    import optomatic  # noqa: F401
