"""Properties of the BOSH job that a deployment may have, for the tests of its templates."""

from dataclasses import dataclass
from typing import Any

Tree = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Pems:
    """Texts of a CA certificate, and of a certificate and its key."""

    ca: str
    cert: str
    key: str

    @property
    def client(self) -> Tree:
        """The properties of a client."""
        return {"ca_cert": self.ca, "client_cert": self.cert, "client_key": self.key}


MYSQL: Tree = {"sql": {"db_driver": "mysql", "db_password": "database-secret"}}


def least(pems: Pems) -> Tree:
    """What a deployment with a SQLite file must say."""
    return {
        "bbs": pems.client,
        "journal": {"encryption_keys": [{"label": "key-1", "passphrase": "correct horse battery staple"}]},
        "cache_registry": {"address": "cache.example:8080"},
        "admin": {"ca_cert": pems.ca, "server_cert": pems.cert, "server_key": pems.key},
    }


def everything(pems: Pems) -> Tree:
    """All that a deployment with a database on a server can say and that goes together."""
    registry = {
        **pems.client,
        "plain_http": False,
        "username": "docker-cache",
        "password": "registry-secret",
        "other_hosts": ["tokens.example"],
        "traffic": {"max_connections": 16},
    }
    return {
        "bbs": {**pems.client, "api_location": "bbs.example:8889"},
        "sql": {
            "db_driver": "postgres",
            "db_host": "sql.example",
            "db_port": 5524,
            "db_schema": "cache",
            "db_username": "cache@region",
            "db_password": "database-secret",
            "ca_cert": pems.ca,
        },
        "journal": {
            "encryption_keys": [
                {"label": "old", "key": "A" * 43 + "="},
                {"label": "new", "passphrase": "correct horse battery staple"},
            ],
            "active_key_label": "new",
        },
        "cache_registry": {**registry, "address": "cache.example:8080"},
        "former_cache_registries": [
            {**registry, "address": "old-cache.example:8080", "repository_template": "docker-cache:{guid}"}
        ],
        "registries": [
            {**registry, "address": "one.example", "allowed_networks": ["10.0.16.0/24"]},
            {"address": "two.example", "username": "reader", "password": "second-secret"},
            {"address": "three.example", "traffic": {"max_connections": 4}},
        ],
        "cache_pull_username": "cells",
        "cache_pull_password": "pull-secret",
        "registry_auth": {"auths": {"four.example": {"auth": "dXNlcjpwYXNz"}}},
        "cloud_controller_api_url": "https://api.sys.example.com",
        "cloud_controller_ca_cert": pems.ca,
        "uaa": {"client_name": "cache", "client_secret": "uaa-secret"},
        "admin": {
            "ca_cert": pems.ca,
            "server_cert": pems.cert,
            "server_key": pems.key,
            "client_cert": pems.cert,
            "client_key": pems.key,
            "server_name": "docker-cache-admin",
        },
        "credential_helper_directories": ["/var/vcap/packages/ecr-login/bin"],
        "restore_after": "10m",
        "migrate_running_rules": [{"org": "finance", "migrate_running": "never"}],
        "denied_networks": ["203.0.113.0/24"],
        "fair_shares": {"hosts": {"docker.io": 0.5}},
    }


def merged(first: Tree, second: Tree) -> Tree:
    """Put one tree of properties over another."""
    both = {**first, **second}
    for key in first.keys() & second.keys():
        if isinstance(first[key], dict) and isinstance(second[key], dict):
            both[key] = merged(first[key], second[key])
    return both
