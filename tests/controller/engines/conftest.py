"""Two registries and an engine between them."""

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.controller.engines.registry_scene import Scene
from tests.simulators import registry as registries


@pytest.fixture
def registry_pair(servers: None) -> Iterator[Scene]:
    with registries.serve() as source, registries.serve() as private:
        yield Scene(source, private)


@pytest.fixture
async def scene(registry_pair: Scene) -> AsyncIterator[Scene]:
    yield registry_pair
    for engine in registry_pair.engines:
        await engine.close()
