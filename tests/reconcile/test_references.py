# ruff: noqa: N802 - names carry the numbers of known bugs
"""Tables of references and rootfs URIs as Docker and Cloud Controller read them, and their laws.

`{f64}` stands for 64 times f, and so on; `{H}` and `{hex64}` for 64 hex digits.
"""

import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconcile.errors import Invalid
from reconcile.references import (
    CacheGuid,
    CacheRepositories,
    Digest,
    ImageReference,
    Rootfs,
    guid_like_in,
    image_from_rootfs,
    parse_digest,
    parse_image_reference,
    rootfs_from_image_text,
)

GUID = CacheGuid("3d9f1a52-8c1c-4e58-9a1c-0b1c8d2f5e77")
HEX = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
STANDS_FOR = {
    "{f64}": "f" * 64,
    "{f128}": "f" * 128,
    "{F64}": "F" * 64,
    "{g64}": "g" * 64,
    "{hex64}": HEX,
    "{H}": HEX,
    "{D}": HEX,
    "{a x129}": "a" * 129,
    "{a x255}": "a" * 255,
    "{a/ x127}": "a/" * 127,
    "{uuid}": GUID,
}


def full(text: str) -> str:
    for short, long in STANDS_FOR.items():
        text = text.replace(short, long)
    return text


# Row number, input, domain, path, tag, digest, and the whole with its default tag.
REFERENCES = (
    (2, "ubuntu:22.04", "docker.io", "library/ubuntu", "22.04", "", "docker.io/library/ubuntu:22.04"),
    (3, "library/ubuntu", "docker.io", "library/ubuntu", "", "", "docker.io/library/ubuntu:latest"),
    (
        5,
        "docker.io/library/ubuntu:22.04",
        "docker.io",
        "library/ubuntu",
        "22.04",
        "",
        "docker.io/library/ubuntu:22.04",
    ),
    (6, "index.docker.io/ubuntu", "docker.io", "library/ubuntu", "", "", "docker.io/library/ubuntu:latest"),
    (8, "index.docker.io/fooo/bar", "docker.io", "fooo/bar", "", "", "docker.io/fooo/bar:latest"),
    (
        9,
        "registry-1.docker.io/library/ubuntu",
        "registry-1.docker.io",
        "library/ubuntu",
        "",
        "",
        "registry-1.docker.io/library/ubuntu:latest",
    ),
    (11, "library/foo/bar", "docker.io", "library/foo/bar", "", "", "docker.io/library/foo/bar:latest"),
    (12, "store/foo/bar", "docker.io", "store/foo/bar", "", "", "docker.io/store/foo/bar:latest"),
    (14, "test_com", "docker.io", "library/test_com", "", "", "docker.io/library/test_com:latest"),
    (15, "test.com:tag", "docker.io", "library/test.com", "tag", "", "docker.io/library/test.com:tag"),
    (17, "test.com/repo:tag", "test.com", "repo", "tag", "", "test.com/repo:tag"),
    (18, "test:5000/repo", "test:5000", "repo", "", "", "test:5000/repo:latest"),
    (
        20,
        "test:5000/repo@sha256:{f64}",
        "test:5000",
        "repo",
        "",
        "sha256:{f64}",
        "test:5000/repo@sha256:{f64}",
    ),
    (
        21,
        "test:5000/repo:tag@sha256:{f64}",
        "test:5000",
        "repo",
        "tag",
        "sha256:{f64}",
        "test:5000/repo:tag@sha256:{f64}",
    ),
    (
        23,
        "user/image:tag@sha256:{H}",
        "docker.io",
        "user/image",
        "tag",
        "sha256:{H}",
        "docker.io/user/image:tag@sha256:{H}",
    ),
    (
        24,
        "ubuntu:22.04@sha256:{H}",
        "docker.io",
        "library/ubuntu",
        "22.04",
        "sha256:{H}",
        "docker.io/library/ubuntu:22.04@sha256:{H}",
    ),
    (36, "Uppercase/lowercase:tag", "Uppercase", "lowercase", "tag", "", "Uppercase/lowercase:tag"),
    (39, "Docker/docker", "Docker", "docker", "", "", "Docker/docker:latest"),
    (41, "FOO/bar", "FOO", "bar", "", "", "FOO/bar:latest"),
    (42, "LOCALDOMAIN/debian", "LOCALDOMAIN", "debian", "", "", "LOCALDOMAIN/debian:latest"),
    (
        45,
        "sub-dom1.foo.com/bar/baz/quux",
        "sub-dom1.foo.com",
        "bar/baz/quux",
        "",
        "",
        "sub-dom1.foo.com/bar/baz/quux:latest",
    ),
    (
        47,
        "b.gcr.io/test.example.com/my-app:test.example.com",
        "b.gcr.io",
        "test.example.com/my-app",
        "test.example.com",
        "",
        "b.gcr.io/test.example.com/my-app:test.example.com",
    ),
    (
        48,
        "xn--n3h.com/myimage:xn--n3h.com",
        "xn--n3h.com",
        "myimage",
        "xn--n3h.com",
        "",
        "xn--n3h.com/myimage:xn--n3h.com",
    ),
    (
        50,
        "foo/foo_bar.com:8080",
        "docker.io",
        "foo/foo_bar.com",
        "8080",
        "",
        "docker.io/foo/foo_bar.com:8080",
    ),
    (54, "192.168.1.1", "docker.io", "library/192.168.1.1", "", "", "docker.io/library/192.168.1.1:latest"),
    (
        56,
        "192.168.1.1:5000",
        "docker.io",
        "library/192.168.1.1",
        "5000",
        "",
        "docker.io/library/192.168.1.1:5000",
    ),
    (57, "192.168.1.1/repo", "192.168.1.1", "repo", "", "", "192.168.1.1/repo:latest"),
    (59, "192.168.1.1:5000/repo:5050", "192.168.1.1:5000", "repo", "5050", "", "192.168.1.1:5000/repo:5050"),
    (
        60,
        "10.244.2.6:8080/user/image:tag",
        "10.244.2.6:8080",
        "user/image",
        "tag",
        "",
        "10.244.2.6:8080/user/image:tag",
    ),
    (63, "[2001:db8::1]/repo", "[2001:db8::1]", "repo", "", "", "[2001:db8::1]/repo:latest"),
    (
        65,
        "[2001:db8::1]:5000/repo@sha256:{f64}",
        "[2001:db8::1]:5000",
        "repo",
        "",
        "sha256:{f64}",
        "[2001:db8::1]:5000/repo@sha256:{f64}",
    ),
    (71, "localhost:5000/fooo", "localhost:5000", "fooo", "", "", "localhost:5000/fooo:latest"),
    (72, "localhost", "docker.io", "library/localhost", "", "", "docker.io/library/localhost:latest"),
    (
        74,
        "localhost/library/debian",
        "localhost",
        "library/debian",
        "",
        "",
        "localhost/library/debian:latest",
    ),
    (
        75,
        "127.0.0.1:5000/docker/docker",
        "127.0.0.1:5000",
        "docker/docker",
        "",
        "",
        "127.0.0.1:5000/docker/docker:latest",
    ),
    (
        77,
        "registryELB-999514288.eu-west-1.elb.amazonaws.com:5000/ghorvath/test-haproxy:latest",
        "registryELB-999514288.eu-west-1.elb.amazonaws.com:5000",
        "ghorvath/test-haproxy",
        "latest",
        "",
        "registryELB-999514288.eu-west-1.elb.amazonaws.com:5000/ghorvath/test-haproxy:latest",
    ),
    (
        78,
        "SomeHostname:8080/wordpress",
        "SomeHostname:8080",
        "wordpress",
        "",
        "",
        "SomeHostname:8080/wordpress:latest",
    ),
    (
        80,
        "123456789012.dkr.ecr.eu-west-1.amazonaws.com/team/app:1.0",
        "123456789012.dkr.ecr.eu-west-1.amazonaws.com",
        "team/app",
        "1.0",
        "",
        "123456789012.dkr.ecr.eu-west-1.amazonaws.com/team/app:1.0",
    ),
    (81, "gcr.io/my-project/app", "gcr.io", "my-project/app", "", "", "gcr.io/my-project/app:latest"),
    (84, "ghcr.io/owner/image:1", "ghcr.io", "owner/image", "1", "", "ghcr.io/owner/image:1"),
    (86, "quay.io/coreos/etcd:v3.5", "quay.io", "coreos/etcd", "v3.5", "", "quay.io/coreos/etcd:v3.5"),
    (
        87,
        "artifactory.example.com:443/docker-local/app:1",
        "artifactory.example.com:443",
        "docker-local/app",
        "1",
        "",
        "artifactory.example.com:443/docker-local/app:1",
    ),
    (99, "docker.io", "docker.io", "library/docker.io", "", "", "docker.io/library/docker.io:latest"),
    (102, "docker.io/{hex64}", "docker.io", "library/{hex64}", "", "", "docker.io/library/{hex64}:latest"),
    (
        104,
        "docker---rules/docker",
        "docker.io",
        "docker---rules/docker",
        "",
        "",
        "docker.io/docker---rules/docker:latest",
    ),
    (105, "dock__er/docker", "docker.io", "dock__er/docker", "", "", "docker.io/dock__er/docker:latest"),
    (113, "d/docker", "docker.io", "d/docker", "", "", "docker.io/d/docker:latest"),
    (114, "jess/t", "docker.io", "jess/t", "", "", "docker.io/jess/t:latest"),
    (116, "a_b/c", "docker.io", "a_b/c", "", "", "docker.io/a_b/c:latest"),
    (117, "a/b_c", "docker.io", "a/b_c", "", "", "docker.io/a/b_c:latest"),
    (119, "a/b--c", "docker.io", "a/b--c", "", "", "docker.io/a/b--c:latest"),
    (122, "repo:_tag", "docker.io", "library/repo", "_tag", "", "docker.io/library/repo:_tag"),
    (
        143,
        "{a/ x127}a:tag-puts-this-over-max",
        "docker.io",
        "{a/ x127}a",
        "tag-puts-this-over-max",
        "",
        "docker.io/{a/ x127}a:tag-puts-this-over-max",
    ),
    (
        144,
        "registry.example.com:65536/app",
        "registry.example.com:65536",
        "app",
        "",
        "",
        "registry.example.com:65536/app:latest",
    ),
    (152, "my-registry/app", "docker.io", "my-registry/app", "", "", "docker.io/my-registry/app:latest"),
    (153, "foobar:8080/image", "foobar:8080", "image", "", "", "foobar:8080/image:latest"),
)

REFUSALS = (
    (26, "   ", "invalid-format"),
    (27, ":justtag", "invalid-format"),
    (29, "repo@sha256:ffffffffffffffffffffffffffffffffff", "digest-length"),
    (30, "validname@invaliddigest:{f64}", "digest-unsupported"),
    (32, "repo@sha512:{f64}", "digest-length"),
    (33, "repo@sha256:{F64}", "digest-format"),
    (35, "Uppercase:tag", "name-uppercase"),
    (38, "docker/Docker", "name-uppercase"),
    (44, "aa/asdf$$^/aa", "invalid-format"),
    # Upstream reads an empty host here, which nobody can ask for anything.
    (51, "foo_bar.com/image", "invalid-format"),
    (53, "foo-.com/bar", "invalid-format"),
    (62, "[2001:db8::1]:5000", "invalid-format"),
    (66, "[fe80::1%eth0]:5000/repo", "invalid-format"),
    (68, "[2001:db8::1.2.3.4]/repo", "invalid-format"),
    (69, "fc00::1:5000/debian", "invalid-format"),
    (83, "ghcr.io/Owner/Image:1", "name-uppercase"),
    (89, "https://github.com/docker/docker", "invalid-format"),
    (90, "docker://ubuntu", "invalid-format"),
    (92, "-docker", "invalid-format"),
    (93, "-docker/docker", "invalid-format"),
    (95, "docker/", "invalid-format"),
    (96, "/docker", "invalid-format"),
    (98, "docker.io/", "invalid-format"),
    (101, "{hex64}", "name-is-64-hex"),
    (107, "dock..er/docker", "invalid-format"),
    (108, "dock_.er/docker", "invalid-format"),
    (110, "docker-/docker", "invalid-format"),
    (111, "____/____", "invalid-format"),
    (120, "repo:", "invalid-format"),
    (123, "repo:.tag", "invalid-format"),
    (125, "repo:tag+build", "invalid-format"),
    (126, "repo:2024.42.27+1234a5c05", "invalid-format"),
    (128, "repo:{a x129}", "invalid-format"),
    (129, "repo:tag ", "invalid-format"),
    (131, " repo", "invalid-format"),
    (132, "repoé", "invalid-format"),
    (134, "repo@tag", "invalid-format"),
    (135, "repo@sha256", "invalid-format"),
    (137, "repo@@sha256:{f64}", "invalid-format"),
    (138, "repo:tag@", "invalid-format"),
    (140, "a/b@sha256:{H}:tag", "invalid-format"),
    (141, "domain/{a x255}", "name-too-long"),
    (146, "registry.example.com:/app", "invalid-format"),
    (147, "registry.example.com./app", "invalid-format"),
    (149, ":5000/app", "invalid-format"),
    (150, "my_registry:5000/app", "invalid-format"),
)

CC_SAME_IMAGE = (
    ("ubuntu:22.04", "docker:///library/ubuntu#22.04"),
    ("library/ubuntu", "docker:///library/ubuntu"),
    ("docker.io/library/ubuntu:22.04", "docker://docker.io/library/ubuntu#22.04"),
    ("registry-1.docker.io/library/ubuntu", "docker://registry-1.docker.io/library/ubuntu"),
    ("library/foo/bar", "docker:///library/foo/bar"),
    ("store/foo/bar", "docker:///store/foo/bar"),
    ("test_com", "docker:///library/test_com"),
    ("test.com:tag", "docker:///library/test.com#tag"),
    ("test.com/repo:tag", "docker://test.com/repo#tag"),
    ("test:5000/repo", "docker://test:5000/repo"),
    ("test:5000/repo@sha256:{f64}", "docker://test:5000/repo@sha256#{f64}"),
    ("test:5000/repo:tag@sha256:{f64}", "docker://test:5000/repo#tag@sha256:{f64}"),
    ("user/image:tag@sha256:{H}", "docker:///user/image#tag@sha256:{H}"),
    ("ubuntu:22.04@sha256:{H}", "docker:///library/ubuntu#22.04@sha256:{H}"),
    ("sub-dom1.foo.com/bar/baz/quux", "docker://sub-dom1.foo.com/bar/baz/quux"),
    ("sub-dom1.foo.com/bar/baz/quux:some-long-tag", "docker://sub-dom1.foo.com/bar/baz/quux#some-long-tag"),
    ("xn--n3h.com/myimage:xn--n3h.com", "docker://xn--n3h.com/myimage#xn--n3h.com"),
)

CC_OTHER_SPELLING = (
    ("index.docker.io/library/ubuntu", "docker://index.docker.io/library/ubuntu"),
    ("index.docker.io/fooo/bar", "docker://index.docker.io/fooo/bar"),
)

CC_LOOSER = (
    (":justtag", "docker:///library/#justtag"),
    ("@sha256:{f64}", "docker:///library/@sha256#{f64}"),
    ("-foo.com/bar", "docker://-foo.com/bar"),
    ("foo-.com/bar", "docker://foo-.com/bar"),
    ("[2001:db8:3:4::192.0.2.33]:5000/debian", "docker://[2001:db8:3:4::192.0.2.33]:5000/debian"),
    ("[2001:db8::1.2.3.4]/repo", "docker://[2001:db8::1.2.3.4]/repo"),
    ("-docker", "docker:///library/-docker"),
    ("-docker/docker", "docker:///-docker/docker"),
    ("docker/", "docker:///docker/"),
    ("/docker", "docker:////docker"),
    ("docker.io/", "docker://docker.io/library/"),
    ("docker.io/docker///docker", "docker://docker.io/docker///docker"),
    ("dock___er/docker", "docker:///dock___er/docker"),
    ("dock..er/docker", "docker://dock..er/docker"),
    ("dock-.er/docker", "docker://dock-.er/docker"),
    ("docker-/docker", "docker:///docker-/docker"),
    ("_docker/_docker", "docker:///_docker/_docker"),
    ("repo:.tag", "docker:///library/repo#.tag"),
    ("repo@tag", "docker:///library/repo#tag"),
    ("repo@sha256", "docker:///library/repo#sha256"),
    ("registry.example.com./app", "docker://registry.example.com./app"),
    ("host:80a/app", "docker://host:80a/app"),
    ("my_registry:5000/app", "docker://my_registry:5000/app"),
)

CC_STRICTER = (
    "repo@sha512:{f128}",
    "Docker/docker",
    "DOCKER/docker",
    "LOCALDOMAIN/debian",
    "a.b/c",
)

BOTH_REFUSE = (
    "   ",
    "validname@invaliddigest:{f64}",
    "repo@sha512:{f64}",
    "Uppercase:tag",
)

# Row number, the raw text's rootfs (empty: refused), the builder's report (empty: staging fails), its rootfs.
CC_RAW_AND_STAGED = (
    (1, "busybox", "docker:///library/busybox", "library/busybox:latest", "docker:///library/busybox#latest"),
    (
        2,
        "ubuntu:22.04",
        "docker:///library/ubuntu#22.04",
        "library/ubuntu:22.04",
        "docker:///library/ubuntu#22.04",
    ),
    (
        3,
        "library/busybox",
        "docker:///library/busybox",
        "library/busybox:latest",
        "docker:///library/busybox#latest",
    ),
    (4, "team/app", "docker:///team/app", "team/app:latest", "docker:///team/app#latest"),
    (5, "team/app:v1.2", "docker:///team/app#v1.2", "team/app:v1.2", "docker:///team/app#v1.2"),
    (6, "team/sub/app:v1", "docker:///team/sub/app#v1", "team/sub/app:v1", "docker:///team/sub/app#v1"),
    (
        7,
        "docker.io/busybox",
        "docker://docker.io/library/busybox",
        "docker.io/busybox:latest",
        "docker://docker.io/library/busybox#latest",
    ),
    (
        8,
        "docker.io/library/busybox:1.36",
        "docker://docker.io/library/busybox#1.36",
        "docker.io/library/busybox:1.36",
        "docker://docker.io/library/busybox#1.36",
    ),
    (
        9,
        "docker.io/team/app:latest",
        "docker://docker.io/team/app#latest",
        "docker.io/team/app:latest",
        "docker://docker.io/team/app#latest",
    ),
    (
        10,
        "index.docker.io/library/busybox",
        "docker://index.docker.io/library/busybox",
        "index.docker.io/library/busybox:latest",
        "docker://index.docker.io/library/busybox#latest",
    ),
    (
        11,
        "registry-1.docker.io/library/busybox",
        "docker://registry-1.docker.io/library/busybox",
        "library/busybox:latest",
        "docker:///library/busybox#latest",
    ),
    (
        12,
        "registry.example.com/team/app:prod",
        "docker://registry.example.com/team/app#prod",
        "registry.example.com/team/app:prod",
        "docker://registry.example.com/team/app#prod",
    ),
    (
        13,
        "registry.example.com/app",
        "docker://registry.example.com/app",
        "registry.example.com/app:latest",
        "docker://registry.example.com/app#latest",
    ),
    (14, "localhost/app", "docker://localhost/app", "localhost/app:latest", "docker://localhost/app#latest"),
    (
        15,
        "localhost:5000/app:1",
        "docker://localhost:5000/app#1",
        "localhost:5000/app:1",
        "docker://localhost:5000/app#1",
    ),
    (
        16,
        "registry:5000/app",
        "docker://registry:5000/app",
        "registry:5000/app:latest",
        "docker://registry:5000/app#latest",
    ),
    (
        17,
        "registry.example.com:5000/team/app:1.0",
        "docker://registry.example.com:5000/team/app#1.0",
        "registry.example.com:5000/team/app:1.0",
        "docker://registry.example.com:5000/team/app#1.0",
    ),
    (
        18,
        "10.0.16.7:8080/{uuid}",
        "docker://10.0.16.7:8080/{uuid}",
        "10.0.16.7:8080/{uuid}:latest",
        "docker://10.0.16.7:8080/{uuid}#latest",
    ),
    (
        19,
        "10.0.16.7:8080/{uuid}:latest",
        "docker://10.0.16.7:8080/{uuid}#latest",
        "10.0.16.7:8080/{uuid}:latest",
        "docker://10.0.16.7:8080/{uuid}#latest",
    ),
    (
        20,
        "image-cache.service.cf.internal:8080/library/{uuid}:latest",
        "docker://image-cache.service.cf.internal:8080/library/{uuid}#latest",
        "image-cache.service.cf.internal:8080/library/{uuid}:latest",
        "docker://image-cache.service.cf.internal:8080/library/{uuid}#latest",
    ),
    (
        21,
        "myhost/team/app:2",
        "docker:///myhost/team/app#2",
        "myhost/team/app:2",
        "docker:///myhost/team/app#2",
    ),
    (
        22,
        "busybox@sha256:{D}",
        "docker:///library/busybox@sha256#{D}",
        "library/busybox@sha256:{D}",
        "docker:///library/busybox@sha256#{D}",
    ),
    (
        23,
        "team/app@sha256:{D}",
        "docker:///team/app@sha256#{D}",
        "team/app@sha256:{D}",
        "docker:///team/app@sha256#{D}",
    ),
    (
        24,
        "registry.example.com/p/a@sha256:{D}",
        "docker://registry.example.com/p/a@sha256#{D}",
        "registry.example.com/p/a@sha256:{D}",
        "docker://registry.example.com/p/a@sha256#{D}",
    ),
    (
        25,
        "10.0.16.7:8080/{uuid}@sha256:{D}",
        "docker://10.0.16.7:8080/{uuid}@sha256#{D}",
        "10.0.16.7:8080/{uuid}@sha256:{D}",
        "docker://10.0.16.7:8080/{uuid}@sha256#{D}",
    ),
    (
        26,
        "docker.io/busybox@sha256:{D}",
        "docker://docker.io/library/busybox@sha256#{D}",
        "docker.io/busybox@sha256:{D}",
        "docker://docker.io/library/busybox@sha256#{D}",
    ),
    (27, "ubuntu:22.04@sha256:{D}", "docker:///library/ubuntu#22.04@sha256:{D}", "", ""),
    (28, "registry.example.com/p/a:v1@sha256:{D}", "docker://registry.example.com/p/a#v1@sha256:{D}", "", ""),
    (
        29,
        "123456789012.dkr.ecr.us-east-1.amazonaws.com/repo:1",
        "docker://123456789012.dkr.ecr.us-east-1.amazonaws.com/repo#1",
        "123456789012.dkr.ecr.us-east-1.amazonaws.com/repo:1",
        "docker://123456789012.dkr.ecr.us-east-1.amazonaws.com/repo#1",
    ),
    (
        30,
        "registry.example.com",
        "docker:///library/registry.example.com",
        "library/registry.example.com:latest",
        "docker:///library/registry.example.com#latest",
    ),
    (
        31,
        "myregistry:5000",
        "docker:///library/myregistry#5000",
        "library/myregistry:5000",
        "docker:///library/myregistry#5000",
    ),
    (
        32,
        "registry.example.com/p/a:v1/x",
        "docker://registry.example.com/p/a#latest",
        "registry.example.com/p/a:v1/x:latest",
        "docker://registry.example.com/p/a#latest",
    ),
    (33, "a", "docker:///library/a", "library/a:latest", "docker:///library/a#latest"),
    (34, "registry.example.com/a", "", "registry.example.com/a:latest", ""),
    (35, "registry.example.com/Team/app", "", "", ""),
    (
        36,
        "REGISTRY.Example.com/team/app:1",
        "docker://REGISTRY.Example.com/team/app#1",
        "REGISTRY.Example.com/team/app:1",
        "docker://REGISTRY.Example.com/team/app#1",
    ),
    (37, "docker://busybox", "", "", ""),
    (38, "busybox:", "", "library/busybox:latest", "docker:///library/busybox#latest"),
    (39, "busybox@sha256:abc", "", "", ""),
)

ROOTFS_AND_PULLED = (
    ("docker:///library/busybox#latest", "docker.io/library/busybox:latest"),
    ("docker:///library/busybox", "docker.io/library/busybox:latest"),
    ("docker:///library/busybox#", "docker.io/library/busybox:latest"),
    ("docker:///busybox", "docker.io/library/busybox:latest"),
    ("docker://docker.io/library/busybox#1", "docker.io/library/busybox:1"),
    ("docker://reg:5000/a/b#x", "reg:5000/a/b:x"),
    ("docker://reg:5000/a/b:x", "reg:5000/a/b:x"),
    ("docker://reg.example.com/a@sha256#{D}", "reg.example.com/a@sha256:{D}"),
    ("docker:///a/b@sha256:{D}", "docker.io/a/b@sha256:{D}"),
    ("docker://user:pw@reg.example.com/a#x", "reg.example.com/a:x"),
    ("docker://reg.example.com/a?user=x#y", "reg.example.com/a:latest"),
)


@pytest.mark.parametrize(
    ("text", "domain", "path", "tag", "digest", "whole"),
    [pytest.param(*map(full, row[1:]), id=str(row[0])) for row in REFERENCES],
)
def test_a_reference_is_read_as_docker_reads_it(
    text: str, domain: str, path: str, tag: str, digest: str, whole: str
) -> None:
    image = parse_image_reference(text)

    assert (image.domain, image.path) == (domain, path)
    assert image.tag == (tag or None)
    assert str(image.digest or "") == digest
    assert str(image.with_default_tag()) == whole


@pytest.mark.parametrize(
    ("text", "code"), [pytest.param(full(text), code, id=str(row)) for row, text, code in REFUSALS]
)
def test_a_text_that_is_no_reference_is_refused_with_its_class(text: str, code: str) -> None:
    with pytest.raises(Invalid) as error:
        parse_image_reference(text)

    assert (error.value.system, error.value.code) == ("image", code)


def test_every_row_of_the_table_is_here() -> None:
    assert len({row[0] for row in REFERENCES} | {row[0] for row in REFUSALS}) == 102


def test_a_host_with_an_underscore_is_named_in_the_refusal() -> None:
    """Upstream accepts it with an empty host, and would ask Docker Hub; nobody can have meant that."""
    with pytest.raises(Invalid, match=re.escape("has an illegal host 'foo_bar.com'")):
        parse_image_reference("foo_bar.com/image")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("registry.example.org/foo/screenApp", "capitals in its repository 'foo/screenApp'"),
        ("app:2024.42.27+1234a5c05", "illegal tag '2024.42.27+1234a5c05'"),
        ("-docker/app", "illegal repository '-docker/app'"),
        ("app@sha256:abc", "after '@'"),
    ],
)
def test_a_refusal_names_the_offending_part(text: str, part: str) -> None:
    with pytest.raises(Invalid) as error:
        parse_image_reference(text)

    assert part in error.value.detail


@pytest.mark.parametrize(
    "text",
    [
        "user:s3cr3t@registry.example.com/app",
        "https://user:s3cr3t@registry.example.com/app",
        "docker://user:s3cr3t@registry.example.com",
        "user:a@s3cr3t@registry.example.com/app",
        "user:a/s3cr3t@registry.example.com/app",
        "docker://user:a/s3cr3t@registry.example.com",
        "docker://user:a/b:s3cr3t@registry.example.com",
        "docker://user:a#s3cr3t@registry.example.com",
        "docker://a/S/s3cr3t:b@registry.example.com",
        "user:s3cr3t@@registry.example.com/app",
        f"user:s3cr3t@registry.example.com/app@sha256:{'0' * 64}",
    ],
)
def test_a_login_in_a_text_is_not_shown(text: str) -> None:
    for read in (
        parse_image_reference,
        lambda text: image_from_rootfs(Rootfs(text + "/UPPER")),
        lambda text: image_from_rootfs(Rootfs(f"preloaded:{text}/app")),
    ):
        with pytest.raises(Invalid) as error:
            read(text)

        assert "s3cr3t" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "uri"), [tuple(map(full, row)) for row in CC_SAME_IMAGE + CC_OTHER_SPELLING + CC_LOOSER]
)
def test_a_rootfs_is_written_as_cloud_controller_writes_it(text: str, uri: str) -> None:
    assert rootfs_from_image_text(text) == Rootfs(uri)


@pytest.mark.parametrize("text", [*map(full, CC_STRICTER + BOTH_REFUSE)])
def test_a_text_that_cloud_controller_refuses_gives_no_rootfs(text: str) -> None:
    with pytest.raises(Invalid):
        rootfs_from_image_text(text)


@pytest.mark.parametrize("text", [*map(full, CC_STRICTER)])
def test_P7_cloud_controller_refuses_texts_that_docker_reads(text: str) -> None:
    assert parse_image_reference(text).path


@pytest.mark.parametrize(
    ("text", "uri"), [tuple(map(full, row)) for row in CC_SAME_IMAGE + CC_OTHER_SPELLING]
)
def test_P7_a_rootfs_leads_back_to_the_image_that_the_user_meant(text: str, uri: str) -> None:
    assert image_from_rootfs(Rootfs(uri)).canonical() == parse_image_reference(text).canonical()


@pytest.mark.parametrize(
    ("text", "uri"), [tuple(map(full, row)) for row in CC_LOOSER if not row[0].startswith("repo@")]
)
def test_a_rootfs_that_no_registry_understands_is_refused_with_the_reason(text: str, uri: str) -> None:
    with pytest.raises(Invalid, match="has an illegal"):
        parse_image_reference(text)
    with pytest.raises(Invalid, match="has an illegal"):
        image_from_rootfs(Rootfs(uri))


@pytest.mark.parametrize(("text", "tag"), [("repo@tag", "tag"), ("repo@sha256", "sha256")])
def test_what_follows_an_at_sign_reaches_a_cell_as_a_tag(text: str, tag: str) -> None:
    """Docker refuses the text, but Cloud Controller writes a rootfs that every cell can pull."""
    assert image_from_rootfs(rootfs_from_image_text(text)) == ImageReference("docker.io", "library/repo", tag)


def test_every_row_of_cloud_controllers_table_is_here() -> None:
    tables = (CC_SAME_IMAGE, CC_OTHER_SPELLING, CC_LOOSER, CC_STRICTER, BOTH_REFUSE)

    assert sum(map(len, tables)) == 51


@pytest.mark.parametrize(
    ("text", "raw", "report", "staged"),
    [pytest.param(*map(full, row[1:]), id=str(row[0])) for row in CC_RAW_AND_STAGED],
)
def test_cloud_controller_reads_a_raw_text_and_a_builders_report(
    text: str, raw: str, report: str, staged: str
) -> None:
    """Trap 6 of Cloud Controller: a rootfs of a patched droplet may lack the fragment that staging gives it."""
    for droplet_image, uri in ((text, raw), (report, staged)):
        if uri:
            assert rootfs_from_image_text(droplet_image) == Rootfs(uri)
        elif droplet_image:
            with pytest.raises(Invalid):
                rootfs_from_image_text(droplet_image)
    if raw and staged:
        assert image_from_rootfs(Rootfs(raw)).canonical() == image_from_rootfs(Rootfs(staged)).canonical()


@pytest.mark.parametrize(("uri", "pulled"), [tuple(map(full, row)) for row in ROOTFS_AND_PULLED])
def test_a_rootfs_is_read_as_a_cell_reads_it(uri: str, pulled: str) -> None:
    assert str(image_from_rootfs(Rootfs(uri)).canonical()) == pulled


def test_a_rootfs_with_tag_and_digest_keeps_both() -> None:
    """A cell refuses to pull it; whoever asks must be able to see why."""
    image = image_from_rootfs(Rootfs(f"docker:///library/ubuntu#22.04@sha256:{HEX}"))

    assert image == ImageReference("docker.io", "library/ubuntu", "22.04", Digest("sha256", HEX))


@pytest.mark.parametrize("uri", ["preloaded:cflinuxfs4", "", "docker:x", "preloaded+layer:x", "oci://reg/x"])
def test_a_rootfs_without_an_image_is_not_docker(uri: str) -> None:
    with pytest.raises(Invalid) as error:
        image_from_rootfs(Rootfs(uri))

    assert error.value.code == "not-docker"


@pytest.mark.parametrize(
    "spelling",
    [
        "busybox",
        "library/busybox",
        "busybox:latest",
        "docker.io/busybox",
        "docker.io/library/busybox",
        "Docker.io/busybox",
        "index.docker.io/busybox",
        "registry-1.docker.io/busybox",
        "registry-1.docker.io/library/busybox:latest",
    ],
)
def test_all_spellings_of_a_hub_image_are_one_image(spelling: str) -> None:
    """Trap 5 of Cloud Controller, and 6: no tag is `latest`."""
    assert str(parse_image_reference(spelling).canonical()) == "docker.io/library/busybox:latest"


def test_a_tag_beside_a_digest_does_not_make_another_image() -> None:
    both, bare = (
        parse_image_reference(full(text)) for text in ("team/app:1@sha256:{D}", "team/app@sha256:{D}")
    )

    assert both.canonical() == bare.canonical() == bare
    assert both.tag_or_digest == f"sha256:{HEX}"


def test_a_host_that_only_its_capitals_set_apart_keeps_them() -> None:
    """Were they lost, the reference would name another image, on Docker Hub."""
    assert str(parse_image_reference("FOO/bar").canonical()) == "FOO/bar:latest"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("sha256", "invalid-format"),
        ("", "invalid-format"),
        (f"md5:{'a' * 32}", "digest-unsupported"),
        ("sha256:abc", "digest-length"),
        (f"sha256:{HEX.upper()}", "digest-format"),
        (f"sha256:{'g' * 64}", "digest-format"),
        (f"sha256:{HEX}\n", "digest-length"),
        (f"sha256:{'٣' * 64}", "digest-format"),
        ("sha256:../../../../../../../../../../../../../../../../../../../../../x", "digest-format"),
    ],
)
def test_a_text_that_is_no_digest_is_refused(text: str, code: str) -> None:
    with pytest.raises(Invalid) as error:
        parse_digest(text)

    assert error.value.code == code


def test_both_digest_algorithms_are_read() -> None:
    for text in (f"sha256:{HEX}", f"sha512:{HEX}{HEX}"):
        assert str(parse_digest(text)) == text


components = st.from_regex(r"[a-z0-9]{1,5}((\.|_|__|-)[a-z0-9]{1,5})?", fullmatch=True)
domains = st.sampled_from(
    ["docker.io", "registry.example.com", "Registry.Example:5000", "localhost", "FOO", "[2001:db8::1]:5000"]
)
tags = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True)
digests = st.from_regex(r"[0-9a-f]{64}", fullmatch=True).map(lambda digits: Digest("sha256", digits))
images = st.builds(
    ImageReference,
    domain=domains,
    path=st.lists(components, min_size=2, max_size=4).map("/".join),
    tag=st.none() | tags,
    digest=st.none() | digests,
)


@given(images)
def test_a_reference_survives_format_and_parse(image: ImageReference) -> None:
    assert parse_image_reference(str(image)) == image


@given(images)
def test_a_rootfs_survives_format_and_parse(image: ImageReference) -> None:
    if image.domain == "FOO":  # Cloud Controller takes it for a namespace and refuses its capitals
        return
    assert image_from_rootfs(rootfs_from_image_text(str(image))) == image


@given(images)
def test_a_canonical_reference_is_canonical_and_parses_to_itself(image: ImageReference) -> None:
    canonical = image.canonical()

    assert canonical.canonical() == canonical
    assert parse_image_reference(str(canonical)) == canonical


letters = st.text(alphabet="aZ0._-:/@#?[]% \né" + "sha256", max_size=40)


@given(letters | st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    for read in (
        parse_image_reference,
        parse_digest,
        rootfs_from_image_text,
        lambda text: image_from_rootfs(Rootfs(text)),
        lambda text: image_from_rootfs(Rootfs(f"docker://{text}")),
    ):
        with contextlib.suppress(Invalid):
            read(text)


@given(letters)
def test_whatever_is_read_parses_to_itself(text: str) -> None:
    try:
        image = parse_image_reference(text)
    except Invalid:
        return
    assert parse_image_reference(str(image)) == image
    assert parse_image_reference(str(image.canonical())) == image.canonical()


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "unit", ["a-", "a", "_", ".", "a.", "a/", "-", "//", "@", ":", "a@", "#", "[", "A", "a__", "0.0"]
)
@pytest.mark.parametrize(
    "frame", ["{}", "{}!", "host.example/{}!", "app:{}!", "app@sha256:{}!", "{}!/app", "{}@/"]
)
def test_hostile_texts_are_refused_in_linear_time(unit: str, frame: str) -> None:
    text = frame.format(unit * (100_000 // len(unit)))
    for read in (
        parse_image_reference,
        parse_digest,
        lambda text: image_from_rootfs(Rootfs(f"docker://{text}")),
    ):
        with pytest.raises(Invalid) as error:
            read(text)

        assert len(error.value.detail) < 4000
    with contextlib.suppress(Invalid):  # it does not look at hosts
        rootfs_from_image_text(text)


def test_a_copy_lies_in_a_repository_of_its_own() -> None:
    cache = CacheRepositories("cache.example:8080")

    assert str(cache.image(GUID)) == f"cache.example:8080/{GUID}:latest"
    assert cache.rootfs(GUID) == Rootfs(f"docker://cache.example:8080/{GUID}#latest")


@pytest.mark.parametrize(
    ("template", "uri"),
    [
        ("docker-cache:{guid}", "docker://cache.example/docker-cache#{uuid}"),
        ("team/{guid}:latest", "docker://cache.example/team/{uuid}#latest"),
        ("{guid}", "docker://cache.example/{uuid}#latest"),
    ],
)
def test_a_template_says_where_copies_lie(template: str, uri: str) -> None:
    cache = CacheRepositories("cache.example", template)

    assert cache.rootfs(GUID) == Rootfs(full(uri))
    assert image_from_rootfs(cache.rootfs(GUID)) == cache.image(GUID)


@pytest.mark.parametrize(
    "template", ["", "latest", "cache:latest", "{other}:latest", "Cache/{guid}:latest", "{guid}:a b"]
)
def test_a_template_that_names_no_copy_is_refused(template: str) -> None:
    with pytest.raises(Invalid):
        CacheRepositories("cache.example", template)


@pytest.mark.parametrize(
    "address",
    ["", "cache", "docker.io", "index.docker.io", "CACHE", "my_cache:80", "https://cache.example", "a b:1"],
)
def test_an_address_that_cells_would_read_otherwise_is_refused(address: str) -> None:
    """A bare name would be taken for a namespace of Docker Hub."""
    with pytest.raises(Invalid):
        CacheRepositories(address)


@pytest.mark.parametrize("template", ["{guid}:latest", "docker-cache:{guid}", "apps/{guid}/image:1"])
def test_the_name_of_a_copy_gives_its_guid(template: str) -> None:
    cache, guid = CacheRepositories("Registry.internal:5000", template), GUID

    assert cache.guid_of(cache.image(guid)) == guid
    assert cache.guid_of(image_from_rootfs(cache.rootfs(guid))) == guid
    assert cache.guid_of(image_from_rootfs(cache.rootfs(guid)).canonical()) == guid


@pytest.mark.parametrize(
    "text",
    [
        "other.internal:5000/00000000-0000-4000-8000-000000000007:latest",
        "registry.internal:5000/00000000-0000-4000-8000-000000000007:other",
        "registry.internal:5000/prefix/00000000-0000-4000-8000-000000000007:latest",
        "registry.internal:5000/team/web:latest",
        f"registry.internal:5000/00000000-0000-4000-8000-000000000007@sha256:{'0' * 64}",
    ],
)
def test_another_image_has_no_guid(text: str) -> None:
    assert CacheRepositories("registry.internal:5000").guid_of(parse_image_reference(text)) is None


@pytest.mark.parametrize(
    ("text", "held"),
    [
        ("Cache.Example:8080/app", True),
        ("cache.example:8080/app:1", True),
        ("cache.example/app", False),
        ("cache.example:8081/app", False),
        ("app", False),
    ],
)
def test_the_private_registry_is_known_in_any_spelling(text: str, held: bool) -> None:  # noqa: FBT001 - a table
    assert CacheRepositories("cache.example:8080").covers(parse_image_reference(text)) is held
    assert CacheRepositories("CACHE.example:8080").covers(parse_image_reference(text)) is held


class TestFormerRegistries:
    """The private registry is another one now, and the former ones are known."""

    GUID = CacheGuid("3d9f1a52-8c1c-4e58-9a1c-0b1c8d2f5e77")
    OLD = CacheRepositories("old.example:5000", "docker-cache:{guid}")
    CACHE = CacheRepositories("cache.example:8080", former=(OLD,))

    def test_a_copy_in_a_former_one_is_ours_and_not_in_the_present_one(self) -> None:
        image = self.OLD.image(self.GUID)

        assert self.CACHE.former_of(image) == self.OLD
        assert self.CACHE.owns(image)
        assert not self.CACHE.covers(image)
        assert self.CACHE.owns(self.CACHE.image(self.GUID))
        assert not self.CACHE.owns(parse_image_reference("registry.example.com/team/app:1"))

    def test_the_repositories_of_a_recorded_registry_are_named_as_it_names_them(self) -> None:
        assert self.CACHE.of_registry("") == self.CACHE
        assert self.CACHE.of_registry("CACHE.example:8080") == self.CACHE
        assert self.CACHE.of_registry("old.example:5000") == self.OLD
        unknown = self.CACHE.of_registry("older.example:5000")
        assert str(unknown.image(self.GUID)) == f"older.example:5000/{self.GUID}:latest"

    def test_what_looks_like_a_guid_is_found_wherever_it_stands(self) -> None:
        assert guid_like_in(self.OLD.image(self.GUID)) == self.GUID
        assert guid_like_in(parse_image_reference(f"x.example/a/{self.GUID}")) == self.GUID
        assert guid_like_in(parse_image_reference("x.example/team/app:1")) is None
        assert guid_like_in(parse_image_reference(f"x.example/a{self.GUID}0")) is None


@pytest.mark.parametrize(
    ("uri", "login", "without"),
    [
        ("docker://u:a@b@host/x#1", "u:a@b@", "docker://host/x#1"),
        ("docker://u:a/b@host/x", "u:a/b@", "docker://host/x"),
        ("docker:///user/image@sha256#" + "0" * 64, "", "docker:///user/image@sha256#" + "0" * 64),
        ("preloaded:cflinuxfs4", "", "preloaded:cflinuxfs4"),
    ],
)
def test_a_rootfs_knows_the_login_that_it_holds(uri: str, login: str, without: str) -> None:
    rootfs = Rootfs(uri)

    assert rootfs.login == login
    assert rootfs.without_login() == Rootfs(without)
    assert login not in str(rootfs) or not login


def test_a_host_that_no_resolver_knows_is_refused_for_its_length() -> None:
    with pytest.raises(Invalid) as refused:
        parse_image_reference(f"{'a' * 60_000}.example/app")

    assert refused.value.code == "invalid-format"
    assert len(refused.value.detail) < 1100
