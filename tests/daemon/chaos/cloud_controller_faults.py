"""What goes wrong at Cloud Controller's API in a chaos run, and who else changes droplets meanwhile."""

import asyncio
import random
from dataclasses import replace

from tests.daemon.chaos.scene import Scene
from tests.simulators.capi import faults
from tests.simulators.capi.faults import Action, Break, Hang, Slow
from tests.simulators.capi.records import DropletState
from tests.simulators.capi.server import HttpService
from tests.simulators.capi.uaa import GLOBAL_AUDITOR, SMALLEST_USEFUL, UPDATE_BUILD_STATE, WRITE

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

    def _order(
        self, what: str, service: HttpService, method: str, action: Action, most: int, pattern: str = ""
    ) -> None:
        service.faults.order(method, pattern, action, times=self._chance.randint(1, most))
        self._happens(what, f"{method} {action}")


class CloudControllerFails(_ApiFault):
    """Lets Cloud Controller or UAA refuse their next requests, for a reason or for none."""

    pause = 2.5

    async def act(self) -> None:
        """Let UAA or Cloud Controller fail."""
        if self._chance.random() < 0.2:
            of_uaa: list[Action] = [faults.limit_tokens(1), faults.not_from_us()]
            self._order("failures of UAA", self._capi.uaa, "POST", self._chance.choice(of_uaa), 2)
            return
        kinds: list[Action] = [
            faults.fail(),
            faults.be_unavailable(),
            faults.not_from_us(),
            faults.limit(1),
            Break(),
        ]
        of_clients: list[Action] = [faults.reject_token(), faults.forbid()]
        method, action = (
            self._chance.choice(["GET", "PATCH", ANY]),
            self._chance.choice([*kinds, *of_clients]),
        )
        pattern = "^/v3/" if action in of_clients else ""  # the root takes no token
        self._order("failures of Cloud Controller", self._capi.api, method, action, 3, pattern)


class CloudControllerSlow(_ApiFault):
    """Lets Cloud Controller take its time over its next requests, or never answer them."""

    pause = 5.0

    async def act(self) -> None:
        """Let some requests be slow, or unanswered."""
        action = Slow(self._chance.uniform(0.5, 3.0)) if self._chance.random() < 0.7 else Hang()
        self._order("slow answers of Cloud Controller", self._capi.api, ANY, action, 3)


class CloudControllerAnswersLost(_ApiFault):
    """Lets Cloud Controller write what it is asked to, and not say so."""

    pause = 2.5

    async def act(self) -> None:
        """Let some answers be lost."""
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


class CloudControllerScopes(_ApiFault):
    """Takes a scope away from the daemon's clients for a while, also from the tokens that they have."""

    pause = 12.0

    def __init__(self, scene: Scene, chance: random.Random) -> None:
        super().__init__(scene, chance)
        self._taken = False

    async def act(self) -> None:
        """Take one away, and give it back."""
        scope = self._chance.choice([WRITE, UPDATE_BUILD_STATE, GLOBAL_AUDITOR])
        self._happens("scopes taken away", scope)
        self._grant(tuple(each for each in SMALLEST_USEFUL if each != scope))
        self._taken = True
        await asyncio.sleep(min(self._chance.uniform(0.5, 5.0), self._scene.seconds_left))
        self.end()

    def end(self) -> None:
        """Give all back."""
        super().end()
        if self._taken:
            self._taken = False
            self._grant(SMALLEST_USEFUL)

    def _grant(self, scopes: tuple[str, ...]) -> None:
        for client in tuple(self._capi.tokens.clients.values()):
            self._capi.tokens.add_client(replace(client, authorities=scopes))
        self._capi.tokens.rotate_key()


class DropletsChanged(_ApiFault):
    """Changes droplets as other tools and people do, and lets them go."""

    pause = 3.0

    async def act(self) -> None:
        """Change one."""
        app = self._scene.choose_app()
        if app is None or app.current is None:
            return
        cloud, current, texts = self._scene.env.cloud, app.current, self._scene.texts
        spare = [each for each in app.droplets.values() if each is not current]
        kind = self._chance.choice(["written back", "written by another tool", "expired", "deleted"])
        self._happens(f"droplets {kind}", f"{current.guid} of {app.owner.app_name}")
        if kind == "written back":
            cloud.patch(current, texts.note_text_back(current))
        elif kind == "written by another tool":
            texts.note_change(current)
            others = sorted({each.package.text for each in cloud.apps.values()})
            cloud.patch(current, self._chance.choice(others))
        elif kind == "expired" and spare:
            self._chance.choice(spare).state = DropletState.EXPIRED
        elif kind == "deleted" and spare:
            cloud.delete_droplet(self._chance.choice(spare))
