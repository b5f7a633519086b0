"""Fetches the ConfigMaps and Secrets that a pod names."""

from collections.abc import Iterator, Mapping

from primo_local.client import CONFIG_MAPS, SECRETS, Client, NotFoundError, Obj, Resource
from primo_local.node.environment import Sources


def named_in(pod: Obj) -> set[tuple[Resource, str]]:
    """All ConfigMaps and Secrets of the pod's variables and volumes."""
    spec = pod["spec"]
    found: set[tuple[Resource, str]] = set()
    for container in (*(spec.get("initContainers") or []), *spec["containers"]):
        for source in container.get("envFrom") or []:
            found |= set(_named(source, "configMapRef", "secretRef"))
        for entry in container.get("env") or []:
            found |= set(_named(entry.get("valueFrom") or {}, "configMapKeyRef", "secretKeyRef"))
    for volume in spec.get("volumes") or []:
        parts = [volume, *((volume.get("projected") or {}).get("sources") or [])]
        for part in parts:
            found |= set(_named(part, "configMap", "secret"))
    return found


def _named(holder: Obj, config_map: str, secret: str) -> Iterator[tuple[Resource, str]]:
    for field, resource in ((config_map, CONFIG_MAPS), (secret, SECRETS)):
        if reference := holder.get(field):
            # Only the secret volume calls it otherwise.
            yield resource, reference.get("name") or reference.get("secretName") or ""


async def fetch(client: Client, pod: Obj, capacity: Mapping[str, str]) -> Sources:
    """Those that exist, as they are now; raises ClientError if the server does not answer."""
    found: dict[tuple[Resource, str], Obj] = {}
    for resource, name in named_in(pod):
        try:
            found[resource, name] = await client.get(resource, pod["metadata"]["namespace"], name)
        except NotFoundError:
            continue  # whether that matters is for those who use it to say
    return Sources(
        config_map=lambda name: found.get((CONFIG_MAPS, name)),
        secret=lambda name: found.get((SECRETS, name)),
        capacity=capacity,
    )
