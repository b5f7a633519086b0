"""What kopf calls: events of studies become keys in the queue. No decisions here.

Only `on.event`: it writes nothing to the objects, neither annotations nor finalizers, so deleting
a study works while the operator is down, and nothing needs to be seen twice or in order. What
belongs to studies `watching.py` sees.
"""

import asyncio
import itertools
from collections.abc import Sequence
from typing import Any

import kopf

from primo_operator import names
from primo_operator.kubernetes_cluster import connect
from primo_operator.leadership import Candidacy
from primo_operator.operator import Operator
from primo_operator.settings import Settings

# A watch that falls silent is renewed; the server ends it before we do.
SERVER_TIMEOUT_S = 300
CLIENT_TIMEOUT_S = 330
AGAIN_S = 5.0


def registry(
    settings: Settings,
    context: str | None = None,
    candidacy: Candidacy | None = None,
    ending: asyncio.Future[int] | None = None,
    namespaces: Sequence[str] = (),
) -> kopf.OperatorRegistry:
    """All handlers, around one operator.

    Args:
        context: of the kubeconfig; None for the pod's own credentials or the current context.
        candidacy: what the operator waits for before it works, while it watches already; None: it
            works at once.
        ending: given the exit code at the end, and earlier if the operator leads no more: it has
            stopped working, and the process must end.
        namespaces: to watch; empty for all.
    """
    handlers = kopf.OperatorRegistry()

    def end(code: int) -> None:
        if ending and not ending.done():
            ending.set_result(code)

    operator = Operator(settings, context, candidacy, namespaces, end)

    @kopf.on.login(registry=handlers)
    async def login(**_: Any) -> kopf.ConnectionInfo:
        client = await connect(context)
        try:
            return _credentials(client.configuration)
        finally:
            await client.close()

    @kopf.on.startup(registry=handlers)
    async def start(settings: kopf.OperatorSettings, **_: Any) -> None:
        _configure(settings)
        await operator.start()

    @kopf.on.cleanup(registry=handlers)
    async def stop(**_: Any) -> None:
        await operator.stop()
        end(0)

    @kopf.on.probe(id="passes", registry=handlers)
    async def passes(**_: Any) -> int:
        if operator.ended:  # only a restart helps
            raise kopf.PermanentError(f"ended, and must not: {', '.join(operator.ended)}")
        return operator.passes

    @kopf.on.event(names.GROUP, names.VERSION, names.STUDIES, registry=handlers)
    async def study(event: kopf.RawEvent, **_: Any) -> None:
        operator.saw(dict(event["object"]), deleted=event["type"] == "DELETED")

    return handlers


def _configure(settings: kopf.OperatorSettings) -> None:
    # Held apart by a Lease: peering would freeze two equal ones.
    settings.peering.standalone = True
    # With scanning on, and its cluster-wide rights denied, kopf does nothing for a minute.
    settings.scanning.disabled = True
    settings.posting.enabled = False
    settings.watching.server_timeout = SERVER_TIMEOUT_S
    settings.watching.client_timeout = CLIENT_TIMEOUT_S
    settings.watching.connect_timeout = 10
    settings.networking.request_timeout = 30
    # Without end: where kopf gives up it ends for all namespaces, and one of them may be gone, with
    # our rights in it.
    settings.networking.error_backoffs = itertools.repeat(AGAIN_S)


def _credentials(configuration: Any) -> kopf.ConnectionInfo:
    # Some ways to credentials say "Bearer TOKEN", a pod's own "bearer TOKEN".
    token = (configuration.api_key.get("BearerToken") or "").rpartition(" ")[2].strip()
    return kopf.ConnectionInfo(
        server=configuration.host,
        ca_path=configuration.ssl_ca_cert,
        insecure=not configuration.verify_ssl,
        token=token or None,
        certificate_path=configuration.cert_file,
        private_key_path=configuration.key_file,
    )
