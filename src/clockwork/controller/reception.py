"""Inferences that arrive: wrong ones are answered at once, the others go to the policy.

Overload. When events arrive faster than they can be handled they wait in the shell, and a role that
took them in order would spend all its time on requests that are nearly late. A request that has
waited for a quarter of its SLO before it is looked at is therefore refused at once, which costs the
role a tenth of serving it, bounds the wait of all others, and keeps goodput near its peak. What
waits because of a pause is soon made up for, and served if it waited for less than half of its SLO.
(The thought is CoDel's, Nichols and Jacobson 2012: queues that stand are bad, bursts are not.)

Inputs. A payload is a model's input as it is, or an LZ4 block of it that is shorter; so a size
other than the model's tells a worker that it has to unpack. A request without input gets one that
is made up here if the controller was given a maker of inputs (`generate_inputs`); its answer then
has no output, as in the original. Otherwise the worker makes one up.

Source: SPEC 2.3, 4.4, 4.7.
"""

from collections.abc import Callable
from typing import Final

from clockwork.controller.cluster import Cluster, Model
from clockwork.controller.config import ControllerConfig
from clockwork.controller.ledger import Ledger
from clockwork.controller.policies.admission import slo_of
from clockwork.controller.policy import Policy
from clockwork.controller.printing import network_line
from clockwork.messages.controller_io import FromClient, Say, ToClient
from clockwork.messages.ids import ClientId, ModelId
from clockwork.messages.models import ModelProfile
from clockwork.messages.records import RequestRecord
from clockwork.messages.requests import OVERLOADED, InferRequest, InferResponse
from clockwork.messages.role import Payload
from clockwork.messages.status import Status
from clockwork.units import MS

MakeInput = Callable[[ModelProfile], Payload]
"""Returns an input for a model, raw or as an LZ4 block; the same one for the same tensors."""

SHED_SHARE: Final = 4
"""A request that waited for one part in so many of its SLO before admission is refused (chosen)."""
SHED_SHARE_AT_FIRST: Final = 2
"""The same within `PATIENCE_NS` of falling behind (chosen). If it stayed so, requests would wait
here and then find devices that run them one by one: at twice the capacity half of the goodput was
lost."""
PATIENCE_NS: Final = 300 * MS
"""How long making up for a pause may take (chosen: in plain Python, 27,000 requests/s were all
answered in time in four of five runs, and without patience in none)."""
NORMAL_WAIT_NS: Final = 5 * MS
"""Waits up to this are normal for a busy event loop and never a reason to refuse (measured)."""


class Reception:
    """Checks inferences and hands them to the policy."""

    def __init__(
        self,
        *,
        config: ControllerConfig,
        cluster: Cluster,
        ledger: Ledger,
        policy: Policy,
        make_input: MakeInput | None,
    ) -> None:
        self._config = config
        self._requests_max = config.requests_max
        self._cluster = cluster
        self._ledger = ledger
        self._policy = policy
        self._make_input = make_input
        self._has_admitted = False
        # Since when requests have been waiting for us; None: the last one had not.
        self._behind_since_ns: int | None = None

    def admit(self, event: FromClient, message: InferRequest, now_ns: int) -> None:
        """Hand a request to the policy, or answer at once that it is wrong or comes too late."""
        client_id, payload, at_ns = event.client_id, event.payload, event.at_ns
        model = self._cluster.models.get(message.model_id)
        if model is None or model.is_unloading:
            text = f"Invalid model ID {message.model_id}: LS lists the models"
            self._answer(client_id, message, Status.ERROR, text)
        elif payload and (
            len(payload) >= model.input_bytes
            if message.is_compressed
            else len(payload) != model.input_bytes
        ):
            text = _misfit(message, payload, model)
            self._answer(client_id, message, Status.INVALID_REQUEST, text)
        elif message.slo_ns < 0:
            text = f"the SLO is {message.slo_ns} ns; it must not be negative"
            self._answer(client_id, message, Status.INVALID_REQUEST, text)
        elif self._ledger.open_count >= self._requests_max:
            text = f"{self._ledger.open_count} requests are open already; try again later"
            self._answer(client_id, message, Status.COULD_NOT_START_IN_TIME, text)
        elif now_ns - at_ns > NORMAL_WAIT_NS and self._is_stale(message, model, at_ns, now_ns):
            self._shed(event, message, model, now_ns)
        else:
            if now_ns - at_ns <= NORMAL_WAIT_NS:
                self._behind_since_ns = None
            if not self._has_admitted:
                self._tell_network(payload)
            if not payload and self._make_input is not None:
                payload = self._made_up(model, self._make_input)
            client = self._ledger.client(client_id)
            self._policy.admit(client, message, model, payload, at_ns, now_ns)

    def _tell_network(self, payload: Payload) -> None:
        """Print where inputs come from, once, at the first inference."""
        self._has_admitted = True
        line = network_line(by_client=bool(payload), by_controller=self._make_input is not None)
        self._ledger.effects.append(Say(line))

    def _made_up(self, model: Model, make_input: MakeInput) -> Payload:
        """Return the input that all requests for a model get which have none."""
        if model.made_up_input is None:
            if not model.input_bytes:
                return b""
            model.made_up_input = make_input(model.profile)
        return model.made_up_input

    def _is_stale(self, message: InferRequest, model: Model, at_ns: int, now_ns: int) -> bool:
        """Return whether a request waited too long for admission to be worth serving."""
        if self._behind_since_ns is None:
            self._behind_since_ns = at_ns
        is_pause = now_ns - self._behind_since_ns <= PATIENCE_NS
        share = SHED_SHARE_AT_FIRST if is_pause else SHED_SHARE
        return (now_ns - at_ns) * share > slo_of(message, model, self._config)

    def _shed(self, event: FromClient, message: InferRequest, model: Model, now_ns: int) -> None:
        """Refuse a request because the controller itself is overloaded."""
        waited_ns, copies = now_ns - event.at_ns, model.warm_mask.bit_count()
        status = Status.COULD_NOT_START_IN_TIME
        response = InferResponse(
            message.user_request_id, status, OVERLOADED, message.model_id, 0, waited_ns, not copies
        )
        self._ledger.effects.append(ToClient(event.client_id, response, b""))
        self._ledger.effects.append(
            RequestRecord(
                event.at_ns,
                self._ledger.next_request_id(),
                status,
                message.user_id,
                message.model_id,
                message.slo_factor,
                waited_ns,
                slo_of(message, model, self._config),
                0,
                copies,
                copies,
                int(not copies),
            )
        )

    def _answer(
        self, client_id: ClientId, message: InferRequest, status: Status, text: str
    ) -> None:
        """Answer a request that is not admitted."""
        model_id: ModelId = message.model_id
        response = InferResponse(message.user_request_id, status, text, model_id, 0, 0, False)
        self._ledger.effects.append(ToClient(client_id, response, b""))


def _misfit(message: InferRequest, payload: Payload, model: Model) -> str:
    if message.is_compressed:
        return (
            f"the compressed input has {len(payload)} bytes, no fewer than the {model.input_bytes} "
            f"that model {message.model_id} takes: send it as it is"
        )
    return f"the input has {len(payload)} bytes, model {message.model_id} takes {model.input_bytes}"
