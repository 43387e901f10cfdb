"""Makes the cipher of the journal from the journal key, and tells which key has sealed something.

Source: the Fernet specification, github.com/fernet/spec: a token ends with the HMAC of all before it, by the
first half of the key.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence

from cryptography.fernet import Fernet, MultiFernet

from reconcile.errors import Invalid

_MAC_SIZE = 32
_SIGNING_KEY_SIZE = 16


def cipher_from_key(journal_key: bytes) -> MultiFernet:
    """Read one or more Fernet keys, separated by white space; the first one encrypts.

    Raises:
        Invalid: `journal-key`; the key is not shown.
    """
    try:
        return MultiFernet([Fernet(key) for key in journal_key.split()])
    except ValueError as error:
        raise Invalid(
            "store",
            "journal-key",
            "the journal key is not 32 bytes in URL-safe base64: "
            "make one with: openssl rand -base64 32 | tr '+/' '-_'",
        ) from error


def signing_keys(journal_key: bytes) -> tuple[bytes, ...]:
    """Read what tells tokens of the keys apart, in the order of the keys."""
    return tuple(base64.urlsafe_b64decode(key)[:_SIGNING_KEY_SIZE] for key in journal_key.split())


def sealed_by(token: bytes, keys: Sequence[bytes]) -> int | None:
    """Return the place of the signing key that has sealed a token; None when it is none of them.

    It decrypts nothing, so that hundreds of thousands of tokens can be looked at.
    """
    try:
        content = base64.urlsafe_b64decode(token)
    except (binascii.Error, ValueError):
        return None
    body, mac = content[:-_MAC_SIZE], content[-_MAC_SIZE:]
    found = (
        place
        for place, key in enumerate(keys)
        if hmac.compare_digest(hmac.digest(key, body, hashlib.sha256), mac)
    )
    return next(found, None)
