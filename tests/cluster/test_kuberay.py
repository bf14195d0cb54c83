"""The KubeRay files against the fields, with their types, of KubeRay's API reference for ray.io/v1 (1.6), as far as used."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from recipes import KUBERAY, ROOT, load

TEXT = {"type": "string", "minLength": 1}
COUNT = {"type": "integer", "minimum": 0}
QUANTITY = {"type": "string", "pattern": r"^[0-9]+([mKMG]i?)?$"}


def only(required: dict[str, Any], **optional: Any) -> dict[str, Any]:
    """An object with these fields and no other."""
    return {
        "type": "object",
        "properties": required | optional,
        "required": list(required),
        "additionalProperties": False,
    }


METADATA = only({"name": {"type": "string", "pattern": "^[a-z][-a-z0-9]*$"}})
RESOURCES = only({"cpu": QUANTITY, "memory": QUANTITY})
CONTAINER = only(
    {
        "name": TEXT,
        "image": {"type": "string", "pattern": r"^[^:]+:(?!latest$).+$"},
        "securityContext": only(
            {"allowPrivilegeEscalation": {"const": False}, "capabilities": only({"drop": {"const": ["ALL"]}})}
        ),
        "resources": only({"requests": RESOURCES, "limits": RESOURCES}),
        "volumeMounts": {"type": "array", "items": only({"name": TEXT, "mountPath": {"const": "/shared"}})},
    }
)
POD = only(
    {
        "containers": {"type": "array", "items": CONTAINER, "minItems": 1, "maxItems": 1},
        "volumes": {
            "type": "array",
            "items": only({"name": TEXT, "persistentVolumeClaim": only({"claimName": {"const": "glr-dist"}})}),
        },
        "automountServiceAccountToken": {"const": False},
        "securityContext": only(
            {
                "runAsNonRoot": {"const": True},
                "runAsUser": COUNT,
                "fsGroup": COUNT,
                "fsGroupChangePolicy": {"enum": ["OnRootMismatch", "Always"]},
                "seccompProfile": only({"type": {"const": "RuntimeDefault"}}),
            }
        ),
    }
)
GROUP = {
    # the values are strings: a bare 0 is refused by Kubernetes
    "rayStartParams": {"type": "object", "additionalProperties": {"type": "string"}},
    "template": only({"spec": POD}),
}
CLUSTER_SPEC = only(
    {
        "rayVersion": TEXT,
        "authOptions": only({"mode": {"const": "token"}}),
        "headGroupSpec": only(GROUP | {"serviceType": {"const": "ClusterIP"}}),
        "workerGroupSpecs": {
            "type": "array",
            "minItems": 1,
            "items": only(GROUP | {"groupName": TEXT, "replicas": COUNT, "minReplicas": COUNT, "maxReplicas": COUNT}),
        },
    }
)
JOB_SPEC = only(
    {
        "entrypoint": TEXT,
        "backoffLimit": {"type": "integer", "minimum": 1},
        "shutdownAfterJobFinishes": {"const": True},
        "ttlSecondsAfterFinished": COUNT,
        "rayClusterSpec": CLUSTER_SPEC,
    }
)
CLAIM_SPEC = only(
    {"accessModes": {"const": ["ReadWriteMany"]}, "resources": only({"requests": only({"storage": QUANTITY})})}
)
SPECS = {
    "rayjob.yaml": ("ray.io/v1", "RayJob", JOB_SPEC),
    "raycluster.yaml": ("ray.io/v1", "RayCluster", CLUSTER_SPEC),
    "storage.yaml": ("v1", "PersistentVolumeClaim", CLAIM_SPEC),
}
FOLDER = ROOT / "cluster" / "kuberay"
job, cluster = load(FOLDER / "rayjob.yaml")["spec"], load(FOLDER / "raycluster.yaml")["spec"]


@pytest.mark.parametrize("path", KUBERAY, ids=lambda path: path.stem)
def test_every_field_is_one_of_the_api_and_of_its_type(path: Path) -> None:
    version, kind, spec = SPECS[path.name]
    document = only({"apiVersion": {"const": version}, "kind": {"const": kind}, "metadata": METADATA, "spec": spec})
    jsonschema.validate(load(path), document)


@pytest.mark.parametrize("change", [{"authOption": {"mode": "token"}}, {"authOptions": {"mode": "none"}}])
def test_the_check_above_can_fail(change: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(cluster | change, CLUSTER_SPEC)


def test_job_and_cluster_are_the_same_pods() -> None:
    theirs = job["rayClusterSpec"]
    assert theirs["workerGroupSpecs"] == cluster["workerGroupSpecs"]
    assert theirs["headGroupSpec"]["template"] == cluster["headGroupSpec"]["template"]


def test_versions_are_those_of_the_project() -> None:
    pins = (ROOT / "constraints.txt").read_text().splitlines()
    assert f"ray=={cluster['rayVersion']}" in pins
    assert job["rayClusterSpec"]["rayVersion"] == cluster["rayVersion"]
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    texts = [path.read_text() for path in [*KUBERAY, ROOT / "cluster" / "README.md", ROOT / "cluster" / "Dockerfile"]]
    assert set(re.findall(r"REGISTRY/\S+", "\n".join(texts))) == {f"REGISTRY/glr-dist:{version}"}


def test_dashboard_listens_on_loopback_where_only_people_need_it() -> None:
    assert cluster["headGroupSpec"]["rayStartParams"]["dashboard-host"] == "127.0.0.1"


def test_entrypoint_is_one_plain_command_on_the_shared_volume() -> None:
    # quotes, variables and operators would be read by the shell of the submitter's pod
    assert re.fullmatch(r"train-or-resume /shared/\S+ [-\w./ ]+", job["entrypoint"])


def test_as_many_workers_as_the_pods_have_cpus() -> None:
    (group,) = job["rayClusterSpec"]["workerGroupSpecs"]
    cpus = int(group["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"])
    assert job["entrypoint"].endswith(f"--workers {group['replicas'] * cpus}")
