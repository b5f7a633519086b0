"""Where torch computes."""

import torch

from primo_optimizer.errors import DeviceError


def require(device: str) -> None:
    """Make it ready: what a GPU's libraries load at their first use is loaded then.

    Raises:
        DeviceError: it is not there, torch was built without it, or it knows no double precision.
    """
    try:
        one = torch.eye(2, dtype=torch.double, device=device)
        torch.linalg.solve_triangular(torch.linalg.cholesky(one @ one), one, upper=False).cpu()
    except (AssertionError, RuntimeError, TypeError) as error:  # whichever it is that torch raises
        reason = str(error).partition("\n")[0]
        raise DeviceError(
            f"algorithm.settings.device: torch cannot use {device!r} here: {reason}"
        ) from error
