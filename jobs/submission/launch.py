"""Where a submitted job begins, on the cluster: dr2e as it was sent, if this Python has what that needs."""

from __future__ import annotations

import sys
from collections.abc import Iterator

USAGE = 2
OLDEST = (3, 11)


def main() -> None:
    """Run the command line; exit code 2 with a line where something is lacking."""
    if lacking := list(_lacking()):
        print(
            f"dr2e: this cluster's Python ({sys.executable}) lacks {', '.join(lacking)}; install dr2e or what it needs "
            "on all machines, or name another Python with --python",
            file=sys.stderr,
        )
        sys.exit(USAGE)
    from jobs.cli import main

    main()


def _lacking() -> Iterator[str]:
    """What dr2e needs and this Python has not, or in another version."""
    from importlib.metadata import PackageNotFoundError, requires, version

    if sys.version_info < OLDEST:
        yield f"Python {'.'.join(map(str, OLDEST))} (it is {sys.version.split()[0]})"
        return
    from packaging.requirements import Requirement  # Ray needs it too

    for requirement in map(Requirement, requires("dr2e") or []):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            yield str(requirement)
        else:
            if not requirement.specifier.contains(found, prereleases=True):
                yield f"{requirement} (it has {found})"


if __name__ == "__main__":
    main()
