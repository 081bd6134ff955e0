"""Build the documentation site in both languages; any warning and any link that leads nowhere is an error.

Run by `make site` as ``python docs/sphinx/build.py build/site``.
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from links import check

HERE = Path(__file__).parent
SITES = {"en": HERE.parent, "zh": HERE.parent / "zh"}


def main() -> int:
    """Build into the folder that is named, and return the exit status."""
    parser = argparse.ArgumentParser(description="Build the documentation site.")
    parser.add_argument("out", type=Path, help="folder to make, such as build/site")
    out: Path = parser.parse_args().out
    shutil.rmtree(out, ignore_errors=True)
    running = [_sphinx(language, out) for language in SITES]
    statuses = [each.wait() for each in running]
    if any(statuses):
        return 1
    shutil.copy(HERE / "start.html", out / "index.html")
    found = check(out)
    for problem in found.problems:
        print(problem, file=sys.stderr)
    listing = out / "external-links.txt"
    listing.write_text("".join(f"{link}\n" for link in sorted(found.external)), "utf-8")
    print(f"{found.pages} pages, {found.internal} links checked; {len(found.external)} external ones in {listing}")
    return 1 if found.problems else 0


def _sphinx(language: str, out: Path) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "sphinx", "-q", "-E", "-W", "--keep-going", "-b", "html", "-c", str(HERE)]
    command += ["-t", language, "-d", str(out.with_name(f"{out.name}-doctrees") / language)]
    return subprocess.Popen([*command, str(SITES[language]), str(out / language)])


if __name__ == "__main__":
    sys.exit(main())
