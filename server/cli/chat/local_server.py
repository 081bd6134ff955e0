"""The server that ``glmserve chat MODEL`` starts for its conversation."""

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from queue import Queue

import click

from glmserve.bootstrap.uvicorn_server import Server, base_url, bind
from glmserve.cli.serve.run import prepare
from glmserve.config.schema import Settings
from glmserve.engine.interface import EngineState, EngineStatus
from glmserve.observability.logging import configure_logging


@contextmanager
def started(settings: Settings) -> Iterator[str]:
    """Serve a model on a free port while the block runs; yields the address.

    Raises:
        ClickException: the model cannot be served.
    """
    configure_logging(settings.log_level, settings.log_format, with_texts=settings.log_prompts)
    settled: Queue[EngineStatus] = Queue()
    with closing(bind("127.0.0.1", 0)) as listener:
        assembly = prepare(settings)
        server = Server(assembly, settings, lambda: settled.put(assembly.registry.get(None).status))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            status = settled.get()
            if status.state is EngineState.FAILED:
                raise click.ClickException(status.reason)
            yield base_url(listener)
        finally:
            server.should_exit = True
            thread.join()
