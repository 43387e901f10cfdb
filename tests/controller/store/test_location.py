"""Where a URL says that the database is."""

from pathlib import Path

import pytest

from controller.store.location import Server, ServerLocation, location_from_url, name_of
from reconcile.errors import Invalid


def server(url: str, *, password: str = "") -> ServerLocation:
    found = location_from_url(url, password=password).server
    assert found is not None
    return found


def test_a_server_is_named_by_driver_host_and_database() -> None:
    found = server("postgresql://docker_cache@sql-db.example:5524/store")

    assert (found.server, found.host, found.port) == (Server.POSTGRESQL, "sql-db.example", 5524)
    assert (found.user, found.database) == ("docker_cache", "store")
    assert found.name == "postgresql://sql-db.example:5524/store"


@pytest.mark.parametrize(
    ("driver", "kind", "port"),
    [
        ("postgresql", Server.POSTGRESQL, 5432),
        ("postgres", Server.POSTGRESQL, 5432),
        ("mysql", Server.MYSQL, 3306),
        ("mariadb", Server.MYSQL, 3306),
    ],
)
def test_each_kind_has_its_port(driver: str, kind: Server, port: int) -> None:
    found = server(f"{driver}://u@db.example/store")

    assert (found.server, found.port) == (kind, port)


def test_an_address_of_ipv6_stands_in_brackets() -> None:
    assert server("mysql://u@[fd00::1]:3307/store").host == "fd00::1"


def test_what_is_encoded_is_decoded_and_never_shown() -> None:
    found = server("mysql://some%40body:p%40ss%2Fw%3Ard@db.example/store")

    assert (found.user, found.read_password()) == ("some@body", "p@ss/w:rd")
    assert "p@ss" not in repr(found)
    assert "body" not in found.name


def test_the_password_of_the_url_counts_before_that_of_the_environment() -> None:
    assert server("mysql://u:one@db.example/store", password="other").read_password() == "one"
    assert server("mysql://u@db.example/store", password="other").read_password() == "other"
    assert server("mysql://u@db.example/store").read_password() == ""


def test_the_password_of_the_file_counts_before_any_other(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("third\n")
    found = location_from_url("mysql://u:one@db.example/store", password="other", password_file=file).server

    assert found is not None
    assert found.read_password() == "third"


def test_a_password_that_is_not_encoded_is_refused_unseen() -> None:
    """Its "#" would end the URL, and the rest of it would be taken for the host."""
    with pytest.raises(Invalid) as refused:
        location_from_url("postgresql://u:hunter#2@db.example/store")

    assert "hunter" not in refused.value.detail


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("postgresql://u:hunter2@db.example/store", "postgresql://db.example/store"),
        ("mysql://db.example/store", "mysql://db.example/store"),
        ("sqlite:////var/a@b/cache.db", "sqlite:////var/a@b/cache.db"),
    ],
)
def test_a_url_is_shown_without_its_login(url: str, name: str) -> None:
    assert name_of(url) == name
