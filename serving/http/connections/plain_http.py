"""HTTP/1.1 on a connection: every request is read as plain HTTP, whatever protocol it offers.

A client may offer another protocol with a request (``Upgrade: h2c``, as Java's client does on each
first request), and a server that does not want it answers as usual (RFC 9110, 7.8). The parser
instead ends the message at the offer and leaves its body in the stream, where it would be read as
the next request: a way past a proxy that counts the body. So the head is read again without it.
"""

from __future__ import annotations

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_OFFER = frozenset((b"connection", b"upgrade", b"http2-settings"))


class PlainHttpProtocol(HttpToolsProtocol):
    """uvicorn's protocol without a change of protocol; ``CONNECT`` is answered 400."""

    def data_received(self, data: bytes) -> None:
        """Read requests."""
        self._unset_keepalive_if_required()
        while True:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as offer:
                if self.parser.get_method() == b"CONNECT":
                    self._refuse("CONNECT is not supported.")
                    return
                # One round for each offer in the data: the head that is read again has none.
                data = self._plain_head() + data[offer.args[0] :]
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            except httptools.HttpParserError:
                self._refuse("Invalid HTTP request received.")
                return
            else:
                return

    def on_headers_complete(self) -> None:
        """Begin to answer, unless the head is to be read again."""
        if not self.parser.should_upgrade():
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        """End of a request, likewise."""
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def _plain_head(self) -> bytes:
        """The head of the request that was just read, without its offer."""
        version = self.parser.get_http_version().encode()
        lines = [b"%s %s HTTP/%s" % (self.parser.get_method(), self.url, version)]
        lines += [b"%s: %s" % header for header in self.headers if header[0] not in _OFFER]
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def _refuse(self, reason: str) -> None:
        """Answer 400 to what is no HTTP request, and end the connection."""
        self.send_400_response(reason)
