from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given, strategies as st

from ledger.audit.signing import KEY_VARIABLE, KeyPair, Signer, Verifier, make_key_pair
from market.core.errors import LedgerError

PAIR = make_key_pair()
OTHER = make_key_pair()
DOCUMENT = {"chains": {"main": {"seq": 3, "hash": "ab"}}, "at": "2026-01-01T00:00:00Z"}

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)
DOCUMENTS = st.dictionaries(
    st.text(max_size=4).filter(lambda name: name not in ("signature", "public_key")),
    VALUES,
    max_size=4,
)


@given(DOCUMENTS, DOCUMENTS)
def test_a_signature_holds_for_its_document_and_no_other(
    document: dict[str, object], other: dict[str, object]
) -> None:
    signed = Signer(PAIR.private).sign(document)
    verifier = Verifier([PAIR.public])
    assert verifier.problem(signed) is None
    moved = {**other, "public_key": signed["public_key"], "signature": signed["signature"]}
    assert (verifier.problem(moved) is None) == (document == other)


def test_unsigned_foreign_and_altered_documents_are_told_apart() -> None:
    signed = Signer(PAIR.private).sign(DOCUMENT)
    assert "not signed" in (Verifier([PAIR.public]).problem(DOCUMENT) or "")
    assert "not among the public keys" in (Verifier([OTHER.public]).problem(signed) or "")
    altered = {**signed, "at": "2026-01-02T00:00:00Z"}
    assert "signature is wrong" in (Verifier([PAIR.public]).problem(altered) or "")
    for junk in ("?", "AAAA", 3, ["x"]):
        assert Verifier([PAIR.public]).problem({**signed, "signature": junk}) is not None
        assert Verifier([PAIR.public]).problem({**signed, "public_key": junk}) is not None


def test_a_key_cannot_be_swapped_for_another_trusted_one() -> None:
    forged = {**Signer(OTHER.private).sign(DOCUMENT), "public_key": PAIR.public}
    assert Verifier([PAIR.public, OTHER.public]).problem(forged) is not None


def test_documents_of_a_former_key_pass_while_it_is_trusted() -> None:
    former = Signer(OTHER.private).sign(DOCUMENT)
    assert Verifier([PAIR.public, OTHER.public]).problem(former) is None


def test_pem_and_base64_are_the_same_key() -> None:
    key = Ed25519PrivateKey.from_private_bytes(base64.b64decode(PAIR.private))
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    signed = Signer(private).sign(DOCUMENT)
    assert signed == Signer(PAIR.private).sign(DOCUMENT)
    assert Verifier([public.decode()]).problem(signed) is None


def test_a_malformed_private_key_is_refused_and_never_shown() -> None:
    foreign = X25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    for text in ("hunter2", PAIR.private[:-8], foreign.decode(), "-----BEGIN nothing"):
        with pytest.raises(LedgerError, match=KEY_VARIABLE) as caught:
            Signer(text)
        assert text not in str(caught.value)
        with pytest.raises(LedgerError, match="public key") as caught:
            Verifier([text])
        assert text not in str(caught.value)


def test_the_key_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    assert Signer.from_environment() is None
    monkeypatch.setenv(KEY_VARIABLE, " ")
    assert Signer.from_environment() is None
    monkeypatch.setenv(KEY_VARIABLE, PAIR.private)
    signer = Signer.from_environment()
    assert signer is not None
    assert signer.public_key == PAIR.public


def test_key_pairs_are_fresh() -> None:
    pairs = [make_key_pair() for _ in range(20)]
    assert len({pair.private for pair in pairs}) == 20
    assert KeyPair(PAIR.private, PAIR.public) == PAIR
