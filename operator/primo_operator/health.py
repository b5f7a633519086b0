"""The health endpoint while kopf does not serve it: the operator lives, and says what it waits for.

`?ready` after its path asks whether it works, too: then it is 503. kopf takes no notice of that.
"""

import contextlib
from collections.abc import AsyncIterator, Callable
from urllib.parse import urlsplit

from aiohttp import web


@contextlib.asynccontextmanager
async def waiting(url: str | None, words: Callable[[], str]) -> AsyncIterator[None]:
    """Serve it, if there is a URL for it.

    Raises:
        OSError: the port is taken.
    """
    if url is None:
        yield
        return

    async def answer(request: web.Request) -> web.Response:
        status = 503 if "ready" in request.query else 200
        return web.json_response({"waiting": words()}, status=status)

    parts = urlsplit(url)
    app = web.Application()
    app.router.add_get(parts.path, answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, parts.hostname or "localhost", parts.port or 80).start()
        yield
    finally:
        await runner.cleanup()
