"""Reads layers from where their manifest says that they may be had; nobody logs in there."""

from functools import partial

from controller.registry.answers import Answer
from controller.registry.blobs import BlobReader
from controller.registry.exchange import Request
from controller.registry.findings import check_length, check_part
from controller.registry.manifests import Descriptor
from controller.registry.repository import Repository
from controller.registry.urls import parse_url
from reconcile.errors import DockerCacheError, Invalid


def read_foreign(repository: Repository, blob: Descriptor, buffer: memoryview) -> BlobReader:
    """Begin to read a layer from the first of its other places that has it.

    Raises:
        DockerCacheError: What the last of them said.
    """
    session, subject = repository.session, repository.session.subject(str(blob.digest))

    def opened(text: str, offset: int) -> Answer:
        headers = {"Range": f"bytes={offset}-{blob.size - 1}"} if offset else {}
        total = session.timeouts.for_blob(blob.size)
        request = Request("GET", parse_url(text), headers, total=total, is_urgent=offset > 0)
        answer = session.fetch_elsewhere(request)
        try:
            if offset and answer.status != 200:
                check_part(answer, blob, offset, subject)
            else:
                check_length(session, answer, blob, subject)
        except BaseException:
            answer.close()
            raise
        return answer

    last: DockerCacheError = Invalid("registry", "foreign-layer", f"{subject}: no other place is named")
    for text in blob.urls[:5]:
        try:
            return BlobReader(partial(opened, text), blob, buffer, subject=subject)
        except DockerCacheError as error:
            last = error
    raise last
