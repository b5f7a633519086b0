"""Where the files of a container really are.

There is no mount namespace. A volume is a directory of the node's, and what a container is told
about it is rewritten: in `command`, `args` and the values of `env` each path that a mount or the
termination message declares is replaced by the real one. Whole paths only, so that with a mount at
`/data` the path `/data/x` is rewritten, and `/database`, `/srv/data` and `https://host/data` are
not. A path that a program finds elsewhere (in its own code, in a file, in an answer from the
network) is *not* rewritten; programs that run here take their paths from arguments or environment.

Nor does it hide anything: the container sees the machine's files as the user who started the node,
`readOnly` is not enforced, and files that an image would have brought are not there.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

# A path begins at the start of the text or after a character that separates words, options or
# list items, and ends where a name could not go on.
_BEFORE: Final = r"(?:^|(?<=[\s\"'`=:,;(<>|&\[{@]))"
_AFTER: Final = r"(?![\w.\-])"


@dataclass(frozen=True, slots=True)
class PathMap:
    """The declared absolute paths of one container and what they stand for."""

    places: Mapping[str, Path]

    def rewrite(self, text: str) -> str:
        """Replace declared paths, the longest first where one lies inside another."""
        places = {declared.rstrip("/"): real for declared, real in self.places.items()}
        if not places:
            return text
        longest_first = sorted(places, key=len, reverse=True)
        declared = "|".join(re.escape(place) for place in longest_first)
        pattern = f"{_BEFORE}(?:{declared}){_AFTER}"
        return re.sub(pattern, lambda found: str(places[found[0]]), text, flags=re.MULTILINE)

    def locate(self, path: str) -> Path | None:
        """The real place of an absolute path; None if it lies below no declared one."""
        rewritten = self.rewrite(path)
        return Path(rewritten) if rewritten != path else None
