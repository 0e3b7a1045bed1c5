from .outbox import outbox_rows as outbox_rows, skip as skip
from .retries import RetryPolicy as RetryPolicy
from .signature import (
    SignatureError as SignatureError,
    signed_headers as signed_headers,
    verify_signature as verify_signature,
)
from .sinks import Message as Message, Outcome as Outcome, Sink as Sink
from .topics import Subscription as Subscription
from .worker import DeliveryWorker as DeliveryWorker

__all__ = [
    "DeliveryWorker",
    "Message",
    "Outcome",
    "RetryPolicy",
    "SignatureError",
    "Sink",
    "Subscription",
    "outbox_rows",
    "signed_headers",
    "skip",
    "verify_signature",
]
