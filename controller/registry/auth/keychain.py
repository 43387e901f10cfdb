"""Finds the login for an image: its own, or else the operator's.

The operator's is that of the config, or else of the credential helper that the login file names for the host,
or else the file's own entry: docker too asks a helper before it believes an entry. An AWS access key is
exchanged for a login of ECR, wherever it was found.
"""

from collections.abc import Callable
from pathlib import Path

from controller.registry.auth.auth_file import AuthFile, normalize_key, server_name
from controller.registry.auth.credential_helpers import CredentialHelpers
from controller.registry.auth.ecr import EcrLogins, NoExchange, is_access_key
from controller.registry.http.settings import RegistrySettings
from reconcile.errors import Denied, ErrorCode
from reconcile.lrps import Credentials
from reconcile.references import ImageReference


class Keychain:
    """Looks up logins; its calls may block.

    Args:
        settings_of: Returns the settings of the registry at a host.
        auth_file: The login file; None when there is none.
        helpers: The credential helpers that the login file names.
        ecr: Exchanges AWS access keys.
    """

    def __init__(
        self,
        settings_of: Callable[[str], RegistrySettings],
        auth_file: Path | None = None,
        *,
        helpers: CredentialHelpers | None = None,
        ecr: EcrLogins | None = None,
    ) -> None:
        self._settings_of = settings_of
        self._file = None if auth_file is None else AuthFile(auth_file)
        self._helpers = helpers or CredentialHelpers()
        self._ecr = ecr or EcrLogins()

    def find(
        self,
        image: ImageReference,
        *,
        own: Credentials | None = None,
        refused: Credentials | None = None,
    ) -> Credentials | None:
        """Find the login for an image; None when there is none.

        Args:
            image: The image; its domain and path select the operator's login.
            own: The login that came with the image; None looks up the operator's.
            refused: A login that the registry refused; what returned it is asked again.

        Raises:
            Denied: The login is an AWS access key that AWS refuses, or that cannot be exchanged here.
            Unavailable: The API of ECR cannot be asked.
        """
        found = own if own is not None else self._find_operators(image, refused)
        if found is None or not is_access_key(image.domain, found):
            return found
        try:
            return self._ecr.exchange(image.domain, found, refused=refused)
        except NoExchange as error:
            operators = self._find_operators(image, refused)
            if operators is not None and not is_access_key(image.domain, operators):
                return operators
            detail = (
                f"{image.repository}: the login is an AWS access key, which has to be exchanged: the "
                "operator has to install this program's extra `ecr`, or name a credential helper for the host"
            )
            raise Denied("registry", ErrorCode.NO_ECR_EXCHANGE, detail) from error

    def _find_operators(self, image: ImageReference, refused: Credentials | None) -> Credentials | None:
        configured = self._settings_of(image.domain).current_login()
        if configured is not None:
            return configured
        if self._file is None:
            return None
        logins = self._file.logins()
        helper = logins.find_helper(image.domain)
        found = None
        if helper:
            found = self._helpers.find(helper, server_name(normalize_key(image.domain)), refused=refused)
        return found or logins.find(image.domain, image.path)
