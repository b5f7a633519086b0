"""Pod logs: asked of the node that runs the pod, and passed on as they come."""

import ssl
from dataclasses import dataclass

import aiohttp
from aiohttp import web

from primo_local.apiserver.api import Api
from primo_local.apiserver.errors import ApiError, bad_request
from primo_local.apiserver.objects import Json, Key, dig
from primo_local.apiserver.requests import Target

_PASSED_ON = (
    "follow",
    "tailLines",
    "sinceSeconds",
    "sinceTime",
    "timestamps",
    "previous",
    "limitBytes",
)
_CONNECT_S = 10.0


@dataclass(frozen=True, slots=True)
class NodeAccess:
    """How nodes are reached: their port's certificate comes from our CA, the token is ours."""

    token: str
    tls: ssl.SSLContext


async def stream_log(
    request: web.Request, api: Api, target: Target, access: NodeAccess
) -> web.StreamResponse:
    pod = api.get(target.resource, target.key).obj
    container = _container(pod, request.query.get("container", ""))
    url = _log_url(api, pod, container)
    query = {name: request.query[name] for name in _PASSED_ON if name in request.query}
    headers = {"Authorization": f"Bearer {access.token}"}
    limits = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S)
    # The proxies of the environment are for the internet, not for a node.
    async with aiohttp.ClientSession(timeout=limits, trust_env=False) as session:
        try:
            reply = await session.get(url, params=query, headers=headers, ssl=access.tls)
        except aiohttp.ClientError as error:
            message = f'Get "{url}": {error}'
            raise ApiError(500, "InternalError", message) from error
        async with reply:
            return await _passed_on(request, reply)


async def _passed_on(request: web.Request, reply: aiohttp.ClientResponse) -> web.StreamResponse:
    if reply.status != 200:
        message = (await reply.text()).strip()
        reasons = {400: "BadRequest", 404: "NotFound"}
        raise ApiError(reply.status, reasons.get(reply.status, "InternalError"), message)
    response = web.StreamResponse(headers={"Content-Type": "text/plain"})
    await response.prepare(request)
    try:
        async for chunk in reply.content.iter_any():
            await response.write(chunk)
    except aiohttp.ClientPayloadError:
        pass  # the node went away: the log ends here
    await response.write_eof()
    return response


def _container(pod: Json, asked: str) -> str:
    spec = pod["spec"]
    mains = [each["name"] for each in spec["containers"]]
    inits = [each["name"] for each in spec.get("initContainers") or ()]
    name = pod["metadata"]["name"]
    if asked:
        if asked in mains + inits:
            return asked
        raise bad_request(f"container {asked} is not valid for pod {name}")
    if len(mains) == 1:
        return str(mains[0])
    listed = f"[{' '.join(mains)}]" + (
        f" or one of the init containers: [{' '.join(inits)}]" if inits else ""
    )
    raise bad_request(f"a container name must be specified for pod {name}, choose one of: {listed}")


def _log_url(api: Api, pod: Json, container: str) -> str:
    fields, name = pod["metadata"], dig(pod, "spec", "nodeName")
    if not name:
        raise bad_request(
            f'container "{container}" in pod "{fields["name"]}" is waiting to start: '
            "no node has taken the pod yet"
        )
    nodes = api.registry.get("", "v1", "nodes")
    node = api.get(nodes, Key("", name)).obj
    addresses = dig(node, "status", "addresses") or ()
    address = next((a["address"] for a in addresses if a["type"] == "InternalIP"), None)
    port = dig(node, "status", "daemonEndpoints", "kubeletEndpoint", "Port")
    if address is None or port is None:
        missing = "an InternalIP" if address is None else "a kubeletEndpoint port"
        message = f"node {name} has not published {missing} to ask for logs"
        raise ApiError(500, "InternalError", message)
    return (
        f"https://{address}:{port}/containerLogs/{fields['namespace']}/{fields['name']}/{container}"
    )
