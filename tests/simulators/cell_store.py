"""A cell's image store: layers by chain ID, each fetched by one pull at a time and shared by all images.

Source: grootfs base_image_puller/base_image_puller.go, fetcher/layer_fetcher/layer_fetcher.go.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of an image.

    Attributes:
        digest: Of the blob.
        diff_id: Of the archive before compression.
        chain_id: Of it with all below it: what it is stored under.
        size: Bytes of the blob; None where the manifest does not tell.
        urls: Where else its bytes are.
    """

    digest: str
    diff_id: str
    chain_id: str
    size: int | None
    media_type: str
    urls: tuple[str, ...] = ()


def chain_id(parent: str, diff_id: str) -> str:
    """Name a layer upon a parent; an empty parent means none."""
    own = diff_id.partition(":")[2]
    return hashlib.sha256(f"{parent} {own}".encode()).hexdigest() if parent else own


class LayerStore:
    """The layers that a cell holds.

    Attributes:
        held: Chain IDs of what is there.
    """

    def __init__(self) -> None:
        self.held: set[str] = set()
        self._locks: dict[str, asyncio.Lock] = {}

    async def build(self, layers: Sequence[Layer], fetch: Callable[[Layer], Awaitable[None]]) -> None:
        """Fetch what is missing of an image, from the top layer's lock down to the lowest layer's bytes."""
        if not layers or layers[-1].chain_id in self.held:
            return
        top = layers[-1]
        async with self._locks.setdefault(top.chain_id, asyncio.Lock()):
            if top.chain_id in self.held:  # another pull was faster
                return
            await self.build(layers[:-1], fetch)
            await fetch(top)
            self.held.add(top.chain_id)

    def clean(self, used: Iterable[str]) -> frozenset[str]:
        """Forget every layer that is not used, and say which."""
        gone = frozenset(self.held.difference(used))
        self.held -= gone
        return gone
