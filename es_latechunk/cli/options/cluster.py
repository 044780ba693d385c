"""The options of an ingest on a cluster; a command gets them as one value."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from es_latechunk.cli.options.shared import add_options
from es_latechunk.errors import UsageError, setting

if TYPE_CHECKING:
    from es_latechunk.scale import RayCluster


class Resources(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """The type of an option that takes processors and GPUs, as "cpu=2", "gpu=1" or "cpu=4,gpu=0.5"."""

    name = "resources"

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, float]:
        found = re.fullmatch(r"(?!,)(?:cpu=(\d+))?(?:(?:^|,)gpu=(\d+(?:\.\d+)?))?", value.replace(" ", ""))
        if not value or found is None:
            self.fail(f"{value!r}: write cpu=2, gpu=1 or cpu=4,gpu=1", param, ctx)
        return int(found[1] or 1), float(found[2] or 0)


CLUSTER = (
    click.option(
        "--cluster",
        type=click.Choice(["ray"]),
        help="Read, encode and write on a Ray cluster.",
    ),
    click.option(
        "--ray-address",
        metavar="ADDRESS",
        envvar="RAY_ADDRESS",
        help='Ray cluster: HOST:PORT, or "auto" on one of its machines (or RAY_ADDRESS). Default: one that is started '
        "on this machine for the run.",
    ),
    click.option(
        "--encoders",
        type=int,
        metavar="N",
        help="Number of processes that encode, each with a model of its own. Default: as many as the cluster has "
        "room for.",
    ),
    click.option(
        "--readers",
        type=int,
        metavar="N",
        help="Number of processes that read files on this machine, and addresses on any; 0: this process reads. "
        "Default: as many as encoders, but no more than this machine has processors.",
    ),
    click.option(
        "--encoder-resources",
        type=Resources(),
        metavar="cpu=N|gpu=N",
        help="Processors or GPUs of each such process.  [default: cpu=1]",
    ),
)


def cluster_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of the cluster; the command gets `cluster`, a RayCluster or None."""

    @wraps(command)
    def with_cluster(
        *args: Any,
        cluster: str | None,
        ray_address: str | None,
        encoders: int | None,
        readers: int | None,
        encoder_resources: tuple[int, float] | None,
        **values: Any,
    ) -> Any:
        return command(
            *args, cluster=_cluster(cluster, ray_address, encoders, readers, encoder_resources), **values
        )

    return add_options(with_cluster, CLUSTER)


def _cluster(
    kind: str | None,
    address: str | None,
    encoders: int | None,
    readers: int | None,
    resources: tuple[int, float] | None,
) -> RayCluster | None:
    if kind is None:
        given: dict[str, object] = {"encoders": encoders, "readers": readers, "encoder_resources": resources}
        context = click.get_current_context()
        if context.get_parameter_source("ray_address") is click.core.ParameterSource.COMMANDLINE:
            given["ray_address"] = address
        for name, value in given.items():
            if value is not None:
                raise UsageError(f"{setting(name)} is of no use without {setting('cluster')} ray; add it")
        return None
    from es_latechunk.scale import RayCluster

    cpus, gpus = resources or (1, 0.0)
    return RayCluster(
        address=address or None, encoders=encoders, readers=readers, encoder_cpus=cpus, encoder_gpus=gpus
    )
