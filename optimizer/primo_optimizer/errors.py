"""What we raise on purpose.

    PrimoError
    ├── InvalidSpecError      an edit by the user is needed; trying again does not help
    │   └── ManifestError     (primo_operator.manifest_files) a file does not hold manifests
    ├── SpaceExhaustedError   (optimizer.py) every configuration has been proposed
    ├── DeviceError           another machine, or another device, is needed
    ├── TellError             (ask_tell.py) what was told does not fit what was asked
    ├── ClusterError          (primo_operator.cluster) try again later
    ├── BadSettingError       (primo_operator.settings) an administrator has to change it
    ├── LeadershipLostError   (primo_operator.leadership) this operator must stop
    ├── WorkerError           (primo_operator.worker_process) the optimizer gave no answer
    └── KubeError, SessionError, StudyGoneError, PrometheusError, CannotConvertError
                              (primo_cli) why `primo` ends, in a line

Everything else that is raised is a bug of ours.
"""


class PrimoError(Exception):
    """Root of the errors that PriMO raises on purpose."""


class InvalidSpecError(PrimoError, ValueError):
    """A study is described wrongly.

    Attributes:
        problems: one line each, `field: value is not what is expected`, in the order of the spec.
    """

    def __init__(self, *problems: str) -> None:
        self.problems = problems
        super().__init__("; ".join(problems))


class DeviceError(PrimoError):
    """Torch cannot use the device that `algorithm.settings.device` names on this machine."""
