"""Where variants are solved: processes of this machine, a Dask or a Ray cluster. Rows come as they are done."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from planner.analysis.sweep.rows import Row, row_of
from planner.analysis.sweep.variants import GridPoint
from planner.errors import InputError, Mistake, Place
from planner.inputs.document import Document

BACKENDS = ("joblib", "dask", "ray")
IN_FLIGHT = 4
"""Variants handed out at once for each worker."""
IDLE_S = 15
"""A process that is given nothing for so long ends: also where whoever began the sweep was killed. [s]"""


def solved(
    document: Document, variants: Sequence[GridPoint], backend: str, *, workers: int, address: str | None
) -> Iterator[Row]:
    """Rows of all variants in the order in which they are done.

    Raises InputError where the backend's package is missing or its cluster cannot be reached.
    """
    if backend == "joblib" and address is not None:
        raise InputError(Mistake("joblib has no address", Place("--address"), attempt="--backend dask or ray"))
    if backend == "joblib" and workers == 1:
        return (row_of(document, variant) for variant in variants)
    run: Callable[[Document, Sequence[GridPoint], int, str | None], Iterator[Row]]
    run = {"joblib": _joblib, "dask": _dask, "ray": _ray}[backend]
    return run(document, variants, workers, address)


def _joblib(document: Document, variants: Sequence[GridPoint], workers: int, _: str | None) -> Iterator[Row]:
    try:
        from joblib import Parallel, delayed
    except ImportError:
        raise _missing("joblib", "joblib") from None
    parallel = Parallel(
        n_jobs=workers,
        return_as="generator_unordered",
        batch_size=1,
        pre_dispatch=f"{IN_FLIGHT}*n_jobs",
        idle_worker_timeout=IDLE_S,
    )
    yield from parallel(delayed(row_of)(document, variant) for variant in variants)


def _dask(document: Document, variants: Sequence[GridPoint], workers: int, address: str | None) -> Iterator[Row]:
    try:
        from distributed import Client, LocalCluster, as_completed
    except ImportError:
        raise _missing("distributed", "dask") from None
    cluster = None
    if address is None:
        cluster = LocalCluster(n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None)
    try:
        client = Client(address or cluster, timeout="20s")
    except (OSError, TimeoutError, ValueError) as error:
        raise _unreachable("Dask", address, error) from None
    try:
        waiting = iter(variants)
        count = IN_FLIGHT * max(1, len(client.scheduler_info()["workers"]) or workers)
        sent = client.scatter(document, broadcast=True)
        first = [client.submit(row_of, sent, v, pure=False) for _, v in zip(range(count), waiting, strict=False)]
        running = as_completed(first)
        for future in running:
            yield future.result()
            for variant in waiting:
                running.add(client.submit(row_of, sent, variant, pure=False))
                break
    finally:
        client.close()
        if cluster is not None:
            cluster.close()


def _ray(document: Document, variants: Sequence[GridPoint], workers: int, address: str | None) -> Iterator[Row]:
    try:
        import ray
    except ImportError:
        raise _missing("ray", "ray") from None
    try:
        options = {"num_cpus": workers, "include_dashboard": False} if address is None else {"address": address}
        ray.init(log_to_driver=False, logging_level="ERROR", **options)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise _unreachable("Ray", address, error) from None
    try:
        task, sent, waiting = ray.remote(row_of), ray.put(document), iter(variants)
        count = IN_FLIGHT * max(1, int(ray.cluster_resources().get("CPU", workers)))
        running = [task.remote(sent, v) for _, v in zip(range(count), waiting, strict=False)]
        while running:
            (done,), running = ray.wait(running, num_returns=1)
            yield ray.get(done)
            for variant in waiting:
                running.append(task.remote(sent, variant))
                break
    finally:
        ray.shutdown()


def _missing(package: str, extra: str) -> InputError:
    what = f"this backend needs the package {package}"
    return InputError(Mistake(what, Place("--backend"), attempt=f"pip install 'planner[{extra}]'"))


def _unreachable(name: str, address: str | None, error: Exception) -> InputError:
    what = f"no {name} cluster at {address or 'this machine'}"
    return InputError(Mistake(what, Place("--address"), str(error).split("\n")[0][:200]))
