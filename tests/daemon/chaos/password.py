"""Changes the login of the cells for the private registry in a chaos run, without a gap: first both are valid."""

import asyncio
import random
import time

from tests.daemon.chaos.daemon_life import Life
from tests.daemon.chaos.scene import Scene
from tests.daemon.environment import Environment
from tests.simulators.registry import BasicLogin

DAEMON = "docker-cache"
QUIET = 2.0
"""Seconds for which no LRP may have named the old account before it is disabled."""


def want_logins(env: Environment) -> dict[str, str]:
    """Let the private registry want a login from everybody, and give the daemon one.

    Returns:
        User name to password: what is changed in it is so at once, also in a registry that takes its place.
    """
    users = {DAEMON: "the daemon's"}
    env.cache.faults.login = BasicLogin(users)
    file = _secret(env, "cache-password", users[DAEMON])
    env.settings["cache_registry"] |= {"username": DAEMON, "password_file": file}
    return users


def _secret(env: Environment, name: str, text: str) -> str:
    file = env.directory / name
    file.write_text(text)
    file.chmod(0o600)
    return str(file)


class PasswordChanged:
    """Gives the cells another account, and disables the old one once no LRP names it."""

    pause = 15.0

    def __init__(self, scene: Scene, chance: random.Random, life: Life) -> None:
        self._scene, self._chance, self._life = scene, chance, life
        self._number = 0
        self._users = want_logins(scene.env)
        self._give_account()

    async def act(self) -> None:
        """Change it, and wait for the apps."""
        scene, old = self._scene, self._name
        self._number += 1
        self._give_account()
        scene.happened["passwords changed"] += 1
        scene.invariants.note(f"cells log in as {self._name}")
        await self._life.reload()
        quiet_since = time.monotonic()
        while scene.seconds_left:
            await asyncio.sleep(0.1)
            if self._naming(old):
                quiet_since = time.monotonic()
            elif time.monotonic() - quiet_since > QUIET:
                break
        else:
            return  # both stay valid
        del self._users[old]
        scene.happened["old passwords disabled"] += 1
        scene.invariants.note(f"{old} is disabled")

    def _give_account(self) -> None:
        """Make an account for the cells, and write it into the config."""
        env, password = self._scene.env, f"of {self._name}"
        self._users[self._name] = password
        file = _secret(env, "cells-password", password)
        env.settings |= {"cache_pull_username": self._name, "cache_pull_password_file": file}

    @property
    def _name(self) -> str:
        return f"cells-{self._number}"

    def _naming(self, name: str) -> list[str]:
        return [guid for guid, lrp in self._scene.env.bbs.state.desired.items() if lrp.image_username == name]

    def end(self) -> None:
        """Do nothing: the daemon changes the logins."""

    def unrest(self) -> list[str]:
        """Name the LRPs that run from a copy with another login than the present one."""
        prefix = f"docker://{self._scene.env.cache.address}/"
        return [
            f"{guid} logs in as {lrp.image_username}"
            for guid, lrp in self._scene.env.bbs.state.desired.items()
            if lrp.root_fs.startswith(prefix) and lrp.image_username != self._name
        ]
