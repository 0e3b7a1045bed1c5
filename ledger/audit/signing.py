"""Ed25519 signatures of heads files and archive manifests.

The private key comes from the environment only and is never shown; the public key is no secret.
Whoever can write the ledger's database and even its heads files cannot sign them without the
private key, so keep it where the database's administrator cannot read it.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ledger.canonical import canonical_bytes
from market.core.errors import LedgerError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

KEY_VARIABLE = "MARGINCAST_HEADS_KEY"
"""Environment variable of the private key: base64 of its 32 bytes, or PEM (PKCS 8)."""

SIGNATURE_FIELDS = ("public_key", "signature")
"""What `Signer.sign` adds to a document."""

_RAW_BYTES = 32


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A fresh pair, both halves in base64."""

    private: str
    public: str


class Signer:
    """Signs documents with a private key.

    Parameters
    ----------
    text:
        The private key, see `KEY_VARIABLE`.

    Raises
    ------
    LedgerError
        The text is no Ed25519 private key; the message does not repeat it.
    """

    def __init__(self, text: str) -> None:
        self._key = _private_key(text)
        self.public_key = _shown(self._key.public_key())

    @classmethod
    def from_environment(cls) -> Signer | None:
        """The signer of the key in the environment; None where there is none."""
        text = os.environ.get(KEY_VARIABLE, "")
        return cls(text) if text.strip() else None

    def sign(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """The document with the public key and the signature of its canonical JSON."""
        named = {**_unsigned(document), "public_key": self.public_key}
        signature = self._key.sign(canonical_bytes(named))
        return {**named, "signature": base64.b64encode(signature).decode()}


class Verifier:
    """Checks signatures against the public keys that are trusted.

    Parameters
    ----------
    texts:
        Public keys, each base64 of its 32 bytes or PEM; several where the key was changed.

    Raises
    ------
    LedgerError
        One is no Ed25519 public key.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        keys = [_public_key(text) for text in texts]
        self._keys = {_shown(key): key for key in keys}

    def problem(self, document: Mapping[str, Any]) -> str | None:
        """What is wrong with the signature of a document; None where a trusted key made it."""
        from cryptography.exceptions import InvalidSignature

        if not document.get("signature"):
            return "it is not signed"
        name = document.get("public_key")
        key = self._keys.get(name) if isinstance(name, str) else None
        if key is None:
            return f"it is signed by {name!r}, which is not among the public keys given"
        named = {**_unsigned(document), "public_key": name}
        try:
            signature = base64.b64decode(str(document["signature"]), validate=True)
            key.verify(signature, canonical_bytes(named))
        except (InvalidSignature, binascii.Error, ValueError):
            return "its signature is wrong: it was altered, or signed with another key"
        return None


def make_key_pair() -> KeyPair:
    """A new Ed25519 key pair from the operating system's randomness.

    References
    ----------
    RFC 8032, Edwards-Curve Digital Signature Algorithm.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    private = base64.b64encode(key.private_bytes_raw()).decode()
    return KeyPair(private, _shown(key.public_key()))


def _unsigned(document: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name not in SIGNATURE_FIELDS}


def _private_key(text: str) -> Ed25519PrivateKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        if "-----BEGIN" in text:
            key = load_pem_private_key(text.strip().encode(), password=None)
        else:
            key = Ed25519PrivateKey.from_private_bytes(_raw(text))
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise LedgerError(
            f"{KEY_VARIABLE} holds no Ed25519 private key; give base64 of 32 bytes as "
            "`margincast ledger keygen` prints it, or PEM without a password"
        )
    return key


def _public_key(text: str) -> Ed25519PublicKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        if "-----BEGIN" in text:
            key = load_pem_public_key(text.strip().encode())
        else:
            key = Ed25519PublicKey.from_public_bytes(_raw(text))
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise LedgerError(
            "a public key of heads is no Ed25519 public key; give base64 of 32 bytes as "
            "`margincast ledger keygen` prints it, or PEM"
        )
    return key


def _raw(text: str) -> bytes:
    raw = base64.b64decode("".join(text.split()), validate=True)
    if len(raw) != _RAW_BYTES:
        raise ValueError
    return raw


def _shown(key: Ed25519PublicKey) -> str:
    return base64.b64encode(key.public_bytes_raw()).decode()
