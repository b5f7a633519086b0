"""The environment, command and arguments of a container, as a kubelet works them out; pure.

A value sees the variables before it, a command sees all of them; `$$` is one `$`, and a reference
to nothing stays as it is.
"""

import base64
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from primo_local.apiserver.quantity import parse
from primo_local.client import Obj

_REFERENCE: Final = re.compile(r"\$(?:\$|\(([^()\s]*)\))")
_KEYED_FIELD: Final = re.compile(r"metadata\.(labels|annotations)\['(.+)'\]")
_TITLES: Final = {"configMapKeyRef": "ConfigMap", "secretKeyRef": "Secret"}
_NAME: Final = re.compile(r"[^=\x00-\x1f]+")


class ConfigError(Exception):
    """The container cannot be made yet: something that it names is missing."""


@dataclass(frozen=True, slots=True)
class Sources:
    """What values may refer to besides the pod; a missing ConfigMap or Secret is None."""

    config_map: Callable[[str], Obj | None]
    secret: Callable[[str], Obj | None]
    capacity: Mapping[str, str]  # the node's, for limits that are not set


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Replace `$(NAME)` where NAME is known, and `$$` by `$`."""

    def replaced(found: re.Match[str]) -> str:
        if found[0] == "$$":
            return "$"
        return variables.get(found[1], found[0])

    return _REFERENCE.sub(replaced, text)


def variables_of(container: Obj, pod: Obj, sources: Sources) -> dict[str, str]:
    """The variables a container declares, in order; the last of one name holds.

    Raises:
        ConfigError: a ConfigMap, a Secret or a key in one is missing and not optional.
    """
    variables: dict[str, str] = {}
    for source in container.get("envFrom") or []:
        variables |= _all_of(source, sources)
    for entry in container.get("env") or []:
        if "valueFrom" in entry:
            value = _referred(entry["valueFrom"], container, pod, sources)
            if value is not None:
                variables[entry["name"]] = value
        else:
            variables[entry["name"]] = expand(entry.get("value") or "", variables)
    return variables


def command_of(container: Obj, variables: Mapping[str, str]) -> list[str]:
    words = [*(container.get("command") or []), *(container.get("args") or [])]
    return [expand(word, variables) for word in words]


def field_of(path: str, pod: Obj, node_address: str = "127.0.0.1") -> str:
    """A field for `fieldRef`: the few that Kubernetes allows."""
    meta = pod["metadata"]
    if keyed := _KEYED_FIELD.fullmatch(path):
        return str((meta.get(keyed[1]) or {}).get(keyed[2], ""))
    plain = {
        "metadata.name": meta["name"],
        "metadata.namespace": meta["namespace"],
        "metadata.uid": meta["uid"],
        "spec.nodeName": pod["spec"].get("nodeName", ""),
        "spec.serviceAccountName": pod["spec"].get("serviceAccountName", "default"),
        "status.podIP": node_address,
        "status.podIPs": node_address,
        "status.hostIP": node_address,
        "status.hostIPs": node_address,
        "metadata.labels": _listed(meta.get("labels") or {}),
        "metadata.annotations": _listed(meta.get("annotations") or {}),
    }
    if path not in plain:
        raise ConfigError(f"fieldRef.fieldPath: {path!r} is not a field that may be referred to")
    return str(plain[path])


def resource_of(reference: Obj, container: Obj, pod: Obj, capacity: Mapping[str, str]) -> str:
    """A request or limit for `resourceFieldRef`, in units of the divisor, rounded up."""
    named = reference.get("containerName") or container["name"]
    containers = [*pod["spec"]["containers"], *(pod["spec"].get("initContainers") or [])]
    target = next((c for c in containers if c["name"] == named), None)
    if target is None:
        raise ConfigError(f"resourceFieldRef.containerName: {named!r} is not a container here")
    group, _, resource = reference["resource"].partition(".")
    amounts = (target.get("resources") or {}).get(group) or {}
    fallback = capacity.get(resource, "0") if group == "limits" else "0"
    divisor = parse(str(reference.get("divisor") or "1")) or Fraction(1)
    return str(math.ceil(parse(str(amounts.get(resource, fallback))) / divisor))


def decoded(secret: Obj) -> dict[str, bytes]:
    return {name: base64.b64decode(text) for name, text in (secret.get("data") or {}).items()}


def contents(config_map: Obj) -> dict[str, bytes]:
    text = {name: value.encode() for name, value in (config_map.get("data") or {}).items()}
    binary = config_map.get("binaryData") or {}
    return text | {name: base64.b64decode(value) for name, value in binary.items()}


def _referred(reference: Obj, container: Obj, pod: Obj, sources: Sources) -> str | None:
    if "fieldRef" in reference:
        return field_of(reference["fieldRef"]["fieldPath"], pod)
    if "resourceFieldRef" in reference:
        return resource_of(reference["resourceFieldRef"], container, pod, sources.capacity)
    for kind in ("configMapKeyRef", "secretKeyRef"):
        if kind in reference:
            return _key(kind, reference[kind], sources)
    raise ConfigError(f"env[].valueFrom: {', '.join(reference)} is not a known source")


def _key(kind: str, reference: Obj, sources: Sources) -> str | None:
    label, fetch, read = _kinds(sources)[kind]
    found = fetch(reference["name"])
    if found is None:
        if reference.get("optional"):
            return None
        raise ConfigError(f'{label} "{reference["name"]}" not found')
    values = read(found)
    if reference["key"] not in values:
        if reference.get("optional"):
            return None
        where = f"{found['metadata']['namespace']}/{reference['name']}"
        raise ConfigError(f"couldn't find key {reference['key']} in {_TITLES[kind]} {where}")
    return values[reference["key"]].decode(errors="replace")


def _all_of(source: Obj, sources: Sources) -> dict[str, str]:
    prefix = source.get("prefix") or ""
    for kind, short in (("configMapKeyRef", "configMapRef"), ("secretKeyRef", "secretRef")):
        if short not in source:
            continue
        label, fetch, read = _kinds(sources)[kind]
        found = fetch(source[short]["name"])
        if found is None:
            if source[short].get("optional"):
                return {}
            raise ConfigError(f'{label} "{source[short]["name"]}" not found')
        named = {prefix + name: value for name, value in read(found).items()}
        return {k: v.decode(errors="replace") for k, v in named.items() if _NAME.fullmatch(k)}
    return {}


_Reader = Callable[[Obj], dict[str, bytes]]


def _kinds(sources: Sources) -> dict[str, tuple[str, Callable[[str], Obj | None], _Reader]]:
    return {
        "configMapKeyRef": ("configmap", sources.config_map, contents),
        "secretKeyRef": ("secret", sources.secret, decoded),
    }


def _listed(entries: Mapping[str, str]) -> str:
    pairs: Sequence[tuple[str, str]] = sorted(entries.items())
    return "\n".join(f'{name}="{value}"' for name, value in pairs)
