"""Credentials of a kubeconfig, read anew when the API server has refused them.

They may come from a plugin whose tokens last for minutes (`exec`), or from a file that somebody
logs in to again. A pod's own token is read anew each minute by the client itself.
"""

import asyncio

from kubernetes.aio import config
from kubernetes.aio.client import Configuration

LIMIT_S = 30.0
# Refused for good, they are not asked for at each call.
AGAIN_S = 10.0
TOKEN = "BearerToken"  # noqa: S105  # its name


class Renewal:
    """A client's `refresh_api_key_hook`: called before each call, and mostly does nothing."""

    def __init__(self, context: str | None) -> None:
        self._context = context
        self._wanted = False
        self._not_before = float("-inf")
        self._turn = asyncio.Lock()

    def want(self, configuration: Configuration, refused: str | None) -> bool:
        """Whether a call with these credentials, which were refused, may be repeated at once."""
        if refused is None:
            return False  # they are certificates, which a client reads once
        if configuration.api_key.get(TOKEN) != refused:
            return True  # others have come since then
        if not self._wanted and asyncio.get_running_loop().time() < self._not_before:
            return False
        self._wanted = True
        return True

    async def __call__(self, configuration: Configuration) -> None:
        """Raises:
        ConfigException, OSError: they cannot be read; a plugin that takes too long is one of these.
        """
        if not self._wanted:
            return
        async with self._turn:
            if not self._wanted:
                return
            self._not_before = asyncio.get_running_loop().time() + AGAIN_S
            try:
                async with asyncio.timeout(LIMIT_S):
                    await config.load_kube_config(
                        context=self._context, client_configuration=configuration
                    )
            finally:
                self._wanted = False
