"""What soak.py is made of: searches, clients and workers, servers, kills, a reader, a verdict.

===================  =========================================================================
:mod:`.work`         the searches and the joblib calls that clients make
:mod:`.client`       a process that makes them, one after another
:mod:`.worker`       a standalone worker
:mod:`.notes`        which results the store has acknowledged, written down in both
:mod:`.topologies`   the servers: how they are started, killed and frozen
:mod:`.actors`       clients and workers: how they are started, killed and frozen, how they end
:mod:`.disturbing`   what is killed and frozen when
:mod:`.reading`      a reader that remembers each score it has ever seen
:mod:`.verdict`      what was acknowledged, compared with what is stored
:mod:`.janitor`      a process that ends all the others and removes their files
===================  =========================================================================
"""
