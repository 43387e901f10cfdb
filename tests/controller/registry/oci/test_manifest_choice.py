"""Choosing the manifest of an index that cells take, and reading platforms."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.registry.oci.manifest_choice import choose_entry
from controller.registry.oci.manifests import DOCKER_LIST, OCI_INDEX, OCI_MANIFEST, Index, parse_document
from controller.registry.oci.platforms import LINUX_AMD64, Platform, parse_platform
from reconcile.errors import Invalid
from tests.simulators.manifest_choice import ZSTD, NoneFits, choose_manifest

MARK = {ZSTD: "true"}
EMPTY: dict[str, str] = {}


def plat(text: str, **more: str) -> dict[str, str]:
    names = ("os", "architecture", "variant")
    return dict(zip(names, text.split("/"), strict=False)) | more


def offer(*entries: tuple[dict[str, str] | None, dict[str, str]]) -> list[dict[str, Any]]:
    """Make the entries of an index; the place of an entry is the first digit of its digest."""
    return [
        {"mediaType": OCI_MANIFEST, "digest": f"sha256:{at:064}", "size": 3, "annotations": marks}
        | ({} if platform is None else {"platform": platform})
        for at, (platform, marks) in enumerate(entries)
    ]


def parsed(entries: list[dict[str, Any]], media_type: str) -> Index:
    document = {"schemaVersion": 2, "mediaType": media_type, "manifests": entries}
    index = parse_document(json.dumps(document).encode(), media_type, "x")
    assert isinstance(index, Index)
    return index


def place(index: Index, wanted: Platform) -> int | None:
    entry = choose_entry(index, wanted)
    return None if entry is None else int(entry.digest.hex)


BOTH: list[tuple[str, str, list[str], int | None]] = [
    ("the only one that fits", "linux/amd64", ["linux/arm64", "linux/amd64"], 1),
    ("the first of two", "linux/amd64", ["linux/amd64", "linux/amd64"], 0),
    ("without a variant before one with", "linux/amd64", ["linux/amd64/v3", "linux/amd64"], 1),
    ("amd64 v1 does not fit", "linux/amd64", ["linux/amd64/v1"], None),
    ("amd64 v2 does not fit", "linux/amd64", ["linux/amd64/v2"], None),
    ("amd64 v1 in the config is no variant", "linux/amd64/v1", ["linux/amd64/v1", "linux/amd64"], 1),
    ("another variant does not replace the wanted one", "linux/amd64/v3", ["linux/amd64/v2"], None),
    ("the wanted variant", "linux/amd64/v3", ["linux/amd64", "linux/amd64/v3"], 1),
    ("none beside the wanted variant", "linux/amd64/v3", ["linux/amd64/v2", "linux/amd64"], 1),
    ("names are compared as they are written", "linux/amd64", ["linux/x86_64", "Linux/amd64"], None),
    ("another system", "linux/amd64", ["windows/amd64"], None),
    ("arm64 is v8", "linux/arm64", ["linux/arm64", "linux/arm64/v8"], 1),
    ("arm64 without a variant", "linux/arm64", ["linux/arm64/v9", "linux/arm64"], 1),
    ("arm is v7", "linux/arm", ["linux/arm", "linux/arm/v5", "linux/arm/v6"], 2),
    ("arm without a variant is the last", "linux/arm/v7", ["linux/arm", "linux/arm/v5"], 1),
    ("a higher variant does not fit", "linux/arm/v6", ["linux/arm/v7"], None),
    ("a variant that nobody knows", "linux/arm/v99", ["linux/arm/v7", "linux/arm", "linux/arm/v99"], 2),
    ("nothing", "linux/amd64", [], None),
]


@pytest.mark.parametrize("media_type", [OCI_INDEX, DOCKER_LIST], ids=["oci", "docker"])
@pytest.mark.parametrize(("why", "wanted", "offered", "expected"), BOTH, ids=[row[0] for row in BOTH])
def test_the_platform_decides(
    why: str, wanted: str, offered: list[str], expected: int | None, media_type: str
) -> None:
    del why
    index = parsed(offer(*((plat(each), EMPTY) for each in offered)), media_type)

    assert expected == place(index, parse_platform(wanted))


AMD64 = plat("linux/amd64")
Row = tuple[str, list[tuple[dict[str, str] | None, dict[str, str]]], int | None, int | None]
MARKS_AND_GAPS: list[Row] = [
    ("a mark of zstd is preferred", [(AMD64, EMPTY), (AMD64, MARK)], 1, 0),
    ("the first mark of two", [(AMD64, MARK), (AMD64, MARK)], 0, 0),
    ("another value is no mark", [(AMD64, EMPTY), (AMD64, {ZSTD: "True"})], 0, 0),
    ("a mark of another platform", [(AMD64, EMPTY), (plat("linux/arm64"), MARK)], 0, 0),
    ("a mark without a platform", [(None, MARK), (AMD64, EMPTY)], 1, 1),
    ("no platform is the last resort", [(plat("linux/arm64"), EMPTY), (None, EMPTY)], 1, None),
    ("marks count there, too", [(None, EMPTY), (None, MARK)], 1, None),
    ("an empty platform does not fit", [(EMPTY, EMPTY)], None, None),
    ("a version of linux does not count", [(AMD64 | {"os.version": "5.10"}, EMPTY), (AMD64, EMPTY)], 0, 0),
    ("an attestation", [(plat("unknown/unknown"), MARK), (AMD64, EMPTY)], 1, 1),
]


@pytest.mark.parametrize(
    ("why", "offered", "oci", "docker"), MARKS_AND_GAPS, ids=[r[0] for r in MARKS_AND_GAPS]
)
def test_marks_and_missing_platforms_count_in_oci_indexes(
    why: str,
    offered: list[tuple[dict[str, str] | None, dict[str, str]]],
    oci: int | None,
    docker: int | None,
) -> None:
    del why
    entries = offer(*offered)

    assert (oci, docker) == (
        place(parsed(entries, OCI_INDEX), LINUX_AMD64),
        place(parsed(entries, DOCKER_LIST), LINUX_AMD64),
    )


WINDOWS = [plat("windows/amd64", **{"os.version": each}) for each in ("10.0.17763.5", "10.0.20348.1")]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [("windows/amd64", 0), ("windows(10.0.20348.9)/amd64", 1), ("windows(10.0.1)/amd64", None)],
)
def test_the_version_of_windows_counts_where_the_config_names_one(wanted: str, expected: int | None) -> None:
    index = parsed(offer(*((each, EMPTY) for each in WINDOWS)), OCI_INDEX)

    assert expected == place(index, parse_platform(wanted))


PLATFORMS = st.none() | st.fixed_dictionaries(
    {},
    optional={
        "os": st.sampled_from(["linux", "windows", "unknown", "Linux", ""]),
        "architecture": st.sampled_from(["amd64", "arm64", "unknown", "x86_64", ""]),
        "variant": st.sampled_from(["", "v1", "v2", "v8"]),
        "os.version": st.sampled_from(["", "10.0.17763.5"]),
    },
)
LIKELY = st.sampled_from([AMD64, plat("linux/amd64/v1"), plat("linux/arm64/v8"), None, EMPTY])
MARKS = st.sampled_from([EMPTY, MARK, {ZSTD: "false"}, {"vnd.docker.reference.type": "attestation-manifest"}])


@given(
    st.lists(st.tuples(st.one_of(LIKELY, PLATFORMS), MARKS), max_size=6),
    st.sampled_from([OCI_INDEX, DOCKER_LIST]),
)
def test_the_choice_is_that_of_a_cell(
    offered: list[tuple[dict[str, str] | None, dict[str, str]]], media_type: str
) -> None:
    entries = offer(*offered)
    try:
        taken = choose_manifest({"manifests": entries}, media_type)["digest"]
    except NoneFits:
        taken = None

    chosen = choose_entry(parsed(entries, media_type), LINUX_AMD64)

    assert taken == (None if chosen is None else str(chosen.digest))


@pytest.mark.parametrize("platform", ["linux", [], {"os": 7}, {"os.version": ["10"]}])
def test_a_platform_that_is_not_an_object_of_texts_is_refused(platform: object) -> None:
    entry = offer((AMD64, EMPTY))[0] | {"platform": platform}

    with pytest.raises(Invalid, match="the platform of an entry is not an object of texts"):
        parsed([entry], OCI_INDEX)


@pytest.mark.parametrize("text", ["", "linux", "linux/", "a/b/c/d", "linux/amd 64"])
def test_a_text_that_is_no_platform_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match="is not a platform"):
        parse_platform(text)
