"""Says which scopes of Cloud Controller a token has, and which of those that the daemon needs it lacks.

Source: cloud_controller_ng lib/vcap/cloud_controller/roles.rb and security/access_context.rb.
"""

import base64
import binascii
import json
from typing import Any

ADMIN = "cloud_controller.admin"
WRITE = "cloud_controller.write"
UPDATE = "cloud_controller.update_build_state"
READ_ALL = "cloud_controller.global_auditor"

_READERS = frozenset({ADMIN, READ_ALL, "cloud_controller.admin_read_only"})
"""Each of these reads everything; any other reads what its roles allow."""

_MAX_TOKEN = 64 * 1024  # characters


def missing_scopes(scopes: frozenset[str], *, updates: bool) -> tuple[str, ...]:
    """List what the daemon needs and a token lacks.

    Args:
        scopes: Of the token.
        updates: Whether droplets are to be changed.
    """
    if ADMIN in scopes:
        return ()
    missing = [each for each in (WRITE, UPDATE) if updates and each not in scopes]
    return (*missing, *(() if reads_all(scopes) else (READ_ALL,)))


def needed_scopes(*, updates: bool) -> tuple[str, ...]:
    """List the scopes that the daemon needs, of which a wider one serves as well."""
    return (WRITE, UPDATE, READ_ALL) if updates else (READ_ALL,)


def reads_all(scopes: frozenset[str]) -> bool:
    """Whether what is not there for a token is not there at all."""
    return not scopes.isdisjoint(_READERS)


def claims_of(token: str) -> dict[str, Any]:
    """Read the claims of a JWT without verifying it, which is for who takes it; empty for any other token."""
    parts = token.split(".") if len(token) <= _MAX_TOKEN else []
    if len(parts) != 3:
        return {}
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, RecursionError, binascii.Error):
        return {}
    return claims if isinstance(claims, dict) else {}


def scopes_of(token: str, stated: object) -> frozenset[str]:
    """Return the scopes in a token's claims, or else those that UAA stated beside it."""
    scope = claims_of(token).get("scope", stated)
    listed = scope.split() if isinstance(scope, str) else scope
    return (
        frozenset(each for each in listed if isinstance(each, str))
        if isinstance(listed, list)
        else frozenset()
    )
