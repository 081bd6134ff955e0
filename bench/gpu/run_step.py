"""Runs one step in this process: ``python -m bench.gpu.run_step NAME ROWS --work FOLDER …``, which bench.gpu calls.

Each finding is a line of the file ROWS as soon as it is there, so that a step that is ended early has some.
"""

import argparse
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType

from bench.gpu import in_process, served, setup
from bench.gpu.__main__ import add_options
from bench.gpu.plan import Row
from bench.gpu.setup import Bench

STEPS: Mapping[str, Callable[[Bench], Iterator[Row]]] = MappingProxyType(
    {
        "build": setup.build,
        "machine": setup.machine,
        "models": setup.models,
        "fit": in_process.fit,
        "logits": in_process.logits,
        "layers": in_process.layers,
        "kv_types": in_process.kv_types,
        "states": served.states,
        "death": served.death,
        "floor": served.floor,
        "streams": served.streams,
        "sampling": served.sampling,
    }
)


def main() -> None:
    """Run the step and write its findings."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=STEPS)
    parser.add_argument("rows", type=Path)
    add_options(parser)
    options = parser.parse_args()
    bench = Bench(
        options.work, options.device, options.shape, options.wheel, options.programs, options.source,
        options.architecture,
    )  # fmt: skip
    with options.rows.open("w", encoding="utf-8") as lines:
        for row in STEPS[options.name](bench):
            print(f"{row.what}: {row.value}", flush=True)
            lines.write(json.dumps(asdict(row), ensure_ascii=False) + "\n")
            lines.flush()


if __name__ == "__main__":
    main()
