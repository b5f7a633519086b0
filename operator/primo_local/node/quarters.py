"""What a pod gives its containers: directory, volumes, devices, environment, and a voice."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from primo_local.client import Client, Obj
from primo_local.controllers.events import Recorder, Severity
from primo_local.node import sources, volumes
from primo_local.node.container import BackoffSettings, Files
from primo_local.node.devices import Devices, shares
from primo_local.node.environment import command_of, variables_of
from primo_local.node.paths import PathMap
from primo_local.node.runtime import Order, base_environment

TERMINATION_LOG: Final = "/dev/termination-log"


@dataclass(frozen=True, slots=True)
class Settings:
    backoff: BackoffSettings = field(default_factory=BackoffSettings)
    usage_period_s: float = 5.0  # between looks at emptyDir limits


@dataclass(frozen=True, slots=True)
class Host:
    """What the node offers to its pods."""

    client: Client
    recorder: Recorder
    devices: Devices
    pods: Path
    claims: Path
    workdir: Path
    capacity: Mapping[str, str]
    settings: Settings


class Quarters:
    """The `Surroundings` of a pod's containers."""

    def __init__(self, host: Host, pod: Obj, changed: Callable[[], None]) -> None:
        self._host = host
        self._pod = pod  # spec and names, which do not change
        self.directory = host.pods / pod["metadata"]["uid"]
        self.places: dict[str, Path] = {}
        self._gpus: Mapping[str, Sequence[int]] = {}
        self.changed = changed

    async def prepare(self, lent: Sequence[int]) -> None:
        """Make the volumes and share out the devices; safe to repeat.

        Raises:
            ConfigError: a ConfigMap or Secret that a volume needs is missing.
            ClientError: the API server does not answer.
        """
        self._gpus = shares(self._pod, lent)
        known = await sources.fetch(self._host.client, self._pod, self._host.capacity)
        root = self.directory / "volumes"
        self.places = volumes.prepare(self._pod, root, self._host.claims, known)

    def files_of(self, container: str) -> Files:
        return Files(
            message=self.directory / "containers" / container / "termination-log",
            logs=self.directory / "logs" / container,
        )

    async def order(self, container: Obj, files: Files, attempt: int) -> Order:
        """What to run for a container, with its message file empty; see `Surroundings`."""
        known = await sources.fetch(self._host.client, self._pod, self._host.capacity)
        declared = variables_of(container, self._pod, known)
        places = volumes.mounts(container, self.places, declared)
        message = container.get("terminationMessagePath") or TERMINATION_LOG
        paths = PathMap({**places, message: files.message})
        home, temporary = self.directory / "home", self.directory / "tmp"
        for folder in (files.message.parent, home, temporary):
            folder.mkdir(parents=True, exist_ok=True)
        files.message.write_bytes(b"")
        files.message.chmod(0o666)
        base = base_environment(home, temporary, self._pod["metadata"]["name"])
        own = {name: paths.rewrite(value) for name, value in declared.items()}
        return Order(
            argv=[paths.rewrite(word) for word in command_of(container, declared)],
            env=base | self._gpu_variables(container) | own,
            cwd=paths.locate(container.get("workingDir") or "") or self._host.workdir,
            log=files.log_of(attempt),
        )

    def tell(self, container: Obj, severity: Severity, reason: str, message: str) -> None:
        """Record an Event about one container."""
        inits = [each["name"] for each in self._pod["spec"].get("initContainers") or []]
        group = "initContainers" if container["name"] in inits else "containers"
        path = f"spec.{group}{{{container['name']}}}"
        self._host.recorder.record(self._pod, severity, reason, message, path)

    def _gpu_variables(self, container: Obj) -> dict[str, str]:
        lent = self._gpus.get(container["name"], ())
        if not lent:
            # Without a request a container sees no device, as with NVIDIA's device plugin.
            return {"CUDA_VISIBLE_DEVICES": "", "NVIDIA_VISIBLE_DEVICES": "void"}
        visible = self._host.devices.visible(lent)
        # Else CUDA numbers the fastest one 0, and NVML, which counts energy, the first on the bus.
        order = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
        return {"CUDA_VISIBLE_DEVICES": visible, "NVIDIA_VISIBLE_DEVICES": visible, **order}
