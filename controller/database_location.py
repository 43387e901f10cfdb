"""Says where the config has the database, and which password opens it."""

import os

from controller.config import Config
from controller.store.location import Location, location_from_url

PASSWORD_VARIABLE = "DOCKER_CACHE_DATABASE_PASSWORD"  # noqa: S105 - its name
"""Environment variable with the password, where neither a file nor the URL has one."""


def location_of(config: Config) -> Location:
    """Say where the database is; blocks.

    Raises:
        Invalid: `database-url` or `database-unsupported`.
    """
    return location_from_url(
        config.database_url,
        password=os.environ.get(PASSWORD_VARIABLE, ""),
        password_file=config.database_password_file,
        ca_cert_file=config.database_ca_cert_file,
    )
