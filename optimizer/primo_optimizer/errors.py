"""What we raise on purpose.

    PrimoError
    ├── InvalidSpecError      an edit by the user is needed; trying again does not help
    ├── SpaceExhaustedError   (optimizer.py) every configuration has been proposed
    ├── TellError             (ask_tell.py) what was told does not fit what was asked
    └── ClusterError          (primo_operator.cluster) try again later

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
