"""Serves the FiftyOne app to a browser on this machine."""

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

# FiftyOne's configuration may name another address. The app gives access to images and to a database without a
# password, so it always listens on loopback only.
ADDRESS = "127.0.0.1"
START_TIMEOUT = 120.0  # seconds that the app may take until it answers


def check_port(port: int) -> None:
    """Refuses a port on which this process cannot listen.

    Raises:
        InputError: the port is in use, or out of range.
    """
    if not 1 <= port <= 65535:
        raise InputError(f"port is {port}; it must lie between 1 and 65535.")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ADDRESS, port))
        except OSError as error:
            raise InputError(
                f"port is {port}, which cannot be used ({error.strerror}). Perhaps the app is already running. Choose "
                f"another port, or do not launch the app."
            ) from error


def serve(fiftyone: ModuleType, name: str, port: int, ready: Callable[[str], object]) -> None:
    """Opens a dataset in the browser and serves the app until Ctrl-C.

    Args:
        fiftyone: connected to its database.
        name: of the dataset.
        port: to listen on.
        ready: called with the app's URL as soon as it answers.

    Raises:
        JobFailed: the app does not start.
    """
    from fiftyone.core.service import ServerService, ServiceListenTimeout

    open_dataset(fiftyone, name)
    server = None
    try:
        # Only the server, without FiftyOne's session: a session ends with the last tab, even if a page is reloaded.
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
            f"The app did not start within FiftyOne's limit of one minute: {error}. The pushed labels are safe. Try "
            f"again when this machine is less busy, or with another port."
        ) from error
    finally:
        if server is not None:
            server.stop()


def _wait_for(address: str) -> None:
    end = monotonic() + START_TIMEOUT
    while True:
        try:
            with urlopen(address, timeout=START_TIMEOUT):  # noqa: S310  # on this machine
                return
        except OSError as error:
            if monotonic() > end:
                raise JobFailed(f"The app does not answer at {address} ({error}). Try again.") from error
            sleep(0.2)
