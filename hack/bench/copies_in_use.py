"""A daemon's world in which many apps run from copies, each from one of its own, as after a year.

The database says that all copies were looked for at times spread over the intervals, and has a record of each
LRP, or a start would look at all of them: so a measurement of minutes sees what a day looks like.
"""

import random
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from sqlalchemy import Connection, insert

from controller.store import cached_images, lrps
from controller.store.database import database_at
from controller.store.location import prepare_directory, prepare_file
from controller.store.lock import hold_lock
from controller.store.schema_upgrade import migrate
from controller.store.tables import copy_checks
from protos.bbs.actual_lrp_pb2 import ActualLRPInstanceKey, ActualLRPKey, ActualLRPNetInfo
from protos.bbs.actual_lrp_requests_pb2 import StartActualLRPRequest
from reconcile.lrps import AppGuid, ProcessGuid
from reconcile.reasons import Reason
from reconcile.records import CachedImage, CopyCheck, LrpRecord
from reconcile.references import CacheGuid, Digest, parse_digest, parse_image_reference
from tests.daemon.environment import Environment
from tests.simulators import images
from tests.simulators.bbs import actual
from tests.simulators.cloud_controller import App
from tests.simulators.recipes import APPS_DOMAIN, Image
from tests.simulators.registry.store import StoredManifest, digest_of

LAYERS = 6
SHARED_LAYERS = 3
"""Of each image; they are the same for all."""
DAY, HOUR = 86400.0, 3600.0


async def run_from_copies(env: Environment, count: int) -> None:
    """Have so many apps run from copies that the store and the private registry know."""
    copies, records = list(_copies(env, count)), list[LrpRecord]()
    room, env.cell.settings.containers = env.cell.settings.containers, 0
    for number, (image, _) in enumerate(copies, 1):
        app = env.cloud.create(f"app-{number}", Image(f"{env.cache.address}/{image.cache_guid}:latest"))
        app.droplet = app.package
        await env.cloud.start_app(app)
        _say_that_it_runs(env, app)
        records.append(_record_of(env, app, image))
    env.cell.settings.containers = room
    _fill_store(env.directory / "store" / "docker-cache.db", copies, records)


def _record_of(env: Environment, app: App, image: CachedImage) -> LrpRecord:
    lrp = env.bbs.state.desired[app.process_guid]
    guids = ProcessGuid(lrp.process_guid), AppGuid(lrp.log_guid)
    return LrpRecord(*guids, lrp.root_fs, image.cache_guid, 1, Reason.ALREADY_CACHED, time.time() - DAY)


def _say_that_it_runs(env: Environment, app: App) -> None:
    """Say that the app's instance runs: a simulated cell is not made for so many containers."""
    key = ActualLRPKey(process_guid=app.process_guid, index=0, domain=APPS_DOMAIN)
    instance = ActualLRPInstanceKey(instance_guid=str(uuid.uuid4()), cell_id=env.cell.settings.cell_id)
    actual.claim(env.bbs.state, app.process_guid, 0, instance)
    net = ActualLRPNetInfo(address="127.0.0.1", instance_address="10.255.0.2")
    request = StartActualLRPRequest(
        actual_lrp_key=key, actual_lrp_instance_key=instance, actual_lrp_net_info=net, Routable=True
    )
    actual.start(env.bbs.state, request)


def _copies(env: Environment, count: int) -> Iterator[tuple[CachedImage, list[Digest]]]:
    """Put copies into the private registry, and give their records with their blobs."""
    store, now = env.cache.faults.store, time.time()
    for number in range(count):
        layers = [
            images.Blob(
                images.OCI_PLAIN_LAYER, f"layer {n} of {number if n >= SHARED_LAYERS else 'all'}".encode()
            )
            for n in range(LAYERS)
        ]
        image, guid = images.image(layers), str(uuid.uuid4())
        for blob in image.blobs:
            store.add_blob(guid, blob.content)
        manifest = StoredManifest(image.manifest.media_type, image.manifest.content)
        digest = parse_digest(store.add_manifest(guid, "latest", manifest))
        source = parse_image_reference(f"{env.source.address}/team/web-{number}:1")
        size = sum(len(blob.content) for blob in (image.manifest, *image.blobs))
        record = CachedImage(CacheGuid(guid), source, digest, digest, digest, size, now - DAY, now - DAY)
        yield record, [parse_digest(digest_of(blob.content)) for blob in image.blobs]


def _fill_store(path: Path, copies: list[tuple[CachedImage, list[Digest]]], records: list[LrpRecord]) -> None:
    chance, now = random.Random(1), time.time()

    def fill(connection: Connection) -> None:
        for image, blobs in copies:
            cached_images.keep(connection, image, blobs)
        checks = [
            CopyCheck(
                image.cache_guid,
                checked_at=now - chance.uniform(0.0, HOUR),
                blobs_checked_at=now - chance.uniform(0.0, DAY),
                noted_at=now - DAY,
            )
            for image, _ in copies
        ]
        connection.execute(insert(copy_checks), list(map(asdict, checks)))
        for record in records:
            lrps.save(connection, record)

    with ExitStack() as opened:
        prepare_directory(path)
        opened.enter_context(hold_lock(path, run_id="bench"))
        prepare_file(path)
        database = database_at(path)
        opened.callback(database.close)
        database.transact(lambda connection: migrate(connection, name=database.name))
        database.transact(fill)
