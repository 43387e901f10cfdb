"""Checks that nobody else on this machine can read or change the database and the files with secrets."""

import asyncio

from controller.config import Config
from controller.doctor.findings import Findings, ok, warning
from controller.exposed_files import exposed_files

FILES = "files"


async def check_files(config: Config) -> Findings:
    """Name each file and directory that is open to every user."""
    exposed = await asyncio.to_thread(exposed_files, config)
    for each in exposed:
        yield warning(FILES, str(each), each.advice)
    if not exposed:
        yield ok(FILES, "the database and the files with secrets are closed to other users")
