"""When LRPs go back to their sources; how they do is tested with the whole process."""

from dataclasses import dataclass

from reconcile.images import CacheRepositories, Digest, ImageReference
from reconcile.lrps import Credentials
from reconcile.ports import CopiedImage, ResolvedImage, TargetState

CACHE = CacheRepositories("cache.example:8080")


@dataclass
class PrivateRegistry:
    """An engine of which only the private registry is asked."""

    problem: Exception | None = None

    async def resolve(self, source: ImageReference, credentials: Credentials | None) -> ResolvedImage:
        raise NotImplementedError

    async def copy(
        self,
        image: ResolvedImage,
        target: ImageReference,
        credentials: Credentials | None,
        *,
        state: TargetState = TargetState.UNKNOWN,
    ) -> CopiedImage:
        raise NotImplementedError

    async def is_present(self, target: ImageReference, digest: Digest) -> bool:
        if self.problem is not None:
            raise self.problem
        return True
