"""What an API server answers: an object, or which error it is.

The status alone does not tell: admission chooses its own, and the store's refusals come as others.
"""

import re

from primo_operator import deep
from primo_operator.cluster import (
    AlreadyExistsError,
    ClusterError,
    ConflictError,
    ForbiddenError,
    NotFoundError,
    Object,
    RefusedError,
    TooLargeError,
)

# What the store says of too large an object (1.5 MiB as a rule), and a client of it before it asks,
# both as an error of the server's (500). It has had no effect.
TOO_LARGE = ("request is too large", "message larger than max")
# A Job that is too large the API server sends to its store once more, without managedFields and as
# new, and then refuses the labels that it has set itself the first time. A dry run stores nothing.
LABELLED_TWICE = "spec.template.metadata.labels[batch.kubernetes.io/controller-uid]: Invalid value"
# 403 says that there is no right to a call, but also what admission thinks of an object: a quota,
# Pod Security, a webhook. The authorizer begins with the user; the second is of the admission
# plugin that asks it for a right to the owner of a new object.
NO_RIGHT = re.compile(
    r"""(?:[^"]+?(?:\ "[^"]*")?\ is\ )?forbidden:\ (?:
        User\ "(?:[^"\\]|\\.)*"\ cannot\ \S+\ (?:resource|path)\ "
        | cannot\ set\ blockOwnerDeletion\ )""",
    re.VERBOSE,
)

# A policy and a webhook choose the status of their refusals: 422 and 400 if they do not, but also
# 401, 413 or 500. It tells nothing of what is wrong, and what they deny they may allow later.
DENIED = re.compile(
    r"""[^"]+\ "[^"]*"\ is\ forbidden:\ ValidatingAdmissionPolicy\ '
        | admission\ webhook\ "[^"]*"\ denied\ the\ request""",
    re.VERBOSE,
)
# Of one that could not be asked, with `failurePolicy: Fail`: nothing has been stored.
UNASKED = "Internal error occurred: failed calling webhook "


def read(method: str, path: str, status: int, content: bytes) -> Object:
    """What the API server has answered to a call.

    Raises:
        ClusterError: of which kind, by what the answer says.
    """
    try:
        answer = deep.loads(content)
        if not isinstance(answer, dict):
            raise ValueError
    except ValueError:
        if status == 413:  # of a proxy before it
            raise TooLargeError(status, f"{method} {path}: request entity too large") from None
        raise ClusterError(f"{method} {path}: {status}, and no JSON object") from None
    if status < 400:
        return answer
    message = str(answer.get("message") or status)
    reason = answer.get("reason")
    if DENIED.match(message):
        raise RefusedError(403, message)
    if status == 413 or (status == 500 and any(words in message for words in TOO_LARGE)):
        raise TooLargeError(413, f"{method} {path}: {message}")
    if status == 500 and message.startswith(UNASKED):
        raise RefusedError(status, message)
    if status == 401:
        raise ForbiddenError(status, f"{method} {path}: {message}")
    if status == 403 and NO_RIGHT.match(message):
        raise ForbiddenError(status, message)
    if status == 404:
        raise NotFoundError(status, message)
    if status == 409 and reason == "AlreadyExists":
        raise AlreadyExistsError(status, message)
    if status == 409:
        raise ConflictError(status, message)
    if status < 500:
        raise RefusedError(status, message)
    # After another error of the server's own the call may have had its effect.
    raise ClusterError(f"{method} {path}: {status} {message}")


def is_of_large_job(error: RefusedError) -> bool:
    """Whether it is about labels because a Job is too large."""
    return error.status == 422 and LABELLED_TWICE in error.message
