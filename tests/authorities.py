"""Lets one authority be all that the system trusts, for a run of tests and the programs that it starts.

No certificate of a test is of the system's authorities, and a TLS context takes 25 ms to load them all.
"""

import os
from pathlib import Path

from tests.simulators.certificates import Authority

_NAMES = ("SSL_CERT_FILE", "SSL_CERT_DIR")
_KEPT = "TESTS_KEPT_"


def trust_one_authority(directory: Path) -> None:
    """Make an authority in a directory, and trust no other."""
    for name in _NAMES:
        if name in os.environ:
            os.environ[f"{_KEPT}{name}"] = os.environ[name]
    os.environ["SSL_CERT_FILE"] = str(Authority(directory, "system").certificate)
    os.environ["SSL_CERT_DIR"] = str(directory)


def environment_of_downloads() -> dict[str, str]:
    """Give the environment of a program that downloads packages, with the system's authorities."""
    environment = {name: value for name, value in os.environ.items() if name not in _NAMES}
    kept = {name.removeprefix(_KEPT): value for name, value in environment.items() if name.startswith(_KEPT)}
    return environment | kept
