"""The FiftyOne app in a browser, on this machine alone."""

from __future__ import annotations

import socket
import webbrowser
from collections.abc import Callable
from time import monotonic, sleep
from types import ModuleType
from urllib.parse import quote
from urllib.request import urlopen

from glip.errors import InputError, JobFailed
from glip.review.database import open_dataset

# FiftyOne listens on `localhost`, or where its configuration says. Images and a database without a password are
# behind it, so it is told this address whatever that says.
ADDRESS = "127.0.0.1"
STARTING = 120.0  # seconds that it may take to answer


def check_port(port: int) -> None:
    """Refuses a port that cannot be listened on.

    Raises:
        InputError: it is taken, or no port.
    """
    if not 1 <= port <= 65535:
        raise InputError(f"--port is {port}; a port lies between 1 and 65535.")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ADDRESS, port))
        except OSError as error:
            raise InputError(
                f"Port {port} cannot be used ({error.strerror}); perhaps the app runs there already. "
                f"Choose another --port, or leave the app closed with --no-launch."
            ) from error


def show(fiftyone: ModuleType, name: str, port: int, ready: Callable[[str], object]) -> None:
    """Opens a dataset in the browser, and serves it until Ctrl-C.

    Args:
        fiftyone: connected.
        name: of the dataset.
        port: to listen on.
        ready: called with the app's address once it answers.

    Raises:
        JobFailed: it does not start.
    """
    from fiftyone.core.service import ServerService, ServiceListenTimeout

    open_dataset(fiftyone, name)
    server = None
    try:
        # The server alone, without a session: a session ends with the last tab, and takes a slow reload for that.
        server = ServerService(port, address=ADDRESS, do_not_track=True)
        _wait_for(f"http://{ADDRESS}:{port}/fiftyone")
        page = f"http://{ADDRESS}:{port}/datasets/{quote(name, safe='')}"
        ready(page)
        webbrowser.open(page)
        server.wait()
    except KeyboardInterrupt:
        return
    except ServiceListenTimeout as error:
        raise JobFailed(
            f"The app did not start within the minute that FiftyOne gives it: {error}. What was pushed is safe; "
            f"push again when this machine is less busy, or with another --port."
        ) from error
    finally:
        if server is not None:
            server.stop()


def _wait_for(address: str) -> None:
    end = monotonic() + STARTING
    while True:
        try:
            with urlopen(address, timeout=STARTING):  # noqa: S310  # on this machine
                return
        except OSError as error:
            if monotonic() > end:
                raise JobFailed(f"The app does not answer at {address} ({error}). Start it again.") from error
            sleep(0.2)
