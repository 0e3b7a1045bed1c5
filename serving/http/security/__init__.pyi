from .duplicate_keys import duplicate_key as duplicate_key
from .json_web_tokens import JsonWebTokens as JsonWebTokens
from .request_checks import RequestChecks as RequestChecks
from .response_headers import security_headers as security_headers
from .tls import Certificate as Certificate

__all__ = [
    "Certificate",
    "JsonWebTokens",
    "RequestChecks",
    "duplicate_key",
    "security_headers",
]
