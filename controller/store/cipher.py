"""Makes the cipher of the journal from the journal key."""

from cryptography.fernet import Fernet, MultiFernet

from reconcile.errors import Invalid


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
