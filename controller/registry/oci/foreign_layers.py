"""Reads foreign layers from the URLs that their manifest names, without any login."""

from functools import partial

from controller.registry.http.request import Request
from controller.registry.http.response import Response
from controller.registry.http.urls import parse_url
from controller.registry.oci.blobs import BlobReader
from controller.registry.oci.manifests import Descriptor
from controller.registry.oci.repository import Repository
from controller.registry.oci.results import check_length, check_part
from reconcile.errors import DockerCacheError, Invalid


def read_foreign(repository: Repository, blob: Descriptor, buffer: memoryview) -> BlobReader:
    """Start to read a layer from the first of its URLs that has it.

    Raises:
        DockerCacheError: The failure of the last URL.
    """
    session, subject = repository.session, repository.session.subject(str(blob.digest))

    def opened(text: str, offset: int) -> Response:
        headers = {"Range": f"bytes={offset}-{blob.size - 1}"} if offset else {}
        request = Request("GET", parse_url(text), headers, is_urgent=offset > 0, is_blob=True, may_leave=True)
        response = session.send_to_url_of_image(request)
        try:
            if offset and response.status != 200:
                check_part(response, blob, offset, subject)
            else:
                check_length(session, response, blob, subject)
        except BaseException:
            response.close()
            raise
        return response

    last: DockerCacheError = Invalid("registry", "foreign-layer", f"{subject}: its manifest names no URL")
    for text in blob.urls[:5]:
        try:
            return BlobReader(partial(opened, text), blob, buffer, subject=subject)
        except DockerCacheError as error:
            last = error
    raise last
