"""The chart, rendered by the real helm with many values, and the schemas it must meet."""

import json
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import referencing
import yaml
from kubernetes_validate import utils as schemas

from primo_operator.crds import KINDS, definition

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "primo-operator"
RELEASE, NAMESPACE = "primo-operator", "primo-system"
VERSIONS = ("1.29", "1.33", "1.37")

Object = dict[str, Any]
Values = dict[str, Any]

# Each alone, in both modes of watching, and all together.
FEATURES: dict[str, Values] = {
    "defaults": {},
    "a registry for all images": {"imageRegistry": "registry.example:5000/team/"},
    "images by digest": {
        "image": {"digest": "sha256:" + "0" * 64},
        "sidecar": {"image": {"digest": "sha256:" + "1" * 64}},
    },
    "images by tag": {
        "image": {"repository": "registry.example/x/op", "tag": "v9", "pullPolicy": "Always"},
        "sidecar": {"image": {"repository": "localhost/sidecar", "tag": "v8"}},
    },
    "pull secrets": {"imagePullSecrets": [{"name": "one"}, {"name": "two"}]},
    "sidecars on any port": {"sidecar": {"metricsPort": 0}},
    "no definitions": {"crds": {"install": False}},
    "definitions that go with the release": {"crds": {"keep": False}},
    "no roles": {"rbac": {"create": False, "aggregateClusterRoles": False}},
    "no roles for users": {"rbac": {"aggregateClusterRoles": False}},
    "another service account": {"serviceAccount": {"create": False, "name": "other"}},
    "the namespace's service account": {"serviceAccount": {"create": False}},
    "a service account with annotations": {"serviceAccount": {"annotations": {"cloud/role": "x"}}},
    "settings": {
        "settings": {
            "workers": 2,
            "resyncSeconds": 60.5,
            "statusIntervalSeconds": 0.5,
            "requestTimeoutSeconds": 10,
            "suggestionTimeoutSeconds": 30,
            "suggestionMemoryMiB": 0,
            "verbose": True,
        }
    },
    "objectives from Prometheus": {
        "prometheus": {"url": "http://prometheus.monitoring:9090", "namespaces": ["*"]}
    },
    "objectives from a Prometheus with TLS": {
        "prometheus": {
            "url": "https://thanos.example/tenants/$(namespace)",
            "namespaces": ["team-a", "team-b"],
            "ca": {"configMap": "authorities", "key": "service-ca.crt"},
            "token": {"secret": "reader", "key": "bearer"},
            "timeoutSeconds": 2.5,
            "settleSeconds": 0,
            "patienceSeconds": 2000000,
        }
    },
    "an authority in a Secret": {
        "prometheus": {"url": "https://[fd00::1]:9443", "ca": {"secret": "tls", "configMap": ""}}
    },
    "metrics": {
        "metrics": {"enabled": True, "trials": 1000000, "parameters": 0, "keepSeconds": 2592000}
    },
    "a monitor of the operator": {
        "metrics": {"enabled": True, "serviceMonitor": {"enabled": True, "interval": "1m30s"}}
    },
    "a monitor of the trials": {
        "metrics": {"podMonitor": {"enabled": True, "labels": {"release": "monitoring"}}}
    },
    "dashboards": {"metrics": {"enabled": True}, "dashboards": {"enabled": True}},
    "dashboards elsewhere": {
        "metrics": {"enabled": True},
        "dashboards": {
            "enabled": True,
            "namespace": "monitoring",
            "labels": {"grafana_dashboard": "yes", "team": "ml"},
            "annotations": {"owner": "ml"},
            "folder": "Machine learning",
        },
    },
    "alerts": {"metrics": {"enabled": True, "rules": {"enabled": True}}},
    "alerts elsewhere": {
        "metrics": {
            "enabled": True,
            "rules": {
                "enabled": True,
                "namespace": "monitoring",
                "labels": {"release": "monitoring"},
                "annotations": {"owner": "sre"},
                "alertLabels": {"team": "ml"},
                "runbookUrl": "https://git.example/primo/blob/main/",
            },
        }
    },
    "more environment": {
        "extraEnv": [
            {"name": "HTTPS_PROXY", "value": "http://proxy.example:3128"},
            {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        ]
    },
    "pods with IPv6 addresses alone": {"bindAddress": "::"},
    "users by admission, as on OpenShift": {
        "sidecar": {"runAsUser": None},
        "podSecurityContext": dict.fromkeys(("runAsUser", "runAsGroup", "fsGroup")),
    },
    "names that are numbers": {
        "nameOverride": "1",
        "fullnameOverride": "2",
        "serviceAccount": {"name": "3"},
        "watch": {"namespaces": ["4711"]},
        "metrics": {"enabled": True, "rules": {"enabled": True, "namespace": "5"}},
        "dashboards": {"enabled": True, "namespace": "6"},
        "priorityClassName": "7",
        "prometheus": {
            "url": "https://prometheus.example",
            "ca": {"secret": "8", "configMap": ""},
            "token": {"secret": "9"},
        },
    },
    "resources": {"resources": {"requests": {"cpu": 2}, "limits": {"memory": "8Gi"}}},
    "a hot standby": {"replicas": 2},
    "probes": {"probes": {"port": 9000, "periodSeconds": 3, "failureThreshold": 9}},
    "a network policy": {"networkPolicy": {"enabled": True}},
    "a network policy with more egress": {
        "networkPolicy": {
            "enabled": True,
            "apiServerPorts": [8443],
            "extraEgress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}],
        }
    },
    "a network policy with metrics": {
        "networkPolicy": {
            "enabled": True,
            "metricsFrom": [{"namespaceSelector": {"matchLabels": {"team": "monitoring"}}}],
        },
        "metrics": {"enabled": True, "port": 9500},
    },
    "a network policy with Prometheus": {
        "networkPolicy": {"enabled": True},
        "prometheus": {"url": "https://prometheus.example"},
    },
    "another name": {"nameOverride": "tuner"},
    "another full name": {"fullnameOverride": "tuner"},
    "labels and annotations": {
        "commonLabels": {"team": "ml"},
        "commonAnnotations": {"owner": "ml"},
        "podLabels": {"app.kubernetes.io/name": "not this one", "zone": "a"},
        "podAnnotations": {"owner": "ops", "checksum": "1"},
    },
    "placement": {
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"key": "infra", "operator": "Exists", "effect": "NoSchedule"}],
        "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
        "priorityClassName": "system-cluster-critical",
    },
    "a self-test with more time": {"selfTest": {"timeoutSeconds": 900}},
}
MODES: dict[str, Values] = {
    "all namespaces": {},
    "two namespaces": {"watch": {"namespaces": ["team-a", "team-b"]}},
}


def merged(base: Values, over: Values) -> Values:
    """As helm merges values: maps key by key, all else replaced."""
    result = dict(base)
    for key, value in over.items():
        before = result.get(key)
        both = isinstance(before, dict) and isinstance(value, dict)
        result[key] = merged(before, value) if both else value
    return result


def all_at_once() -> Values:
    everything: Values = {}
    for values in FEATURES.values():
        everything = merged(everything, values)
    kept = {
        "crds": {"install": True},
        "rbac": {"create": True},
        "serviceAccount": {"create": True},
        "sidecar": {"metricsPort": 9401},
    }
    return merged(merged(everything, kept), MODES["two namespaces"])


RENDERINGS: dict[str, Values] = {
    **{
        f"{feature}, {mode}": merged(MODES[mode], values)
        for mode in MODES
        for feature, values in FEATURES.items()
    },
    "everything": all_at_once(),
}


@dataclass(frozen=True, slots=True)
class Helm:
    """One helm. Values go in as a file, so that numbers stay numbers."""

    program: Path

    def __call__(
        self, *arguments: str, values: Values | None = None, check: bool = True, **kwargs: Any
    ) -> str:
        """What it says; raises CalledProcessError with what it said if it fails."""
        with_values = [*arguments, "--values", "-"] if values is not None else list(arguments)
        text = None if values is None else json.dumps(values)
        done = subprocess.run(
            [str(self.program), *with_values],
            input=text,
            check=False,
            capture_output=True,
            text=True,
            timeout=120,
            **kwargs,
        )
        try:
            if check:
                done.check_returncode()
        except subprocess.CalledProcessError as error:
            error.add_note(done.stderr)
            raise
        return done.stdout

    def template(self, values: Values | None = None, *more: str) -> list[Object]:
        text = self("template", RELEASE, str(CHART), "-n", NAMESPACE, *more, values=values or {})
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        return [found for found in yaml.load_all(text, loader) if found]


def of_kind(objects: list[Object], *kinds: str) -> list[Object]:
    return [each for each in objects if each["kind"] in kinds]


def pod_specs(objects: list[Object]) -> list[Object]:
    """Every pod that a rendering leads to."""
    templates = of_kind(objects, "Deployment", "Job", "DaemonSet", "StatefulSet")
    pods = [each["spec"] for each in of_kind(objects, "Pod")]
    return pods + [each["spec"]["template"]["spec"] for each in templates]


def operators_roles(objects: list[Object]) -> list[Object]:
    """The roles bound to the operator's service account."""
    (deployment,) = of_kind(objects, "Deployment")
    return roles_of(objects, deployment["spec"]["template"]["spec"]["serviceAccountName"])


def roles_of(objects: list[Object], account: str) -> list[Object]:
    """The roles bound to a service account."""
    found = []
    for binding in of_kind(objects, "RoleBinding", "ClusterRoleBinding"):
        if any(subject["name"] == account for subject in binding["subjects"]):
            found += [
                role
                for role in of_kind(objects, binding["roleRef"]["kind"])
                if role["metadata"]["name"] == binding["roleRef"]["name"]
                and role["metadata"].get("namespace") == binding["metadata"].get("namespace")
            ]
    return found


@cache
def _validator(api_version: str, kind: str, version: str) -> Any:
    """The strict schema of a Kubernetes kind: what `kubernetes_validate.validate` reads each time.

    A kind's file is self-contained but for references into the version's definitions.
    """
    folder = f"kubernetes-json-schema/v{_full(version)}-local-strict"
    group, _, rest = api_version.partition("/")
    name = f"{kind.lower()}-" + (f"{group.split('.')[0]}-{rest}" if rest else group)
    schema = schemas.schema_contents(f"{folder}/{name}.json", version)
    registry = _definitions(folder, version)
    return jsonschema.Draft202012Validator(schema, registry=registry)


@cache
def _definitions(folder: str, version: str) -> Any:
    contents = schemas.schema_contents(f"{folder}/_definitions.json", version)
    return referencing.Resource.from_contents(contents) @ referencing.Registry()


@cache
def _full(version: str) -> str:
    return str(next(v for v in schemas.all_versions() if schemas.major_minor(v) == version))


@cache
def problems(text: str, version: str) -> tuple[str, ...]:
    """What a Kubernetes version's strict schema says against an object, given as JSON."""
    obj = json.loads(text)
    found = _validator(obj["apiVersion"], obj["kind"], version).iter_errors(obj)
    where = f"{obj['kind']} {obj['metadata']['name']}"
    return tuple(f"{where}: {error.json_path}: {error.message}" for error in found)


def definitions_of_ours() -> dict[str, Object]:
    """By the name of the CustomResourceDefinition."""
    found = [definition(kind) for kind in KINDS]
    return {each["metadata"]["name"]: each for each in found}
