"""The Python clients with controllers that start late, leave, or are something else."""

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import Future

import numpy as np
import pytest
from wire_stage import LOCALHOST, ControllerThread, PretendedRole, running

import clockwork
from clockwork.live.client_calls import RETRY_S
from clockwork.messages.controller_io import FromClient
from clockwork.messages.requests import InferRequest

X = np.array([1, 2, 3], np.float32)


@pytest.fixture
def role() -> PretendedRole:
    """A role that gives back inputs."""
    return PretendedRole()


@pytest.fixture
def controller(role: PretendedRole) -> Iterator[ControllerThread]:
    """A controller with that role."""
    with running(role) as controller:
        yield controller


@pytest.fixture
def client(controller: ControllerThread) -> Iterator[clockwork.Client]:
    """A client of that controller."""
    with clockwork.connect(f"{LOCALHOST}:{controller.port}", timeout_s=5) as client:
        yield client


def free_port() -> int:
    """Return a port on which nobody listens."""
    with socket.create_server((LOCALHOST, 0)) as server:
        port: int = server.getsockname()[1]
        return port


def _is_inference(event: object) -> bool:
    return isinstance(event, FromClient) and isinstance(event.message, InferRequest)


def test_a_client_waits_while_the_controller_starts(
    client: clockwork.Client, role: PretendedRole
) -> None:
    """Status 5 is retried by the client itself."""
    model = client.load_model("/models/echo")
    role.initializing_count = 2
    np.testing.assert_array_equal(model.infer(X)["y"], X)
    assert len([each for each in role.events if _is_inference(each)]) == 3


def test_patience_with_a_starting_controller_ends(
    role: PretendedRole, controller: ControllerThread
) -> None:
    """After the client's timeout the user learns that the controller is still starting."""
    role.initializing_count = 1_000
    address = f"{LOCALHOST}:{controller.port}"
    with (
        clockwork.connect(address, timeout_s=RETRY_S / 2) as client,
        pytest.raises(clockwork.InitializingError, match="still starting"),
    ):
        client.models()


def test_a_client_may_be_there_before_the_controller(role: PretendedRole) -> None:
    """Connecting waits until somebody listens."""
    port = free_port()
    clients: Future[clockwork.Client] = Future()

    def come_early() -> None:
        clients.set_result(clockwork.connect(f"{LOCALHOST}:{port}", timeout_s=20))

    thread = threading.Thread(target=come_early)
    thread.start()
    with running(role, port):
        with clients.result() as client:
            assert client.models() == []
        thread.join()


def test_nobody_listens() -> None:
    """The error says where, why, what to do, and how long it was tried."""
    port = free_port()
    with pytest.raises(clockwork.ConnectionLostError) as caught:
        clockwork.connect(f"{LOCALHOST}:{port}", timeout_s=0.01)
    assert f"cannot reach {LOCALHOST}:{port}: nobody listens there" in str(caught.value)
    assert "waited 0.01 s" in str(caught.value)


@pytest.mark.parametrize("address", ["", "host:port", "host:0", ":12346", "host:99999"])
def test_bad_addresses_are_refused(address: str) -> None:
    """An address that cannot be read is a configuration error that shows a good one."""
    with pytest.raises(clockwork.ConfigurationError, match="localhost:12346"):
        clockwork.connect(address)


def test_a_lost_connection_fails_what_waits_and_is_made_again(role: PretendedRole) -> None:
    """Requests in flight fail with the reason; the next use dials the new controller."""
    with running(role) as controller:
        client = clockwork.connect(f"{LOCALHOST}:{controller.port}", timeout_s=20)
        model = client.load_model("/models/echo")
        role.is_holding = True
        future = model.infer_async(X)
        role.arrived.acquire()
        role.arrived.acquire()
    with pytest.raises(clockwork.ConnectionLostError, match="the controller is shutting down"):
        future.result()
    role.is_holding = False
    with running(role, controller.port), client:
        np.testing.assert_array_equal(model.infer(X)["y"], X)


def test_a_client_that_leaves_is_forgotten(
    role: PretendedRole, controller: ControllerThread
) -> None:
    """Requests in flight do not hold anything: the role is told, others are served."""
    address = f"{LOCALHOST}:{controller.port}"
    leaver = clockwork.connect(address)
    model = leaver.load_model("/models/echo")
    role.is_holding = True
    future = model.infer_async(X)
    role.arrived.acquire()
    role.arrived.acquire()
    leaver.close()
    with pytest.raises(clockwork.ConnectionLostError, match="this client closed the connection"):
        future.result()
    role.lost_clients.acquire()
    controller.release_held()
    with clockwork.connect(address) as other:
        np.testing.assert_array_equal(other.model(0).infer(X)["y"], X)


def test_a_closed_client_says_so(client: clockwork.Client) -> None:
    """Nothing hangs after the end."""
    model = client.load_model("/models/echo")
    client.close()
    client.close()
    for use in (client.models, model.evict, lambda: model.infer(X)):
        with pytest.raises(clockwork.ConnectionLostError, match="this client is closed"):
            use()


def test_the_wrong_port_is_explained(role: PretendedRole) -> None:
    """A server of another protocol is not waited for."""
    with socket.create_server((LOCALHOST, 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\nServer: other\r\nDate: now\r\n\r\n")
            connection.close()

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(clockwork.ConnectionLostError, match="is this the right port"):
            clockwork.connect(f"{LOCALHOST}:{server.getsockname()[1]}", timeout_s=20)
        thread.join()
