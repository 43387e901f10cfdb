"""The loop that writes notes, over a real store and notes in memory."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace

import pytest

from controller.copy_uses import CopyUses
from controller.notes import NoteWriter, UnknownCopies
from controller.notes.writer import WRITE_AGAIN_AFTER
from controller.process import Process
from controller.store.opening import Store, open_store
from reconcile.errors import DockerCacheError, Invalid, Unavailable
from reconcile.lrps import ProcessGuid
from reconcile.notes import CopyNote
from reconcile.references import CacheGuid, Digest
from tests.controller.fast_loop import fast_loop
from tests.controller.store.samples import digest, image

GUIDS = [CacheGuid(f"{number:08x}-52a1-4d5b-8f7e-2b6a1f0c9d11") for number in range(3)]
EPOCH = 1_900_000_000.0
AFTER = 30.0
