"""The entrance of the command line: `msr-async` and `python -m msr_async`."""

from __future__ import annotations

import sys

from .cli.streams import prepare

_EXTRA = {"cyclopts", "rich"}


def main() -> int:
    """Run what the arguments ask for and return the exit code."""
    prepare()
    try:
        import rich  # noqa: F401 - asked for here: cyclopts would ask later, in the middle of something

        from .cli.app import main as run
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        print(f'The command line needs {error.name}: pip install "msr_async[cli]".', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
