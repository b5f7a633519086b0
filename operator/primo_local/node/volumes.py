"""A pod's volumes as directories of the node's.

Config maps, secrets and downward API files are written once, when the pod starts; later changes
do not reach a running pod.
"""

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from primo_local.apiserver.quantity import parse
from primo_local.client import Obj
from primo_local.controllers.volumes import directory_of
from primo_local.node.environment import (
    ConfigError,
    Sources,
    contents,
    decoded,
    expand,
    field_of,
    resource_of,
)

SUPPORTED: Final = (
    "emptyDir",
    "persistentVolumeClaim",
    "configMap",
    "secret",
    "downwardAPI",
    "projected",
)
DEFAULT_MODE: Final = 0o644


def refusal(pod: Obj) -> str:
    """Why this node cannot ever mount a volume of the pod; empty if it can mount all."""
    for volume in pod["spec"].get("volumes") or []:
        kind = kind_of(volume)
        if kind == "hostPath":
            return (
                f'volume "{volume["name"]}": hostPath is refused, since containers run here as '
                "processes of this machine; use emptyDir or a persistentVolumeClaim"
            )
        if kind not in SUPPORTED:
            return f'volume "{volume["name"]}": {kind} is not one of {", ".join(SUPPORTED)}'
    for container in (*(pod["spec"].get("initContainers") or []), *pod["spec"]["containers"]):
        for mount in container.get("volumeMounts") or []:
            if mount["mountPath"].rstrip("/") == "":
                return f'container "{container["name"]}": mountPath "/" cannot be a directory here'
    return ""


def kind_of(volume: Obj) -> str:
    kinds = [name for name in volume if name != "name" and volume[name] is not None]
    return kinds[0] if kinds else "emptyDir"


def prepare(pod: Obj, root: Path, claims: Path, sources: Sources) -> dict[str, Path]:
    """Make the directories and files of all volumes; blocking, and safe to repeat.

    Args:
        root: where the pod's own volumes go; they end with the pod.
        claims: where those of claims are.

    Returns:
        the directory of each volume, by its name.

    Raises:
        ConfigError: something that a volume names is missing; try again later.
    """
    places = {}
    for volume in pod["spec"].get("volumes") or []:
        name = volume["name"]
        if kind_of(volume) == "persistentVolumeClaim":
            claim = volume["persistentVolumeClaim"]["claimName"]
            place = directory_of(claims, (pod["metadata"]["namespace"], claim))
            place.mkdir(parents=True, exist_ok=True, mode=0o700)
        else:
            place = root / name
            place.mkdir(parents=True, exist_ok=True)
            for path, content, mode in _files(volume, pod, sources):
                _write(place, path, content, mode)
        places[name] = place
    return places


def mounts(container: Obj, places: Mapping[str, Path], env: Mapping[str, str]) -> dict[str, Path]:
    """Where each mount path of a container really is; makes missing subPath directories."""
    found = {}
    for mount in container.get("volumeMounts") or []:
        place = places[mount["name"]]
        below = mount.get("subPath") or expand(mount.get("subPathExpr") or "", env)
        if below:
            place = _inside(place, below)
            if not place.exists():
                place.mkdir(parents=True)
        found[mount["mountPath"]] = place
    return found


def over_limit(pod: Obj, places: Mapping[str, Path]) -> str:
    """What the kubelet says of an emptyDir that is over its sizeLimit; blocking."""
    for volume in pod["spec"].get("volumes") or []:
        limit = (volume.get("emptyDir") or {}).get("sizeLimit")
        if limit and volume["name"] in places and used(places[volume["name"]]) > parse(str(limit)):
            return f'Usage of EmptyDir volume "{volume["name"]}" exceeds the limit "{limit}". '
    return ""


def has_limits(pod: Obj) -> bool:
    volumes = pod["spec"].get("volumes") or []
    return any((volume.get("emptyDir") or {}).get("sizeLimit") for volume in volumes)


def used(directory: Path) -> int:
    """Bytes allocated below a directory; links are not followed."""
    total = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            try:
                total += os.lstat(os.path.join(folder, name)).st_blocks * 512  # noqa: PTH118 - hot
            except FileNotFoundError:
                continue
    return total


def remove(directory: Path) -> None:
    """Delete a tree, also where the container has made directories unwritable; blocking."""

    def writable(_function: object, path: str, _error: object) -> None:
        parent = Path(path).parent
        try:
            parent.chmod(0o700)
            Path(path).chmod(0o700)
            if Path(path).is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                Path(path).unlink()
        except OSError:
            return  # another user's file: it stays behind

    shutil.rmtree(directory, onerror=writable)


_File = tuple[str, bytes, int]


def _files(volume: Obj, pod: Obj, sources: Sources) -> Iterator[_File]:
    kind = kind_of(volume)
    source = volume.get(kind) or {}
    mode = source.get("defaultMode") or DEFAULT_MODE
    if kind == "projected":
        for part in source.get("sources") or []:
            yield from _projected(part, pod, sources, mode)
    else:
        yield from _from(kind, source, pod, sources, mode)


def _projected(part: Obj, pod: Obj, sources: Sources, mode: int) -> Iterator[_File]:
    for kind, source in part.items():
        # There is no service account token to hand out; pods here have no access to the API.
        if kind != "serviceAccountToken" and source is not None:
            named = {"secretName": source["name"], **source} if kind == "secret" else source
            yield from _from(kind, named, pod, sources, mode)


def _from(kind: str, source: Obj, pod: Obj, sources: Sources, mode: int) -> Iterator[_File]:
    if kind == "downwardAPI":
        for item in source.get("items") or []:
            yield item["path"], _downward(item, pod, sources).encode(), item.get("mode") or mode
        return
    if kind not in ("configMap", "secret"):
        return
    secret = kind == "secret"
    name = source["secretName"] if secret else source["name"]
    found = sources.secret(name) if secret else sources.config_map(name)
    if found is None:
        if not source.get("optional"):
            label = "secret" if secret else "configmap"
            raise ConfigError(f'{label} "{name}" not found')
        return
    values = decoded(found) if secret else contents(found)
    items = source.get("items") or [{"key": key, "path": key} for key in values]
    for item in items:
        if item["key"] in values:
            yield item["path"], values[item["key"]], item.get("mode") or mode
        elif not source.get("optional"):
            raise ConfigError(f"references non-existent config key: {item['key']}")


def _downward(item: Obj, pod: Obj, sources: Sources) -> str:
    if "fieldRef" in item:
        return field_of(item["fieldRef"]["fieldPath"], pod)
    reference = item["resourceFieldRef"]
    return resource_of(reference, {"name": ""}, pod, sources.capacity)


def _write(place: Path, path: str, content: bytes, mode: int) -> None:
    target = _inside(place, path)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)  # an earlier try may have left it read-only
    target.write_bytes(content)
    target.chmod(mode)


def _inside(place: Path, path: str) -> Path:
    if ".." in Path(path).parts or Path(path).is_absolute():
        raise ConfigError(f"{path!r} does not stay inside its volume")
    return place / path
