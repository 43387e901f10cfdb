"""Names the files with which a client of ours and its server know each other."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class MutualTls:
    """The files of mutual TLS, in PEM."""

    ca_cert_file: Path
    cert_file: Path
    key_file: Path
