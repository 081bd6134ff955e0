"""Run blocks of Python one after the other: a list of them as JSON in, what each printed or how it failed out.

Run by the interpreter that has the libraries which the blocks import; one process, as importing them takes seconds.
"""

import contextlib
import io
import json
import sys
import traceback


def run(code: str) -> dict[str, str | None]:
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            exec(compile(code, "block", "exec"), {"__name__": "__main__"})
    except BaseException:
        return {"printed": printed.getvalue(), "failed": traceback.format_exc()}
    return {"printed": printed.getvalue(), "failed": None}


if __name__ == "__main__":
    print(json.dumps([run(code) for code in json.load(sys.stdin)]))
