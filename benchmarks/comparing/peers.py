"""The searches that are compared: how each is set up once, and run on a case."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import joblib
from sklearn.model_selection import GridSearchCV

from optomatic import MongoSearchCV

from .work import CV, Case, score

BENCHMARKS = Path(__file__).parents[1]
#: Runs a search, and returns how many candidates it scored.
Run = Callable[[Case], int]


@dataclass
class Setup:
    """What searches share; `stack` ends what they started."""

    jobs: int
    stack: contextlib.ExitStack
    hyperopt: str | None = None
    folder: str = field(init=False)

    def __post_init__(self) -> None:
        made = tempfile.TemporaryDirectory(prefix="compare-", ignore_cleanup_errors=True)
        self.folder = self.stack.enter_context(made)

    @cached_property
    def client(self) -> Any:
        """The client of a dask cluster of processes with one thread each."""
        from distributed import Client, LocalCluster

        cluster = LocalCluster(
            n_workers=self.jobs, threads_per_worker=1, dashboard_address=None, silence_logs=50
        )
        return self.stack.enter_context(Client(self.stack.enter_context(cluster)))

    def started(self, *command: str, **options: Any) -> subprocess.Popen[str]:
        """Start a process of hyperopt's environment; it ends with the stack."""
        process = subprocess.Popen(
            [str(self.hyperopt), *command], cwd=self.folder, stderr=subprocess.DEVNULL, text=True,
            env={**os.environ, "PYTHONPATH": str(BENCHMARKS)}, **options,
        )  # fmt: skip
        self.stack.callback(process.wait)
        self.stack.callback(process.terminate)
        return process


def _fit(kind: Any, case: Case, **options: Any) -> int:
    search = kind(case.estimator, case.grid, cv=CV, refit=False, **options)
    return len(search.fit(case.X, case.y).cv_results_["params"])


def _joblib(backend: str, setup: Setup, **options: Any) -> Run:
    def run(case: Case) -> int:
        with joblib.parallel_config(backend, n_jobs=setup.jobs, **options):
            return _fit(GridSearchCV, case)

    return run


def _dask(setup: Setup) -> Run:
    return _joblib("dask", setup, client=setup.client)


def _dask_ml(setup: Setup) -> Run:
    from dask_ml.model_selection import GridSearchCV as DaskSearch

    return lambda case: _fit(DaskSearch, case, scheduler=setup.client)


def _ray(setup: Setup) -> Run:
    import ray
    from ray.util.joblib import register_ray

    ray.init(
        num_cpus=setup.jobs, include_dashboard=False, log_to_driver=False, logging_level="ERROR",
        _temp_dir=f"{setup.folder}/ray",
    )  # fmt: skip
    setup.stack.callback(ray.shutdown)
    register_ray()
    return _joblib("ray", setup)


def _storage(kind: str, path: str) -> Any:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if kind == "journal":
        backend = optuna.storages.journal.JournalFileBackend(path)
        return optuna.storages.JournalStorage(backend)
    waiting = {"connect_args": {"timeout": 100}}  # for processes that write at once
    return optuna.storages.RDBStorage(f"sqlite:///{path}", engine_kwargs=waiting)


def optimize(kind: str, path: str, case: Case) -> None:
    """Take part in a study until its grid is exhausted."""
    import optuna

    def objective(trial: Any) -> float:
        params = {}
        for name, values in case.grid.items():
            suggest = trial.suggest_int if isinstance(values[0], int) else trial.suggest_float
            params[name] = suggest(name, values[0], values[-1])
        return score(case, params)

    sampler = optuna.samplers.GridSampler(case.grid, seed=0)  # one order for all processes
    storage = _storage(kind, path)
    optuna.load_study(study_name="study", storage=storage, sampler=sampler).optimize(objective)


def _optuna(kind: str, setup: Setup) -> Run:
    import optuna

    def run(case: Case) -> int:
        with tempfile.TemporaryDirectory(dir=setup.folder) as folder:
            path = f"{folder}/study"
            study = optuna.create_study(study_name="study", storage=_storage(kind, path))
            one = joblib.delayed(optimize)(kind, path, case)
            # Processes of loky stay from study to study.
            joblib.Parallel(setup.jobs, backend="loky")([one] * setup.jobs)
            done = study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.COMPLETE])
            return len({tuple(trial.params.values()) for trial in done})

    return run


def _hyperopt(setup: Setup) -> Run:
    sys.path.insert(0, str(BENCHMARKS.parent / "tests"))
    import servers

    server = servers.standalone()
    setup.stack.callback(server.remove)
    address = f"{server.members[0].address}/hyperopt"
    worker = ("-c", "import hyperopt.mongoexp; hyperopt.mongoexp.main()")
    # The shortest waiting that it offers, and no process for each trial.
    options = ("--poll-interval=0.1", "--no-subprocesses", "--reserve-timeout=0", "--workdir=.")
    for _ in range(setup.jobs):
        setup.started(*worker, f"--mongo={address}", *options)
    client = setup.started(
        "-m", "comparing.hyperopt_client", address, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )

    def run(case: Case) -> int:
        print(json.dumps(case.asked), file=client.stdin, flush=True)
        return int(client.stdout.readline())

    return run


@dataclass(frozen=True)
class Variant:
    """A search; it is left out if `module` is not installed, which `package` brings."""

    label: str
    open: Callable[[Setup], Run]
    module: str = "sklearn"
    package: str = "scikit-learn"
    is_parallel: bool = True
    #: Variants of a family have one colour in pictures.
    family: str = "scikit-learn"

    def missing(self, setup: Setup) -> str:
        """Return why it cannot be run, or nothing."""
        if self.family == "hyperopt" and setup.hyperopt is None:
            return "--hyperopt names no Python with: pip install hyperopt 'pymongo<4' scikit-learn"
        found = importlib.util.find_spec(self.module)
        return "" if found else f"not installed: pip install {self.package}"


def _ours(setup: Setup) -> Run:
    return lambda case: _fit(MongoSearchCV, case, n_jobs=setup.jobs)


OURS = {
    "mongo": Variant(
        "MongoSearchCV", lambda _: lambda case: _fit(MongoSearchCV, case), is_parallel=False,
        family="ours",
    ),
    "mongo-parallel": Variant("MongoSearchCV, n_jobs={jobs}", _ours, family="ours"),
}  # fmt: skip
PEERS = {
    "sequential": Variant(
        "GridSearchCV", lambda _: lambda case: _fit(GridSearchCV, case), is_parallel=False
    ),
    "loky": Variant("GridSearchCV, loky", lambda s: _joblib("loky", s)),
    "threading": Variant("GridSearchCV, threading", lambda s: _joblib("threading", s)),
    "dask": Variant("GridSearchCV, dask", _dask, "distributed", "distributed", family="dask"),
    "dask-ml": Variant("dask-ml", _dask_ml, "dask_ml", "dask-ml distributed", family="dask"),
    "ray": Variant("GridSearchCV, Ray", _ray, "ray", "ray", family="Ray"),
    "optuna-journal": Variant(
        "Optuna, journal", lambda s: _optuna("journal", s), "optuna", "optuna", family="Optuna"
    ),
    "optuna-sqlite": Variant(
        "Optuna, SQLite", lambda s: _optuna("sqlite", s), "optuna", "optuna", family="Optuna"
    ),
    "hyperopt": Variant("hyperopt, MongoTrials", _hyperopt, family="hyperopt"),
}
VARIANTS = {**OURS, **PEERS}
