"""Images that cells refuse although every byte is right: which are found, and which are copied all the same."""

import gzip
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from controller.engines.cell_rules import CellRules, CheckedBlob
from controller.registry.oci.manifests import Descriptor, Manifest, parse_document
from reconcile.errors import ErrorCode, Invalid
from tests.controller.engines.registry_scene import GUID, Scene
from tests.simulators import images
from tests.simulators.images import Blob, Image
from tests.simulators.registry import OtherBytes

ZSTD_BYTES = b"\x28\xb5\x2f\xfd" + images.random_bytes(500, "zstd")
PACKED = images.archive(3000, "packed")
PLAIN = images.layer(3000, "plain", images.OCI_PLAIN_LAYER)
GOOD = images.unpackable([PACKED])
DOCKER_ZSTD = "application/vnd.docker.image.rootfs.diff.tar.zstd"
NO_ARCHIVE = f"sha256:{'a' * 64}"


def manifest_of(sample: Image) -> Manifest:
    document = parse_document(sample.manifest.content, sample.manifest.media_type, "x")
    assert isinstance(document, Manifest)
    return document


def changed(sample: Image, config: Blob | None = None, **changes: Any) -> Image:
    document = json.loads(sample.manifest.content) | changes
    if config is not None:
        document["config"] = config.descriptor
    manifest = Blob(sample.manifest.media_type, json.dumps(document).encode())
    return Image(manifest, config or sample.config, sample.layers)


def with_config(content: bytes, media_type: str = images.OCI_CONFIG) -> Image:
    return changed(GOOD, Blob(media_type, content))


def labelled(layer: Blob, media_type: str, diff_id: str = NO_ARCHIVE, *, docker: bool = False) -> Image:
    return images.image([replace(layer, media_type=media_type)], diff_ids=[diff_id], docker=docker)


BIG = json.dumps({"rootfs": {"diff_ids": [PACKED.diff_id]}, "x": "y" * (4 << 20)}).encode()
AS_BLOB = Blob(images.OCI_ZSTD_LAYER, ZSTD_BYTES)

REFUSED: list[tuple[str, Image, str]] = [
    ("no layers", images.image([]), "no layers"),
    ("no layers of docker", images.image([], docker=True), "no layers"),
    ("an artifact", with_config(b"{}", "application/vnd.oci.empty.v1+json"), "as OCI artifacts have"),
    ("an artifact of helm", with_config(b"{}", "application/vnd.cncf.helm.config.v1+json"), "artifacts"),
    ("the config of docker in OCI", with_config(GOOD.config.content, images.DOCKER_CONFIG), "artifacts"),
    ("an empty config", with_config(b""), "config has 0 bytes"),
    ("a large config", with_config(BIG), "config has 4194"),
    ("zstd of docker", labelled(AS_BLOB, DOCKER_ZSTD, docker=True), "which no docker image has"),
    (
        "types of OCI in docker",
        labelled(PACKED.layer, "application/x-foo", docker=True),
        "no docker image has",
    ),
    ("gzip that is too short", labelled(Blob("", b"\x1f\x8b\x08"), images.OCI_LAYER), "too short to be gzip"),
    ("zstd labelled gzip", labelled(AS_BLOB, images.OCI_LAYER), "labelled gzip, but its bytes are zstd"),
    ("zstd labelled gzip by docker", labelled(AS_BLOB, images.OCI_LAYER, docker=True), "its bytes are zstd"),
    ("an archive labelled gzip", labelled(PLAIN, images.OCI_LAYER), "but its bytes are not gzip"),
    ("no label means gzip", labelled(PLAIN, ""), "labelled gzip, but its bytes are not gzip"),
    ("gzip labelled zstd", labelled(PACKED.layer, images.OCI_ZSTD_LAYER), "zstd, but its bytes are gzip"),
    ("gzip labelled an archive", labelled(PACKED.layer, images.OCI_PLAIN_LAYER, PACKED.diff_id), "diff_id"),
    ("gzip of an unknown type", labelled(PACKED.layer, "application/x-foo", PACKED.diff_id), "diff_id"),
    ("the diff_id of another archive", labelled(PLAIN, images.OCI_PLAIN_LAYER), "another diff_id"),
    (
        "the digest for a diff_id",
        labelled(PACKED.layer, images.OCI_LAYER, PACKED.layer.digest),
        "its own digest",
    ),
    (
        "too few diff_ids",
        images.image([PACKED.layer, PACKED.layer], diff_ids=[PACKED.diff_id]),
        "1 diff_ids for 2",
    ),
    ("no diff_ids", with_config(b'{"rootfs": {}}'), "0 diff_ids for 1 layers"),
    ("no rootfs", with_config(b"{}"), "0 diff_ids for 1 layers"),
    (
        "a diff_id that is no digest",
        with_config(b'{"rootfs": {"diff_ids": ["aa"]}}'),
        "'aa' among its diff_ids",
    ),
    ("diff_ids that are no texts", with_config(b'{"rootfs": {"diff_ids": [1]}}'), "not the JSON of an image"),
    ("a rootfs that is no object", with_config(b'{"rootfs": 7}'), "not the JSON of an image"),
    ("a config that is no object", with_config(b"[]"), "not the JSON of an image"),
    ("a config that is no JSON", with_config(b"<html>"), "not the JSON of an image"),
    ("a config of too many values", with_config(b"[%b]" % b",".join([b"[]"] * 200_000)), "not the JSON of"),
    ("a config that is nested deeply", with_config(b"[" * 100_000), "not the JSON of an image"),
]

SEVERAL_MEMBERS = gzip.compress(b"a" * 100) + gzip.compress(b"b" * 100)

COPIED: list[tuple[str, Image]] = [
    ("gzip", GOOD),
    ("gzip of docker", images.image([PACKED.layer], diff_ids=[PACKED.diff_id], docker=True)),
    ("archives", images.image([PLAIN, PLAIN])),
    ("archives of docker", images.image([PLAIN], docker=True)),
    ("zstd", labelled(AS_BLOB, images.OCI_ZSTD_LAYER)),
    ("zstd of docker's type in OCI", labelled(AS_BLOB, DOCKER_ZSTD)),
    ("zstd behind a frame to skip", labelled(Blob("", b"\x50\x2a\x4d\x18" + bytes(90)), DOCKER_ZSTD)),
    ("an unknown type", labelled(PLAIN, "application/x-foo", PLAIN.digest)),
    ("gzip without a label", labelled(PACKED.layer, "", PACKED.diff_id)),
    ("gzip of several members", labelled(Blob("", SEVERAL_MEMBERS), images.OCI_LAYER)),
    ("a layer of docker's type in OCI", labelled(PACKED.layer, images.DOCKER_LAYER, PACKED.diff_id)),
    ("more diff_ids than layers", images.image([PACKED.layer], diff_ids=[PACKED.diff_id] * 2)),
    (
        "the config of OCI in docker",
        changed(images.image([PLAIN], docker=True), images.image([PLAIN]).config),
    ),
    ("other cases", with_config(json.dumps({"RootFS": {"Diff_IDs": [PACKED.diff_id]}}).encode())),
    ("a config with odd bytes", with_config(GOOD.config.content[:-1] + b', "x": "\xff"}')),
    ("an archive that is empty", images.image([images.layer(0)])),
    ("another algorithm", labelled(PLAIN, images.OCI_PLAIN_LAYER, f"sha512:{'a' * 128}")),
]


@pytest.mark.parametrize(("why", "sample", "expected"), REFUSED, ids=[row[0] for row in REFUSED])
async def test_what_cells_refuse_is_not_copied(scene: Scene, why: str, sample: Image, expected: str) -> None:
    del why
    await scene.push(sample)

    for _ in range(2):  # what a first attempt has copied does not hide it from the second
        with pytest.raises(Invalid) as refused:
            await scene.copy()

        assert refused.value.code == ErrorCode.CANNOT_RUN_ON_CELLS
        assert expected in refused.value.detail
        assert refused.value.detail.startswith(f"{scene.image}: ")
        assert refused.value.detail.endswith("; cells refuse it from its source as well")
        assert await scene.copied() is None


@pytest.mark.parametrize(("why", "sample"), COPIED, ids=[row[0] for row in COPIED])
async def test_what_some_cells_run_is_copied(scene: Scene, why: str, sample: Image) -> None:
    del why
    await scene.push(sample)

    copied = await scene.copy()

    assert sample.manifest == await scene.copied()
    assert copied.has_zstd_layers == ("zstd" in sample.manifest.content.decode())


async def test_a_plan_says_so_when_the_manifest_shows_it(scene: Scene) -> None:
    await scene.push(images.image([]))

    with pytest.raises(Invalid, match="cannot-run-on-cells"):
        await scene.engine().look_at(scene.image, None)


async def test_an_index_that_is_copied_whole_is_not_checked(scene: Scene) -> None:
    """Which of its manifests a cell takes is not known."""
    await scene.push(images.index([("linux/amd64", images.image([])), ("linux/arm64", GOOD)]))

    await scene.copy(scene.engine(platform=None))

    assert await scene.copied() is not None


async def test_a_source_that_serves_other_bytes_is_not_called_unfit(scene: Scene) -> None:
    """A layer is judged by its first bytes only when its digest is verified."""
    await scene.push(GOOD)
    other = OtherBytes(bytes(len(PACKED.layer.content)))
    scene.source.fail("GET", PACKED.layer.digest, other, times=None)

    with pytest.raises(Invalid, match="digest-mismatch"):
        await scene.copy()


async def test_a_check_costs_no_request(scene: Scene) -> None:
    await scene.push(GOOD)

    await scene.copy()

    assert scene.source.count("GET", "/blobs/") == 2
    assert scene.private.count("GET", "/blobs/") == 0
    assert scene.private.store.find_blob(GUID, PACKED.layer.digest) == PACKED.layer.content


# An upload that is resumed


def pieces(content: bytes, size: int) -> Iterator[memoryview]:
    for at in range(0, len(content), size):
        yield memoryview(content)[at : at + size]


def bad_layer() -> tuple[CellRules, Descriptor]:
    manifest = manifest_of(labelled(AS_BLOB, images.OCI_LAYER))
    return CellRules(manifest, "x"), manifest.layers[0]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100_000])
def test_pieces_of_any_size_are_checked_before_the_last_one(size: int) -> None:
    rules, layer = bad_layer()
    passed = list[int]()

    with pytest.raises(Invalid, match="its bytes are zstd"):
        passed.extend(map(len, CheckedBlob(rules, layer).over(pieces(ZSTD_BYTES, size), 0)))

    assert len(passed) == (len(ZSTD_BYTES) - 1) // size


SENT = (0, 1, 2, 4, 100)


@pytest.mark.parametrize(("sent", "resumed_at"), [(s, at) for s in SENT for at in SENT if at <= s])
def test_a_resumed_upload_is_checked_as_well(sent: int, resumed_at: int) -> None:
    rules, layer = bad_layer()
    checked = CheckedBlob(rules, layer)
    for _, piece in zip(range(sent), checked.over(pieces(ZSTD_BYTES, 1), 0), strict=False):
        assert len(piece) == 1

    with pytest.raises(Invalid, match="its bytes are zstd"):
        list(checked.over(pieces(ZSTD_BYTES[resumed_at:], 7), resumed_at))


def test_a_blob_that_no_rule_is_about_passes_untouched() -> None:
    manifest = manifest_of(images.image([PLAIN]))
    given = pieces(PLAIN.content, 10)

    assert CheckedBlob(CellRules(manifest, "x"), manifest.layers[0]).over(given, 0) is given
