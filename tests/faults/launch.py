"""`python -m tests.faults.launch PATCH [PATCH ...] -- OPTION ...`: `logserver OPTION ...`, patched before it starts.

A PATCH is the name of a planted bug, or one of `levers` with its argument, such as `sync-error=7`.
"""

import sys

from logserver.main import main
from tests.faults.bugs.planted import BUGS, plant
from tests.faults.levers import LEVERS


def launch(arguments: list[str]) -> None:
    split = arguments.index("--")
    for word in arguments[:split]:
        name, _, argument = word.partition("=")
        if name in LEVERS:
            LEVERS[name](argument)
        elif name in BUGS:
            plant(name)
        else:
            sys.exit(f"there is no patch {name!r}; there are {', '.join([*LEVERS, *BUGS])}")
    sys.argv = ["logserver", *arguments[split + 1 :]]
    main()


if __name__ == "__main__":
    launch(sys.argv[1:])
