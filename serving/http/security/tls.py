"""The certificate of the endpoint: checked before it is used, read again when it changes."""

from __future__ import annotations

import asyncio
import logging
import ssl
from pathlib import Path

from market.core.errors import ConfigError
from market.core.files import FileStamp, file_stamp

LOOK_SECONDS = 10.0
"""Time between checks of the files for a change."""

_LOG = logging.getLogger("margincast.serving")
_NOT_YET, _EXPIRED = 9, 10
"""OpenSSL's X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED."""


class Certificate:
    """A certificate with its chain, and its private key, both in PEM.

    Parameters
    ----------
    cert, key:
        The files.

    Raises
    ------
    ConfigError
        A file is missing or unreadable, the key is encrypted or does not match the certificate,
        or the certificate is not valid now.

    Attributes
    ----------
    context:
        For the server; new connections use a certificate that was read again.
    """

    def __init__(self, cert: Path, key: Path) -> None:
        self._cert, self._key = cert, key
        self._stamps = self._file_stamps()
        _check(cert, key)
        self.context = _context(cert, key)

    async def follow(self) -> None:
        """Read the files again whenever they change, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self.look()

    def look(self) -> None:
        """Read the files again if they changed; until both match, the old certificate serves."""
        stamps = self._file_stamps()
        if stamps == self._stamps:
            return
        self._stamps = stamps
        try:
            _check(self._cert, self._key)
            self.context.load_cert_chain(self._cert, self._key, _no_password)
        except (ConfigError, OSError, ValueError) as error:
            _LOG.error("the certificate stays as it was: %s", error)
        else:
            _LOG.warning("the certificate was read again from %s", self._cert)

    def _file_stamps(self) -> tuple[FileStamp | None, FileStamp | None]:
        return file_stamp(self._cert), file_stamp(self._key)


def _check(cert: Path, key: Path) -> None:
    for name, path in (("tls_cert", cert), ("tls_key", key)):
        try:
            path.read_bytes()
        except OSError as error:
            raise ConfigError(
                f"[serving] {name} {str(path)!r} cannot be read ({error.strerror}); give a PEM "
                "file that the service may read"
            ) from None
    try:
        context = _context(cert, key)
    except (ssl.SSLError, ValueError) as error:
        raise ConfigError(_reason(cert, key, error)) from None
    code = _verify_code(context, cert)
    if code == _EXPIRED:
        raise ConfigError(f"[serving] tls_cert {str(cert)!r} has expired; renew it")
    if code == _NOT_YET:
        raise ConfigError(
            f"[serving] tls_cert {str(cert)!r} is not valid yet; check the clock of this machine"
        )


def _reason(cert: Path, key: Path, error: Exception) -> str:
    reason = getattr(error, "reason", None) or ""
    if "KEY_VALUES_MISMATCH" in reason or "KEY_TYPE_MISMATCH" in reason:
        return (
            f"[serving] tls_key {str(key)!r} is not the key of tls_cert {str(cert)!r}; give both "
            "of one pair"
        )
    if isinstance(error, _EncryptedKeyError):
        return f"[serving] tls_key {str(key)!r} is encrypted; give one without a password"
    return (
        f"[serving] tls_cert {str(cert)!r} and tls_key {str(key)!r} are no certificate and key in "
        f"PEM ({reason or error}); the certificate comes first, then its chain"
    )


def _context(cert: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(cert, key, _no_password)
    return context


class _EncryptedKeyError(ValueError):
    pass


def _no_password() -> str:
    """Refuse an encrypted key instead of prompting on the terminal."""
    raise _EncryptedKeyError("the key is encrypted")


def _verify_code(server: ssl.SSLContext, cert: Path) -> int:
    """OpenSSL's verification code of the certificate for a client that trusts only it; 0: valid.

    Server and client complete a handshake in memory, which also proves that the pair works.
    """
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    client.load_verify_locations(cert)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(to_client, to_server),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError as error:
                return error.verify_code
    return 0
