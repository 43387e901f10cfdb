"""A registry in memory that answers as CNCF distribution 2.8 does, and fails on request.

It speaks the real protocol on a loopback port from threads of its own, so tests with and
without an event loop use it alike. Token server included. It shares no code with the client.
"""

from tests.simulators.registry.faults import (
    Cut,
    CutUpload,
    Drip,
    Fault,
    Meanwhile,
    Moved,
    NoHeaders,
    OtherBytes,
    Raw,
    Redirect,
    Refuse,
    Stall,
    WithHeaders,
)
from tests.simulators.registry.server import (
    AnyLogin,
    BasicLogin,
    LoggedRequest,
    RegistrySimulator,
    TokenLogin,
    serve,
)

__all__ = [
    "AnyLogin",
    "BasicLogin",
    "Cut",
    "CutUpload",
    "Drip",
    "Fault",
    "LoggedRequest",
    "Meanwhile",
    "Moved",
    "NoHeaders",
    "OtherBytes",
    "Raw",
    "Redirect",
    "Refuse",
    "RegistrySimulator",
    "Stall",
    "TokenLogin",
    "WithHeaders",
    "serve",
]
