"""Requests without demands, for policies that place nothing by demand."""

from clockwork.controller.cluster import Model
from clockwork.controller.ledger import Ledger
from clockwork.controller.underway import Client, Request
from clockwork.messages.requests import InferRequest
from clockwork.messages.role import Payload


def open_request(
    ledger: Ledger,
    client: Client,
    message: InferRequest,
    model: Model,
    payload: Payload,
    *,
    at_ns: int,
    slo_ns: int,
) -> Request:
    """Return a request that was taken into the ledger and has to be answered."""
    request = Request(
        request_id=ledger.next_request_id(),
        client=client,
        message=message,
        payload=payload,
        model=model,
        arrived_at_ns=at_ns,
        deadline_ns=at_ns + slo_ns,
        internal_deadline_ns=at_ns + slo_ns,
        exec_demand=0,
        load_demand=0,
        load_expires_at_ns=at_ns,
        arrival_count=model.warm_mask.bit_count(),
    )
    ledger.open(request)
    return request
