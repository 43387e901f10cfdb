"""What a daemon imports: no more than what its config calls for."""

import shutil
from pathlib import Path

from tests.controller.test_cli import imported
from tests.daemon.environment import open_environment


async def test_a_daemon_imports_no_docker_and_on_a_store_that_is_there_no_alembic(tmp_path: Path) -> None:
    """An operator's command without a daemon opens all that a daemon does, and ends by itself."""
    async with open_environment(tmp_path) as env:
        env.write_config()
        shutil.rmtree(env.directory / "store")
        arguments = ("status", "--direct", "--config", str(env.config_path))

        first, with_a_new_store = await imported(tmp_path, *arguments)
        second, with_a_store = await imported(tmp_path, *arguments)

    assert (first, second) == (0, 0)
    assert with_a_new_store - with_a_store == {"alembic"}
    assert with_a_store & {"alembic", "docker", "requests", "urllib3"} == set()
