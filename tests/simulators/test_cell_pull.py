"""What a cell pulls, what it refuses, and in which words."""

import asyncio
import json
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import httpx
import pytest

from tests.contracts.distribution import free_port
from tests.simulators import images
from tests.simulators.bbs_probe import until
from tests.simulators.cell_failures import PullFailed
from tests.simulators.cell_network import (
    CellNetwork,
    Condition,
    ErrorResponse,
    Hangs,
    NotInsecure,
    Refused,
    Slow,
    UnknownAuthority,
    UnknownHost,
)
from tests.simulators.cell_pull import Puller, Wanted
from tests.simulators.cell_store import LayerStore
from tests.simulators.certificates import Certificates
from tests.simulators.registry import (
    BasicLogin,
    Cut,
    OtherBytes,
    Refuse,
    RegistrySimulator,
    TokenLogin,
    serve,
)
from tests.simulators.registry_login import Credentials
from tests.simulators.registry_session import RegistryAccess

pytestmark = pytest.mark.usefixtures("servers")

F = "failed to create container: running image plugin create: "
G = f"{F}fetching image reference: creating image: "
S = f"{G}creating image source: "
B = f"{F}pulling the image: streaming blob `DIGEST`: "
PING = f'{S}pinging container registry H: Get "https://H/v2/": '
UNTRUSTED = (
    f"{F}This registry is insecure. To pull images from this registry,"
    " please use the --insecure-registry option."
)
END = "\n: exit status 1"

LAYERS = (images.layer(1000, 1), images.layer(70_000, 2))
SAMPLE = images.image(LAYERS)
ONE_LAYER = images.image([images.layer(1000, 3)])
ZSTD = {"io.github.containers.compression.zstd": "true"}


@dataclass
class Cell:
    """What a cell pulls with."""

    registry: RegistrySimulator
    network: CellNetwork = field(default_factory=CellNetwork)
    store: LayerStore = field(default_factory=LayerStore)
    access: RegistryAccess = field(init=False)

    def __post_init__(self) -> None:
        self.access = RegistryAccess(self.network, {}, first_pause=0.001, reconnect_pause=0.001)

    async def pull(
        self, path: str = "team/app#v1", host: str = "", login: Credentials | None = None, disk_mb: int = 0
    ) -> str:
        rootfs = f"docker://{host or self.registry.address}/{path}"
        return await Puller(self.access, self.store).pull(Wanted(rootfs, login or Credentials(), disk_mb))

    async def failure(self, path: str = "team/app#v1", host: str = "", *, disk_mb: int = 0) -> str:
        """Give the text of a pull that fails, with H for the registry's address."""
        with pytest.raises(PullFailed) as failed:
            await self.pull(path, host, disk_mb=disk_mb)
        return str(failed.value).replace(self.registry.address, "H")

    def fetched(self, what: str) -> int:
        return self.network.requests(self.registry.address, what)

    def push(self, image: images.Image, name: str = "team/app", tag: str = "v1") -> images.Image:
        with httpx.Client(base_url=self.registry.url) as client:
            images.push_image(client, name, tag, image)
        return image

    def push_index(self, document: dict[str, object], media_type: str, made: Sequence[images.Image]) -> None:
        with httpx.Client(base_url=self.registry.url) as client:
            for each in made:
                images.push_image(client, "team/app", each.manifest.digest, each)
            index = images.Blob(media_type, json.dumps(document).encode())
            images.push_manifest(client, "team/app", "v1", index)


@pytest.fixture
def cell() -> Iterator[Cell]:
    with serve() as registry:
        yield Cell(registry)


@pytest.mark.parametrize(
    ("condition", "text"),
    [
        (
            UnknownHost(),
            f"{PING}dial tcp: lookup 127.0.0.1 on 169.254.0.2:53: no such host",
        ),
        (
            Refused(),
            f"{PING}dial tcp H: connect: connection refused",
        ),
        (
            NotInsecure(),
            f"{PING}http: server gave HTTP response to HTTPS client",
        ),
        (
            UnknownAuthority(),
            UNTRUSTED,
        ),
        (ErrorResponse(401), f"{S}reading manifest v1 in H/team/app: authentication required"),
        (ErrorResponse(403, "not you"), f"{S}reading manifest v1 in H/team/app: denied: not you"),
        (
            ErrorResponse(404, "no repository"),
            f"{S}reading manifest v1 in H/team/app: name unknown: no repository",
        ),
        (ErrorResponse(429, "slowly"), f"{S}reading manifest v1 in H/team/app: toomanyrequests: slowly"),
        (
            ErrorResponse(500),
            f"{S}reading manifest v1 in H/team/app: received unexpected HTTP status: 500 Internal Server Error",
        ),
        (
            ErrorResponse(503),
            f"{S}reading manifest v1 in H/team/app: received unexpected HTTP status: 503 Service Unavailable",
        ),
    ],
)
async def test_a_registry_that_a_cell_cannot_use_fails_the_creation(
    cell: Cell, condition: Condition, text: str
) -> None:
    cell.push(SAMPLE)
    cell.network.impose(cell.registry.address, condition)

    assert await cell.failure() == text + END

    pretending = Puller(cell.access, LayerStore(), is_real=False)
    with pytest.raises(PullFailed) as failed:
        await pretending.pull(Wanted(f"docker://{cell.registry.address}/team/app#v1"))
    assert str(failed.value).replace(cell.registry.address, "H") == text + END

    cell.network.mend(cell.registry.address)
    assert await cell.pull() == SAMPLE.manifest.digest
    await pretending.pull(Wanted(f"docker://{cell.registry.address}/team/app#v1"))


async def test_what_goes_wrong_with_one_host_or_with_all_leaves_the_rest(cell: Cell) -> None:
    cell.push(SAMPLE)
    cell.network.impose("elsewhere.example", Refused())
    assert await cell.pull() == SAMPLE.manifest.digest

    cell.network.impose("*", Refused())
    assert "connection refused" in await cell.failure()
    cell.network.mend()
    assert await cell.pull() == SAMPLE.manifest.digest


async def test_a_registry_that_is_not_there_is_refused_or_unknown(cell: Cell) -> None:
    host = f"127.0.0.1:{free_port()}"
    ping = f'{S}pinging container registry {host}: Get "https://{host}/v2/": '
    assert await cell.failure(host=host) == f"{ping}dial tcp {host}: connect: connection refused{END}"

    lookup = "dial tcp: lookup no-such-host.invalid on 169.254.0.2:53: no such host"
    ping = f'{S}pinging container registry no-such-host.invalid:5000: Get "https://no-such-host.invalid:5000/v2/": '
    assert await cell.failure(host="no-such-host.invalid:5000") == f"{ping}{lookup}{END}"


async def test_a_certificate_needs_an_authority_that_the_cell_trusts(certificates: Certificates) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificates.server.certificate, certificates.server.key)
    with serve(tls=tls) as registry:
        cell = Cell(registry)
        with httpx.Client(
            base_url=registry.url, verify=ssl.create_default_context(cafile=str(certificates.ca))
        ) as client:
            images.push_image(client, "team/app", "v1", SAMPLE)
        cell.access = replace(
            cell.access,
            registry_map={registry.address: registry.url},
            authorities=str(certificates.foreign_ca),
        )
        assert await cell.failure() == UNTRUSTED + END

        cell.access = replace(cell.access, authorities=str(certificates.ca))
        assert await cell.pull() == SAMPLE.manifest.digest


async def test_a_login_is_sent_only_to_a_registry_that_challenges(cell: Cell) -> None:
    cell.push(SAMPLE)
    login = Credentials("user", "password")
    await cell.pull(login=login)
    assert not any("authorization" in request.headers for request in cell.registry.requests)

    for kind in (BasicLogin({"user": "password"}), TokenLogin({"user": "password"}, anonymous=False)):
        cell.registry.login = kind
        assert await cell.pull(login=login) == SAMPLE.manifest.digest
    cell.registry.login = TokenLogin({"user": "password"})
    assert await cell.pull() == SAMPLE.manifest.digest


@pytest.mark.parametrize("login", [Credentials(), Credentials("user", "wrong")])
async def test_a_wrong_login_fails_clearly(cell: Cell, login: Credentials) -> None:
    cell.push(SAMPLE)
    cell.registry.login = BasicLogin({"user": "password"})

    with pytest.raises(PullFailed) as failed:
        await cell.pull(login=login)

    text = f"{S}reading manifest v1 in {cell.registry.address}/team/app: authentication required{END}"
    assert str(failed.value) == text


async def test_a_token_server_that_refuses_a_login_fails_clearly(cell: Cell) -> None:
    cell.registry.login = TokenLogin({"user": "password"}, anonymous=False)

    with pytest.raises(PullFailed) as failed:
        await cell.pull(login=Credentials("user", "wrong"))

    problem = "unable to retrieve auth token: invalid username/password: authentication required"
    assert str(failed.value) == f"{S}{problem}{END}"


@pytest.mark.parametrize("path", ["team/app#nosuch", "team/nosuch#v1"])
async def test_an_unknown_tag_or_repository_is_an_unknown_manifest(cell: Cell, path: str) -> None:
    cell.push(SAMPLE)

    name, _, tag = path.partition("#")
    assert await cell.failure(path) == f"{S}reading manifest {tag} in H/{name}: manifest unknown{END}"
    assert cell.fetched("manifest") == cell.fetched("ping") == 3


async def test_too_many_requests_are_an_answer_only_after_many_more(cell: Cell) -> None:
    cell.push(SAMPLE)
    body = b'{"errors":[{"code":"TOOMANYREQUESTS","message":"slowly"}]}'
    cell.registry.fail("GET", "/manifests/", Refuse(429, body), times=None)

    text = f"{S}reading manifest v1 in H/team/app: toomanyrequests: slowly{END}"
    assert await cell.failure() == text
    assert cell.registry.count("GET", "/manifests/") == 15

    cell.registry.faults.clear()
    cell.registry.fail("GET", "/manifests/", Refuse(429, body, {"Retry-After": "0"}), times=4)
    assert await cell.pull() == SAMPLE.manifest.digest


@pytest.mark.parametrize(
    ("body", "content_type", "text"),
    [
        (
            b"<html>proxy error</html>",
            "text/html",
            f"{G}invalid character '<' looking for beginning of value",
        ),
        (
            b'{"schemaVersion":1,"name":"x"}',
            "application/vnd.docker.distribution.manifest.v1+prettyjws",
            f"{G}no FSLayers in manifest",
        ),
    ],
)
async def test_what_is_no_manifest_cannot_be_used(
    cell: Cell, body: bytes, content_type: str, text: str
) -> None:
    cell.push(SAMPLE)
    repository = cell.registry.store.repository("team/app")
    digest = repository.tags["v1"]
    repository.manifests[digest] = replace(
        repository.manifests[digest], media_type=content_type, content=body
    )

    assert await cell.failure() == text + END


@pytest.mark.parametrize("config", [False, True])
async def test_a_blob_that_is_gone_is_unknown(cell: Cell, *, config: bool) -> None:
    cell.push(ONE_LAYER)
    digest = ONE_LAYER.config.digest if config else ONE_LAYER.layers[0].digest
    cell.registry.store.repository("team/app").blobs.remove(digest)

    start = f"{F}fetching image configuration: " if config else B.replace("DIGEST", digest)
    assert await cell.failure() == f"{start}fetching blob: blob unknown to registry{END}"
    assert cell.fetched("config" if config else "layer") == 3


async def test_a_layer_that_is_cut_twice_ends_too_early(cell: Cell) -> None:
    cell.push(ONE_LAYER)
    digest = ONE_LAYER.layers[0].digest
    cell.registry.fail("GET", digest, Cut(300), times=None)

    text = B.replace("DIGEST", digest) + "writing blob to tempfile: unexpected EOF"
    assert await cell.failure() == text + END
    assert [each.headers.get("range") for each in cell.registry.requests if digest in each.path][-2:] == [
        None,
        "bytes=300-",
    ]


async def test_a_layer_that_is_cut_once_is_gone_on_with(cell: Cell) -> None:
    cell.push(ONE_LAYER)
    cell.registry.fail("GET", ONE_LAYER.layers[0].digest, Cut(300))

    assert await cell.pull() == ONE_LAYER.manifest.digest


async def test_a_layer_of_another_length_is_refused_before_it_is_read(cell: Cell) -> None:
    cell.push(ONE_LAYER)
    digest = ONE_LAYER.layers[0].digest
    cell.registry.fail("GET", digest, OtherBytes(ONE_LAYER.layers[0].content[:960]))

    problem = "layer size is different from the value in the manifest; expected: 1000, actual 960"
    text = B.replace("DIGEST", digest) + f"validating reported blob size: {problem}"
    assert await cell.failure() == text + END


async def test_other_bytes_of_the_same_length_have_another_digest(cell: Cell) -> None:
    cell.push(ONE_LAYER)
    digest, other = ONE_LAYER.layers[0].digest, images.layer(1000, 99)
    cell.registry.fail("GET", digest, OtherBytes(other.content))

    hexes = f"expected: {digest[7:]}, actual: {other.digest[7:]}"
    assert await cell.failure() == B.replace("DIGEST", digest) + f"layerID digest mismatch: {hexes}" + END


@pytest.mark.parametrize("media_type", [images.OCI_ZSTD_LAYER, "application/vnd.example.thing"])
async def test_what_a_cell_does_not_unpack_has_another_diff_id(cell: Cell, media_type: str) -> None:
    packed = images.layer(1000, 5)
    image = cell.push(
        images.image([replace(packed, media_type=media_type)], diff_ids=[images.diff_id_of(packed)])
    )

    hexes = f"expected: {images.diff_id_of(packed)[7:]}, actual: {packed.digest[7:]}"
    digest = image.layers[0].digest
    assert await cell.failure() == B.replace("DIGEST", digest) + f"diffID digest mismatch: {hexes}" + END


async def test_wrong_diff_ids_are_refused_and_too_few_are_a_panic(cell: Cell) -> None:
    wrong = cell.push(images.image([LAYERS[0]], diff_ids=[f"sha256:{'a' * 64}"]))
    hexes = f"expected: {'a' * 64}, actual: {images.diff_id_of(LAYERS[0])[7:]}"
    text = B.replace("DIGEST", wrong.layers[0].digest) + f"diffID digest mismatch: {hexes}"
    assert await cell.failure() == text + END

    cell.push(images.image(LAYERS, diff_ids=[images.diff_id_of(LAYERS[0])]))
    panic = "panic: runtime error: index out of range [1] with length 1"
    assert await cell.failure() == f"{F}{panic}\n: exit status 2"


async def test_layers_over_the_disk_limit_are_refused(cell: Cell) -> None:
    cell.push(images.image([images.layer(1_200_000, 7), images.layer(3_000, 8)]))

    text = f"{F}pulling the image: layers exceed disk quota 1203000/1048576 bytes"
    assert await cell.failure(disk_mb=1) == text + END
    await cell.pull(disk_mb=2)


async def test_a_layer_that_unpacks_to_more_than_the_limit_is_refused(cell: Cell) -> None:
    zeros = images.archive_of_zeros(2_000_000)
    cell.push(images.image([zeros]))

    text = (
        B.replace("DIGEST", zeros.digest) + "writing blob to tempfile: uncompressed layer size exceeds quota"
    )
    assert await cell.failure(disk_mb=1) == text + END


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        (
            images.Blob(images.OCI_LAYER, b"no archive at all"),
            f"{B}expected blob to be of type {images.OCI_LAYER}: gzip: invalid header",
        ),
        (images.Blob(images.OCI_LAYER, b""), f"{B}expected blob to be of type {images.OCI_LAYER}: EOF"),
        (
            images.Blob(images.OCI_LAYER, images.layer(1000, 9).content[:-20]),
            f"{B}writing blob to tempfile: unexpected EOF",
        ),
        (
            images.archive_of("etc/.wh.new"),
            f"{F}pulling the image: unpacking layer `DIGEST`: lstat etc: no such file or directory",
        ),
        (
            images.archive_of("etc/link", link_to="etc/passwd"),
            f"{F}pulling the image: unpacking layer `DIGEST`: lstat etc/passwd: no such file or directory",
        ),
    ],
)
async def test_a_layer_that_cannot_be_unpacked_is_refused(cell: Cell, layer: images.Blob, text: str) -> None:
    is_cut = layer.content[:2] == images.GZIP_MAGIC and "unexpected EOF" in text
    cell.push(images.image([layer], diff_ids=[layer.digest] if is_cut else None))

    assert await cell.failure() == text.replace("DIGEST", layer.digest) + END


async def test_an_image_without_layers_is_refused(cell: Cell) -> None:
    cell.push(images.image([]))

    assert (await cell.failure()).startswith(f"{F}making image: ")


async def test_of_several_that_fit_the_one_marked_as_zstd_is_taken(cell: Cell) -> None:
    made = [images.image([images.layer(1000, n)]) for n in range(4)]
    platforms: tuple[tuple[str, str | None, dict[str, str]], ...] = (
        ("amd64", "v1", {}),
        ("arm64", None, ZSTD),
        ("amd64", None, {}),
        ("amd64", None, ZSTD),
    )
    entries = [
        {
            **each.manifest.descriptor,
            "platform": {
                "os": "linux",
                "architecture": architecture,
                **({"variant": variant} if variant else {}),
            },
            "annotations": notes,
        }
        for each, (architecture, variant, notes) in zip(made, platforms, strict=True)
    ]
    cell.push_index({"schemaVersion": 2, "manifests": entries}, images.OCI_INDEX, made)
    assert await cell.pull() == made[3].manifest.digest

    cell.push_index({"schemaVersion": 2, "manifests": entries}, images.DOCKER_LIST, made)
    assert await cell.pull() == made[2].manifest.digest


@pytest.mark.parametrize("media_type", [images.OCI_INDEX, images.DOCKER_LIST])
@pytest.mark.parametrize(
    "platform",
    [
        {},
        {"os": "", "architecture": ""},
        {"os": "linux", "architecture": "arm64"},
        {"os": "windows", "architecture": "amd64"},
        {"os": "linux", "architecture": "amd64", "variant": "v1"},
    ],
)
async def test_an_index_without_a_fitting_platform_is_refused(
    cell: Cell, media_type: str, platform: dict[str, str]
) -> None:
    entry = SAMPLE.manifest.descriptor | {"platform": platform}
    cell.push_index({"schemaVersion": 2, "manifests": [entry]}, media_type, [SAMPLE])

    kind = "image index" if media_type == images.OCI_INDEX else "manifest list"
    text = f'{G}choosing image instance: no image found in {kind} for architecture "amd64", variant "", OS "linux"'
    assert await cell.failure() == text + END


async def test_an_entry_without_a_platform_is_the_last_resort_in_an_oci_index_alone(cell: Cell) -> None:
    entries = {"schemaVersion": 2, "manifests": [SAMPLE.manifest.descriptor]}
    cell.push_index(entries, images.DOCKER_LIST, [SAMPLE])
    assert "no image found in manifest list" in await cell.failure()

    cell.push_index(entries, images.OCI_INDEX, [SAMPLE])
    assert await cell.pull() != ""


@pytest.mark.parametrize("host", ["[::1]:5000", "my_registry:5000", "registry.my_domain.example"])
async def test_a_host_that_cells_do_not_accept_is_refused(cell: Cell, host: str) -> None:
    assert await cell.failure(host=host) == f"{G}parsing url failed: invalid reference format{END}"


async def test_only_layers_that_the_cell_lacks_are_fetched(cell: Cell) -> None:
    base, top, other = (images.layer(5000, each) for each in ("base", "top", "other"))
    cell.push(images.image([base, top]))
    await cell.pull()
    assert cell.fetched("layer") == 2

    await cell.pull()
    assert (cell.fetched("layer"), cell.fetched("manifest"), cell.fetched("config")) == (2, 2, 2)

    cell.push(images.image([base, other]))
    await cell.pull()
    assert cell.fetched("layer") == 3

    cell.push(images.image([other, base]))  # the same layers upon others are other layers
    await cell.pull()
    assert cell.fetched("layer") == 5
    assert cell.network.counts[cell.registry.address].bytes > 5 * 5000


async def test_a_held_layer_hides_that_its_blob_is_gone(cell: Cell) -> None:
    cell.push(ONE_LAYER)
    await cell.pull()
    cell.registry.store.repository("team/app").blobs.remove(ONE_LAYER.layers[0].digest)

    assert await cell.pull() == ONE_LAYER.manifest.digest
    assert "blob unknown to registry" in await Cell(cell.registry).failure()

    assert cell.store.clean([]) == {images.diff_id_of(ONE_LAYER.layers[0])[7:]}
    assert "blob unknown to registry" in await cell.failure()


async def test_a_layer_is_fetched_by_one_pull_at_a_time_on_a_cell(cell: Cell) -> None:
    """Also where the other pull would have it from a registry that is fast."""
    cell.push(ONE_LAYER)
    with serve() as fast:
        with httpx.Client(base_url=fast.url) as client:
            images.push_image(client, "copy", "latest", ONE_LAYER)
        cell.network.impose(cell.registry.address, Slow(seconds=0.4))
        slow = asyncio.create_task(cell.pull())
        await until(lambda: cell.fetched("layer") == 1)

        await cell.pull("copy#latest", fast.address)

        assert cell.fetched("layer") == 1
        await slow
        assert cell.network.requests(fast.address, "layer") == 0
        assert await Cell(fast).pull("copy#latest") == ONE_LAYER.manifest.digest


async def test_a_layer_comes_as_slowly_as_a_test_wants(cell: Cell) -> None:
    cell.push(ONE_LAYER)
    cell.network.impose(cell.registry.address, Slow(bytes_per_second=5000))
    loop = asyncio.get_running_loop()
    begun = loop.time()

    await cell.pull()

    assert loop.time() - begun >= 0.19


@pytest.mark.parametrize("layers_only", [False, True])
async def test_a_registry_that_hangs_is_waited_for_without_a_text(cell: Cell, *, layers_only: bool) -> None:
    cell.push(ONE_LAYER)
    cell.network.impose(cell.registry.address, Hangs(layers_only=layers_only))
    pull = asyncio.create_task(cell.pull())
    await until(lambda: cell.fetched("layer" if layers_only else "ping") == 1)
    await asyncio.sleep(0.05)
    assert not pull.done()

    cell.network.mend(cell.registry.address)

    assert await pull == ONE_LAYER.manifest.digest


async def test_a_registry_that_answers_with_no_bytes_is_asked_again_without_end(cell: Cell) -> None:
    """As one does whose blob file is gone while it still knows of the blob."""
    cell.push(ONE_LAYER)
    digest = ONE_LAYER.layers[0].digest
    cell.registry.fail("GET", digest, Cut(0), times=None)
    pull = asyncio.create_task(cell.pull())

    await until(lambda: cell.fetched("layer") > 20)
    assert not pull.done()

    cell.registry.faults.clear()
    assert await pull == ONE_LAYER.manifest.digest


async def test_a_schema_1_image_is_read_twice(cell: Cell) -> None:
    lower, upper = LAYERS
    document = {"schemaVersion": 1, "fsLayers": [{"blobSum": upper.digest}, {"blobSum": lower.digest}]}
    cell.push(SAMPLE)
    repository = cell.registry.store.repository("team/app")
    digest = repository.tags["v1"]
    kind = "application/vnd.docker.distribution.manifest.v1+prettyjws"
    repository.manifests[digest] = replace(
        repository.manifests[digest], media_type=kind, content=json.dumps(document).encode()
    )

    await cell.pull()

    assert cell.fetched("layer") == 4
