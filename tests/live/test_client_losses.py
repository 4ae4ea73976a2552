"""The Python clients with controllers that start late, leave, or are something else."""

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import Future

import numpy as np
import pytest
from wire_stage import LOCALHOST, ControllerThread, PretendedRole, running

import clockwork
from clockwork.live.client_calls import RESENDS_MAX, RETRY_S
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
    """Without resending, requests fail with the reason; the next use dials the new controller."""
    with running(role) as controller:
        client = clockwork.connect(f"{LOCALHOST}:{controller.port}", timeout_s=20, resend=False)
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


def test_requests_survive_a_restart_of_the_controller(role: PretendedRole) -> None:
    """What was under way is sent again to the next controller; each call has one outcome."""
    with running(role) as controller:
        client = clockwork.connect(f"{LOCALHOST}:{controller.port}", timeout_s=20)
        model = client.load_model("/models/echo")
        role.is_holding = True
        futures = [model.infer_async(X + index) for index in range(3)]
        for _ in range(4):
            role.arrived.acquire()
    outcomes: list[Future[clockwork.Inference]] = []
    for future in futures:
        future.add_done_callback(outcomes.append)
    role.is_holding = False
    with running(role, controller.port), client:
        for index, future in enumerate(futures):
            np.testing.assert_array_equal(future.result()["y"], X + index)
    assert len(outcomes) == 3


def test_a_resent_request_has_what_is_left_of_its_slo(role: PretendedRole) -> None:
    """The second controller is asked for less than the first one was."""
    with running(role) as controller:
        client = clockwork.connect(f"{LOCALHOST}:{controller.port}", timeout_s=20)
        model = client.load_model("/models/echo")
        role.is_holding = True
        future = model.infer_async(X, slo_ms=60_000)
        for _ in range(2):
            role.arrived.acquire()
    role.is_holding = False
    with running(role, controller.port), client:
        future.result()
    first, second = filter(_is_inference, role.events)
    assert isinstance(first, FromClient)
    assert isinstance(second, FromClient)
    assert 0 < second.message.slo_ns < first.message.slo_ns == 60_000_000_000


def test_a_request_whose_slo_ends_while_nobody_is_there_is_told_why(role: PretendedRole) -> None:
    """It does not wait for the next controller, and says what happened."""
    with running(role) as controller:
        client = clockwork.connect(f"{LOCALHOST}:{controller.port}", timeout_s=60)
        model = client.load_model("/models/echo")
        role.is_holding = True
        future = model.infer_async(X, slo_ms=300)
        for _ in range(2):
            role.arrived.acquire()
    with client, pytest.raises(clockwork.ConnectionLostError, match="its SLO ended before"):
        future.result()


def test_a_time_limit_holds_while_nobody_is_there(role: PretendedRole) -> None:
    """The caller's own limit ends a call that waits for the next controller."""
    with running(role) as controller:
        client = clockwork.connect(f"{LOCALHOST}:{controller.port}", timeout_s=60)
        model = client.load_model("/models/echo")
        role.is_holding = True
        future = model.infer_async(X, timeout_s=0.3)
        for _ in range(2):
            role.arrived.acquire()
    with client, pytest.raises(clockwork.TimedOutError, match=r"no answer within 0\.3 s"):
        future.result()


def test_a_request_that_ends_every_controller_is_given_up(role: PretendedRole) -> None:
    """After some controllers it is not sent to the next one."""
    client, port = None, 0
    for _ in range(RESENDS_MAX + 1):
        with running(role, port) as controller:
            port = controller.port
            if client is None:
                client = clockwork.connect(f"{LOCALHOST}:{port}", timeout_s=60)
                model = client.load_model("/models/echo")
                role.arrived.acquire()
                role.is_holding = True
                future = model.infer_async(X)
            role.arrived.acquire()
    assert client is not None
    with client, pytest.raises(clockwork.ConnectionLostError, match=r"\(sent 4 times\)"):
        future.result()


def test_what_must_not_happen_twice_is_not_sent_twice(role: PretendedRole) -> None:
    """A LoadModel that may have been carried out ends with the loss."""
    role.is_mute = True
    with running(role) as controller:
        client = clockwork.connect(f"{LOCALHOST}:{controller.port}", timeout_s=60)
        failures: Future[BaseException] = Future()

        def load() -> None:
            with pytest.raises(clockwork.ConnectionLostError) as caught:
                client.load_model("/models/echo")
            failures.set_result(caught.value)

        thread = threading.Thread(target=load)
        thread.start()
        role.arrived.acquire()
    with client:
        assert "shutting down" in str(failures.result())
    thread.join()
    assert len(role.events) == 2


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
