"""Finds the operator's login for an image in the config, then in the login file, then in a credential helper.

A copy's own credentials precede all of these and are not looked up here.
"""

from collections.abc import Callable
from pathlib import Path

from controller.registry.auth.auth_file import AuthFile, normalised_key, server_name
from controller.registry.auth.credential_helpers import CredentialHelpers
from controller.registry.http.settings import RegistrySettings
from reconcile.lrps import Credentials
from reconcile.references import ImageReference


class Keychain:
    """The operator's logins; lookups may block.

    Args:
        settings_of: Returns the settings of a registry.
        auth_file: The login file; None for none.
        helpers: Runs the credential helpers that the file names.
    """

    def __init__(
        self,
        settings_of: Callable[[str], RegistrySettings],
        auth_file: Path | None = None,
        helpers: CredentialHelpers | None = None,
    ) -> None:
        self._settings_of = settings_of
        self._file = None if auth_file is None else AuthFile(auth_file)
        self._helpers = helpers or CredentialHelpers()

    def find(self, image: ImageReference, *, refused: Credentials | None = None) -> Credentials | None:
        """Find the login for an image; None when there is none.

        Args:
            image: Its domain and path decide.
            refused: A login that the registry refused; a newer one is looked for.
        """
        own = self._settings_of(image.domain).credentials
        if own is not None:
            return own
        if self._file is None:
            return None
        logins = self._file.logins()
        found = logins.find(image.domain, image.path)
        if found is not None:
            return found
        helper = logins.find_helper(normalised_key(image.domain))
        if not helper:
            return None
        return self._helpers.find(helper, server_name(image.domain), refused=refused)
