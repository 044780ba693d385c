"""The Ray cluster: which one, how many encoders, and how this process joins and leaves it."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

from es_latechunk.errors import PreconditionError, UsageError, setting

# For the parts that wait and the results on this machine's own cluster; Ray writes to disk what exceeds it.
OBJECT_STORE_BYTES = 512 * 1024**2
CONNECT_SECONDS = 10.0
# Ray prints what its processes report on standard output, which belongs to data; its log files keep it.
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS_SKIP_REGEX": ".*"}
# Ray lets its workers yield to every other program (a niceness of 15). Encoders of a cluster that is started for a run
# get the processors that one process would get.
OWN_CLUSTER = {**QUIET, "RAY_worker_niceness": "0"}
WAKE_SECONDS = 0.5  # after so long without an answer of any process, an interrupt is looked for
# So many processes that are lost with nothing done in between are no accident, nor one bad document.
MOST_LOSSES_IN_A_ROW = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class RayCluster:
    """A Ray cluster that an ingest runs on.

    - `address`: the cluster's "HOST:PORT", or "auto" on one of its machines. Without one, a cluster is started on this
      machine for the run, unless this process has one already (`ray.init`).
    - `encoders`: the number of processes that encode, each with its own copy of the model. Default: as many as the
      cluster has room for.
    - `readers`: the number of processes that read files of this machine on this machine, and as many that read from
      stores and web servers on any; 0 if this process is to read. Default: as many as encoders, and no more than this
      machine has processors.
    - `encoder_cpus`, `encoder_gpus`: the processors and GPUs of each; a part of a GPU, such as 0.5, can be shared.
    """

    address: str | None = None
    encoders: int | None = None
    readers: int | None = None
    encoder_cpus: int = 1
    encoder_gpus: float = 0

    def __post_init__(self) -> None:
        if self.encoders is not None and self.encoders < 1:
            raise UsageError(f"{setting('encoders')} {self.encoders}: give 1 or more")
        if self.readers is not None and self.readers < 0:
            raise UsageError(f"{setting('readers')} {self.readers}: give 0 or more")
        if self.encoder_cpus < 1 or self.encoder_gpus < 0:
            raise UsageError(
                f"{setting('encoder_resources')} {self.resources}: an encoder needs at least cpu=1, and no gpu below 0"
            )
        if self.address and self.address.startswith("ray://"):
            raise UsageError(
                f"{setting('ray_address')} {self.address}: a Ray client from outside is not supported; run the command "
                f"on a machine of the cluster, or submit it as a job, with {setting('ray_address')} auto"
            )

    @property
    def resources(self) -> str:
        """The resources of one encoder, as the command line writes them."""
        return f"cpu={self.encoder_cpus}" + (f",gpu={self.encoder_gpus:g}" if self.encoder_gpus else "")

    def check_installed(self) -> None:
        """Raise UsageError if Ray is not installed here."""
        if find_spec("ray") is None:
            raise UsageError(
                f"{setting('cluster')} ray: Ray is not installed; install it: pip install 'es-latechunk[ray]'"
            )


@contextmanager
def joined(cluster: RayCluster) -> Iterator[Any]:
    """Join the cluster, or start one, and yield the module `ray`; at the end leave it as it was found."""
    ray = _import_ray()
    if ray.is_initialized():
        yield ray
        return
    try:
        _init(ray, cluster)
        yield ray
    finally:
        ray.shutdown()


def load_cloudpickle() -> Callable[[Any], bytes]:
    """Return the function with which Ray pickles, which also takes functions that a user has written in place."""
    dumps: Callable[[Any], bytes] = _import_ray().cloudpickle.dumps
    return dumps


def _import_ray() -> Any:
    with _environment(QUIET):  # Ray reads them when it is imported
        import ray
    return ray


def _init(ray: Any, cluster: RayCluster) -> None:
    if cluster.address:
        _check_reachable(cluster.address)
    options: dict[str, Any] = {"address": cluster.address, "log_to_driver": False, "logging_level": "ERROR"}
    if cluster.address is None:
        options |= {
            "address": "local",
            "include_dashboard": False,
            "object_store_memory": OBJECT_STORE_BYTES,
        }
    main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with _environment(QUIET if cluster.address else OWN_CLUSTER):
            ray.init(**options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        cause = " ".join(str(error).split())
        raise PreconditionError(
            f"{setting('ray_address')} {cluster.address or 'of this machine'}: the Ray cluster cannot be used "
            f"({cause}); check the address, and that it runs the same versions of Ray and Python"
        ) from error
    finally:
        if main:  # Ray's own handler would end this process without its report
            signal.signal(signal.SIGTERM, handler)


def _check_reachable(address: str) -> None:
    """Refuse an address where nobody listens, for which Ray itself would look for minutes."""
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal()):
        return  # "auto", or what Ray refuses at once
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise PreconditionError(
            f"{setting('ray_address')} {address}: cannot be reached ({error}); check it, and that the Ray cluster runs"
        ) from error


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Set those of the variables that the user has not set, for the block."""
    added = {name: value for name, value in variables.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


def room(ray: Any, cluster: RayCluster) -> int:
    """Return how many encoders the machines that the cluster has now can run, if nothing else runs there."""
    count = 0
    for node in ray.nodes():
        if node["Alive"]:
            has = node["Resources"]
            fits = has.get("CPU", 0) // cluster.encoder_cpus
            if cluster.encoder_gpus:
                fits = min(fits, has.get("GPU", 0) // cluster.encoder_gpus)
            count += int(fits)
    return count


def count_encoders(ray: Any, cluster: RayCluster) -> int:
    """Return the number of encoders to start.

    Raises UsageError for more than this machine's own cluster can ever run; any other cluster may grow.
    """
    fits = room(ray, cluster)
    if cluster.encoders is None and not fits:
        raise UsageError(
            f"{setting('encoder_resources')} {cluster.resources}: no machine of the Ray cluster has so much now; "
            f"ask for less, or give {setting('encoders')} if the cluster grows on demand"
        )
    wanted = cluster.encoders or fits
    if cluster.address is None and wanted > fits:
        raise UsageError(
            f"{setting('encoders')} {wanted} with {cluster.resources} each: this machine has room for {fits}; ask for "
            "less"
        )
    return wanted


def count_readers(cluster: RayCluster, encoders: int) -> int:
    """Return the number of readers to start, on this machine and anywhere."""
    return min(encoders, os.cpu_count() or 1) if cluster.readers is None else cluster.readers


def is_loss(ray: Any, error: BaseException) -> bool:
    """True if a process of the cluster or its machine was lost; any other exception is an error of the program."""
    return isinstance(error, ray.exceptions.RayError) and not isinstance(error, ray.exceptions.RayTaskError)


def check_version(process: str, found: str) -> None:
    """Raise PreconditionError if a process of the cluster has another version of this package than this process."""
    own = version("es-latechunk")
    if found != own:
        raise PreconditionError(
            f"{process} has es-latechunk {found}, this machine has {own}; install the same version on every machine"
        )
