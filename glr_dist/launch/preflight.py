"""Before a run: can every node of the cluster take part in it, and is there room for what is asked for?

Tasks that ask for no CPU are pinned to each node, so that a busy node answers as well, and a node that doesn't answer is
named after a while instead of holding up the run.
"""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glr_dist.config import Config
from glr_dist.data.dataset import Dataset, open_dataset
from glr_dist.data.source import DataSource
from glr_dist.errors import UserError
from glr_dist.launch import probe
from glr_dist.store.local import TEMP
from glr_dist.store.storage import Storage

ANSWER_SECONDS = 120.0  # a first import of torch from a network disk is slow; so is a download of the data


@dataclass(frozen=True, kw_only=True)
class NodeReport:
    """One node.

    Attributes:
        node: its name or address.
        driver: whether this process runs there.
        cpus: CPUs that Ray has there.
        gpus: GPUs that Ray has there.
        room: actors of the config's size that fit on it when it is idle.
        cpu: kind of its CPU.
        gpu: kind of its GPUs, "" if none.
        versions: package -> version.
        data: fingerprint of its data; None when it wasn't asked or has none.
        shared: whether it sees the run's folder of the driver; None when it wasn't asked or can't write there.
        problems: why no run can include it, a line each.
    """

    node: str
    driver: bool = False
    cpus: float = 0.0
    gpus: float = 0.0
    room: int = 0
    cpu: str = ""
    gpu: str = ""
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    data: str | None = None
    shared: bool | None = None
    problems: tuple[str, ...] = ()


def preflight(
    config: Config, run: str | Path | None = None, *, data: DataSource | None = None, seconds: float = ANSWER_SECONDS
) -> list[NodeReport]:
    """Ask every node of the connected cluster, and wait so many seconds; returns their reports, the driver's first.

    Without a run's folder or URI, storage is left alone. The data are what ``config.data`` describes, if not given; data
    that are no files travel with the run.

    Raises:
        UserError: when the driver itself has no data.
    """
    import ray

    data = data or open_dataset(config.data)
    files = dataclasses.asdict(config.data) if isinstance(data, Dataset) else None
    fingerprint = data.fingerprint if files is not None else None
    nodes = [node for node in ray.nodes() if node["Alive"]]
    place = None if run is None else Storage.at(run).uri  # absolute: a worker's current folder is another
    with _marked(place) as mark:
        found = _ask(nodes, (files, place, mark), seconds)
    home, own = ray.get_runtime_context().get_node_id(), probe.versions()
    reports = [
        _report(_blank(node, name, home), answer, config, own, fingerprint)
        for node, name, answer in zip(nodes, _names(nodes), found, strict=True)
    ]
    return sorted(reports, key=lambda report: (not report.driver, report.node))


def refuse(reports: Sequence[NodeReport], config: Config) -> None:
    """Raise UserError for a run that would fail: with the first of its problems, and the number of the others."""
    found = problems(reports, config)
    if found:
        more = f" (and {len(found) - 1} more; glr-dist check lists them)" if len(found) > 1 else ""
        raise UserError(f"the cluster is not ready: {found[0]}{more}")


def problems(reports: Sequence[NodeReport], config: Config) -> list[str]:
    """All that is wrong, of single nodes and of all together, a line each."""
    found = [f"node {report.node}: {problem}" for report in reports for problem in report.problems]
    engine = config.engine
    workers = abs(engine.workers) if config.observes else 0  # -1 needs room for one at least
    room = sum(report.room for report in reports)
    if engine.generators:  # they need CPUs alone, also those of nodes without GPUs
        room = min(room, sum(int(report.cpus // engine.threads) for report in reports) - engine.generators)
    if workers + engine.reconstructors > room:
        each = f"{engine.threads} CPU{'s' if engine.threads > 1 else ''}"
        if engine.gpus_per_worker:
            each += f" and {engine.gpus_per_worker:g} GPUs"
        beside = f" beside --generators {engine.generators}" if engine.generators else ""
        there = ", ".join(f"{report.node} {report.cpus:g} CPUs, {report.gpus:g} GPUs" for report in reports)
        found.append(
            f"--workers {workers} --reconstructors {engine.reconstructors}: there is room for {max(room, 0)} actors of"
            f" {each}{beside} ({there}); lower them or add nodes"
        )
    return found + _mixed_noise(reports, config, workers)


def _mixed_noise(reports: Sequence[NodeReport], config: Config, workers: int) -> list[str]:
    """Whether evaluators and reconstructors could draw different noise from one seed."""
    if config.noise.source != "generator" or not config.observes:
        return []
    engine = config.engine
    fix = "use --set noise.source=table"
    if engine.evaluates_on != engine.reconstructs_on:
        return [f"noise.source = 'generator': would draw on GPUs in actors, and on the CPU in the driver; {fix}"]
    hosts = [report for report in reports if report.room]
    kinds = sorted({report.gpu if engine.gpus_per_worker else report.cpu.split(" ")[0] for report in hosts})
    if len(kinds) > 1:
        return [f"noise.source = 'generator': draws different noise on {' and '.join(kinds)}; {fix}"]
    return []


def _ask(nodes: Sequence[Mapping[str, Any]], arguments: tuple[Any, ...], seconds: float) -> list[dict[str, Any] | str]:
    """The answers of the nodes, or why there is none."""
    import ray
    from ray import cloudpickle
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    cloudpickle.register_pickle_by_value(probe)
    try:
        task = ray.remote(num_cpus=0, max_retries=0)(probe.answers)
        places = [NodeAffinitySchedulingStrategy(node["NodeID"], soft=False) for node in nodes]
        calls = [task.options(scheduling_strategy=place).remote(*arguments) for place in places]
    finally:
        cloudpickle.unregister_pickle_by_value(probe)
    answered, silent = ray.wait(calls, num_returns=len(calls), timeout=seconds)
    for call in silent:
        ray.cancel(call, force=True)
    return [_answer(call) if call in set(answered) else f"did not answer within {seconds:g} s" for call in calls]


def _answer(call: Any) -> dict[str, Any] | str:
    import ray
    from ray.exceptions import RayError

    try:
        answer: dict[str, Any] = ray.get(call)
        return answer
    except RayError as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        return f"could not answer: {lines[-1].strip() if lines else type(error).__name__}"


def _blank(node: Mapping[str, Any], name: str, home: str) -> NodeReport:
    """What Ray says of a node; `home`: the driver's."""
    resources = node["Resources"]
    gpus = resources.get("GPU", 0.0)
    kinds = [key.partition(":")[2] for key in resources if key.startswith("accelerator_type:")]
    gpu = " ".join(sorted(kinds)) or ("GPU" if gpus else "")
    return NodeReport(node=name, driver=node["NodeID"] == home, cpus=resources.get("CPU", 0.0), gpus=gpus, gpu=gpu)


def _report(
    blank: NodeReport, answer: dict[str, Any] | str, config: Config, own: Mapping[str, str], fingerprint: str | None
) -> NodeReport:
    """A blank report filled in with what the node says itself."""
    if isinstance(answer, str):
        return dataclasses.replace(blank, problems=(answer,))
    wrong = [
        f"{package} {answer['versions'].get(package, 'missing')}, the driver has {version}"
        for package, version in own.items()
        if answer["versions"] and answer["versions"].get(package) != version
    ]
    wrong += answer["errors"]
    if fingerprint is not None and answer["data"] not in (None, fingerprint):
        wrong.append(f"data: other data ({answer['data'][:12]}…) than the driver's ({fingerprint[:12]}…)")
    if config.engine.gpus_per_worker and blank.gpus and not answer["cuda"]:
        wrong.append("torch: has no GPU support, though the node has GPUs")
    told = {name: answer[name] for name in ("cpu", "versions", "data", "shared")}
    return dataclasses.replace(blank, room=_room(blank.cpus, blank.gpus, config), problems=tuple(wrong), **told)


def _room(cpus: float, gpus: float, config: Config) -> int:
    """Actors that fit on a node; a fraction of a GPU is never cut out of two."""
    room, each = int(cpus // config.engine.threads), config.engine.gpus_per_worker
    if not each:
        return room
    return min(room, int(gpus) * int(1 / each) if each < 1 else int(gpus // each))


def _names(nodes: Sequence[Mapping[str, Any]]) -> list[str]:
    """The nodes' addresses, with a port where there are several on one machine."""
    addresses = [str(node["NodeManagerAddress"]) for node in nodes]
    return [
        f"{address}:{node['NodeManagerPort']}" if addresses.count(address) > 1 else address
        for node, address in zip(nodes, addresses, strict=True)
    ]


@contextmanager
def _marked(run: str | None) -> Iterator[str]:
    """Within: a file of the driver's lies in the run's folder, by which a node sees that the folder is shared."""
    mark = f"{TEMP}preflight-{secrets.token_hex(4)}"
    if run is None:
        yield mark
        return
    place = Storage.at(run)
    missing = probe.missing_folders(place)
    try:
        place.write(mark, b"")
    except (OSError, ValueError) as error:
        raise UserError(f"--run-dir {place}: {error}") from error
    try:
        yield mark
    finally:
        place.delete(mark)
        probe.remove_folders(missing)
