"""What goes wrong at Cloud Controller's API in a chaos run, and who else changes droplets meanwhile."""

import asyncio
import random

from tests.daemon.chaos.scene import Scene
from tests.simulators.capi import faults
from tests.simulators.capi.faults import Action, Break, Hang, Slow
from tests.simulators.capi.records import Droplet, DropletState
from tests.simulators.capi.server import HttpService

ANY = "*"


class _ApiFault:
    """What these faults have in common: what ends with the run, and nothing to wait for."""

    def __init__(self, scene: Scene, chance: random.Random) -> None:
        self._scene, self._chance, self._capi = scene, chance, scene.env.capi

    def end(self) -> None:
        """Let nothing that was ordered happen any more."""
        self._capi.api.faults.clear()
        self._capi.uaa.faults.clear()

    def unrest(self) -> list[str]:
        """Say nothing: droplets are looked at."""
        return []

    def _happens(self, what: str, more: str = "") -> None:
        self._scene.happened[what] += 1
        self._scene.invariants.note(f"{what} {more}")

    def _order(self, what: str, service: HttpService, method: str, action: Action, most: int) -> None:
        service.faults.order(method, "", action, times=self._chance.randint(1, most))
        self._happens(what, f"{method} {action}")


class CloudControllerFails(_ApiFault):
    """Lets Cloud Controller or UAA refuse their next requests, for a reason or for none."""

    pause = 2.5

    async def act(self) -> None:
        """Order it."""
        if self._chance.random() < 0.2:
            of_uaa: list[Action] = [faults.limit_tokens(1), faults.not_from_us()]
            self._order("failures of UAA", self._capi.uaa, "POST", self._chance.choice(of_uaa), 2)
            return
        kinds: list[Action] = [
            faults.fail(),
            faults.be_unavailable(),
            faults.not_from_us(),
            faults.limit(1),
            faults.reject_token(),
            faults.forbid(),
            Break(),
        ]
        method = self._chance.choice(["GET", "PATCH", ANY])
        self._order("failures of Cloud Controller", self._capi.api, method, self._chance.choice(kinds), 3)


class CloudControllerSlow(_ApiFault):
    """Lets Cloud Controller take its time over its next requests, or never answer them."""

    pause = 5.0

    async def act(self) -> None:
        """Order it."""
        action = Slow(self._chance.uniform(0.5, 3.0)) if self._chance.random() < 0.7 else Hang()
        self._order("slow answers of Cloud Controller", self._capi.api, ANY, action, 3)


class CloudControllerAnswersLost(_ApiFault):
    """Lets Cloud Controller write what it is asked to, and not say so."""

    pause = 2.5

    async def act(self) -> None:
        """Order it."""
        kinds: list[Action] = [Break(does=True), Hang(does=True), faults.fail(does=True)]
        action = self._chance.choice(kinds)
        self._order("droplets written without an answer", self._capi.api, "PATCH", action, 2)


class CloudControllerAway(_ApiFault):
    """Lets Cloud Controller's API or UAA be gone for a while, or tokens be signed with another key."""

    pause = 10.0

    async def act(self) -> None:
        """Let it be gone, and come back."""
        if self._chance.random() < 0.3:
            self._happens("tokens that ended early")
            self._capi.tokens.rotate_key()
            return
        service = self._chance.choice([self._capi.api, self._capi.api, self._capi.uaa])
        self._happens("outages of UAA" if service is self._capi.uaa else "outages of Cloud Controller's API")
        await service.stop_listening()
        try:
            await asyncio.sleep(min(self._chance.uniform(0.3, 6.0), self._scene.seconds_left))
        finally:
            await service.listen()


class DropletsChanged(_ApiFault):
    """Changes droplets as other tools and people do: written back, copied, expired, deleted, deployed again."""

    pause = 3.0

    async def act(self) -> None:
        """Change one."""
        app = self._scene.choose_app()
        if app is None or app.current is None:
            return
        cloud, current = self._scene.env.cloud, app.current
        spare = [each for each in app.droplets.values() if each is not current]
        kind = self._chance.choice(["written back", "copied", "expired", "deleted", "deployed again"])
        self._happens(f"droplets {kind}", f"{current.guid} of {app.owner.app_name}")
        if kind == "written back":
            cloud.patch(current, app.package.text)
        elif kind == "copied":
            app.copy_droplet(current)
        elif kind == "expired" and spare:
            self._chance.choice(spare).state = DropletState.EXPIRED
        elif kind == "deleted" and spare:
            cloud.delete_droplet(self._chance.choice(spare))
        elif kind == "deployed again":
            app.copy_droplet(current)
            cloud.assign(app, list(app.droplets.values())[-1])


class DropletWatch:
    """Sees to it that no droplet names a copy that is not there.

    Args:
        scene: Where.
        loses_copies: Whether copies are lost in this run, which nobody knows of before they are looked for:
            then droplets are looked at in the end alone.
        reaches_all: Whether all current droplets must name a copy in the end, since nobody but Cloud Controller
            stands in the way.
    """

    def __init__(self, scene: Scene, *, loses_copies: bool, reaches_all: bool) -> None:
        self._scene, self._loses_copies, self._reaches_all = scene, loses_copies, reaches_all
        scene.env.cloud.changing.append(self._see_change)

    def unrest(self) -> list[str]:
        """Say which staged droplets name a copy that is not there, and which name none although they could."""
        missing = [
            f"droplet {droplet.guid} of {app.owner.app_name} names {droplet.image}, which is not there"
            for app in self._scene.env.cloud.apps.values()
            for droplet in app.droplets.values()
            if droplet.state is DropletState.STAGED and not self._is_there(droplet.image)
        ]
        return [*missing, *self._not_reached()]

    def _not_reached(self) -> list[str]:
        if not self._reaches_all:
            return []
        return [
            f"droplet {app.current.guid} of {app.owner.app_name} names {app.current.image}, and no copy"
            for app in self._scene.env.cloud.apps.values()
            if app.current is not None and not self._names_copy(app.current.image)
        ]

    def _names_copy(self, image: str | None) -> bool:
        return (image or "").startswith(f"{self._scene.env.cache.address}/")

    def _see_change(self, droplet: Droplet, image: str | None) -> None:
        names_copy = (image or "").startswith(f"{self._scene.env.cache.address}/")
        self._scene.happened[
            "droplets given a copy" if names_copy else "droplets given their image back"
        ] += 1
        if not self._loses_copies and not self._is_there(image):
            what = f"droplet {droplet.guid} is to name {image}, which is not there"
            self._scene.invariants.violate(what, "")

    def _is_there(self, image: str | None) -> bool:
        """Whether a text that names the private registry names what it holds; any other is not looked at."""
        cache = self._scene.env.cache
        host, _, rest = (image or "").partition("/")
        if host != cache.address:
            return True
        if cache.simulator is None:
            return rest.partition(":")[0] in cache.list_guids()
        name, _, tag = rest.partition(":")
        with cache.faults.store.lock:
            return cache.faults.store.find_manifest(name, tag or "latest") is not None
