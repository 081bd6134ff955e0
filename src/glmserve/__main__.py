"""The program: ``glmserve``, or ``python -m glmserve``."""

import sys

_INTERRUPTED = 130


def run() -> None:
    """Run the command of the command line; Ctrl-C while its code is read is no fault."""
    try:
        from glmserve.cli.main import main  # noqa: PLC0415 - reading it takes a moment
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    main(prog_name="glmserve")


if __name__ == "__main__":
    run()
