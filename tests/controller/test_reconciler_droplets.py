"""Passes over apps that Cloud Controller desires from their copies, since their droplets name these."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from controller.workqueue import WorkQueue
from reconcile.droplets import DropletGuid, DropletPhase, DropletRecord
from reconcile.lrps import AppGuid, ProcessGuid
from reconcile.migrations import Goal
from reconcile.reasons import Reason
from reconcile.references import CacheGuid
from tests.controller import test_reconciler
from tests.controller.test_reconciler import CACHE, FROM_SOURCE, PULL, Bench
from tests.simulators.bbs import Version
from tests.simulators.certificates import Certificates
from tests.simulators.cloud_controller import App
from tests.simulators.recipes import Image

certificates = test_reconciler.certificates
bench = test_reconciler.bench
TEXT = "registry.example.com/team/app:1"
