"""Finds the operator's login for an image: of the config, in the login file, or in a credential helper.

The first of these that has a login is used. Credentials that come with an image take precedence over
all of them, and are not looked up here.
"""

from collections.abc import Callable
from pathlib import Path

from controller.registry.auth.auth_file import AuthFile, normalize_key, server_name
from controller.registry.auth.credential_helpers import CredentialHelpers
from controller.registry.http.settings import RegistrySettings
from reconcile.lrps import Credentials
from reconcile.references import ImageReference


class Keychain:
    """Looks up the operator's logins; its calls may block.

    Args:
        settings_of: Returns the settings of the registry at a host.
        auth_file: The login file; None when there is none.
        helpers: The credential helpers that the login file names.
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
            image: The image; its domain and path select the login.
            refused: A login that the registry refused; a helper that returned it is run again.
        """
        configured = self._settings_of(image.domain).current_login()
        if configured is not None:
            return configured
        if self._file is None:
            return None
        logins = self._file.logins()
        found = logins.find(image.domain, image.path)
        if found is not None:
            return found
        helper = logins.find_helper(normalize_key(image.domain))
        if not helper:
            return None
        return self._helpers.find(helper, server_name(image.domain), refused=refused)
