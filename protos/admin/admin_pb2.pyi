from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AppState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    APP_STATE_UNSPECIFIED: _ClassVar[AppState]
    APP_STATE_CACHED: _ClassVar[AppState]
    APP_STATE_PENDING: _ClassVar[AppState]
    APP_STATE_MIGRATING: _ClassVar[AppState]
    APP_STATE_WAITING: _ClassVar[AppState]
    APP_STATE_SKIPPED: _ClassVar[AppState]
    APP_STATE_FAILED: _ClassVar[AppState]

class JobState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    JOB_STATE_UNSPECIFIED: _ClassVar[JobState]
    JOB_STATE_QUEUED: _ClassVar[JobState]
    JOB_STATE_COPYING: _ClassVar[JobState]
    JOB_STATE_CACHED: _ClassVar[JobState]
    JOB_STATE_FAILED: _ClassVar[JobState]

class Goal(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    GOAL_UNSPECIFIED: _ClassVar[Goal]
    GOAL_CACHE: _ClassVar[Goal]
    GOAL_SOURCE: _ClassVar[Goal]

class Strategy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STRATEGY_UNSPECIFIED: _ClassVar[Strategy]
    STRATEGY_RECREATE: _ClassVar[Strategy]
    STRATEGY_BRIDGE: _ClassVar[Strategy]
    STRATEGY_UPDATE: _ClassVar[Strategy]

class Phase(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PHASE_UNSPECIFIED: _ClassVar[Phase]
    PHASE_PREPARED: _ClassVar[Phase]
    PHASE_BRIDGING: _ClassVar[Phase]
    PHASE_BRIDGED: _ClassVar[Phase]
    PHASE_REMOVING: _ClassVar[Phase]
    PHASE_REMOVED: _ClassVar[Phase]
    PHASE_STARTING: _ClassVar[Phase]
    PHASE_REMOVING_BRIDGE: _ClassVar[Phase]

class Reason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REASON_UNSPECIFIED: _ClassVar[Reason]
    REASON_MIGRATED: _ClassVar[Reason]
    REASON_ALREADY_CACHED: _ClassVar[Reason]
    REASON_NOT_CACHED: _ClassVar[Reason]
    REASON_STAGING_TASK: _ClassVar[Reason]
    REASON_OPERATOR_REQUEST: _ClassVar[Reason]
    REASON_RUNS_FROM_SOURCE: _ClassVar[Reason]
    REASON_REGISTRY_UNREACHABLE: _ClassVar[Reason]
    REASON_RESTORE_REQUESTED: _ClassVar[Reason]
    REASON_COPY_NEEDS_VERIFICATION: _ClassVar[Reason]
    REASON_COPY_VERIFIED: _ClassVar[Reason]
    REASON_COPY_VANISHED: _ClassVar[Reason]
    REASON_RETRYING_COPY: _ClassVar[Reason]
    REASON_COPY_RECORD_MISSING: _ClassVar[Reason]
    REASON_STAGING_MAY_HAVE_BEEN_MISSED: _ClassVar[Reason]
    REASON_WAITING_FOR_COPY: _ClassVar[Reason]
    REASON_WAITING_UNTIL_STOPPED: _ClassVar[Reason]
    REASON_IN_FLIGHT_LIMIT: _ClassVar[Reason]
    REASON_WAITING_FOR_RECOVERY: _ClassVar[Reason]
    REASON_CIRCUIT_BREAKER_OPEN: _ClassVar[Reason]
    REASON_CHECK_FAILED: _ClassVar[Reason]
    REASON_PAUSED: _ClassVar[Reason]
    REASON_PINNED_TO_SOURCE: _ClassVar[Reason]
    REASON_PLAN_IS_STALE: _ClassVar[Reason]
    REASON_PREPARED: _ClassVar[Reason]
    REASON_BRIDGING: _ClassVar[Reason]
    REASON_BRIDGED: _ClassVar[Reason]
    REASON_WAITING_FOR_ROUTES: _ClassVar[Reason]
    REASON_REMOVING: _ClassVar[Reason]
    REASON_REMOVED: _ClassVar[Reason]
    REASON_REMOVAL_UNCONFIRMED: _ClassVar[Reason]
    REASON_WAITING_FOR_CLOUD_CONTROLLER: _ClassVar[Reason]
    REASON_INSTANCES_STOPPING: _ClassVar[Reason]
    REASON_DESIRE_UNCONFIRMED: _ClassVar[Reason]
    REASON_STARTING: _ClassVar[Reason]
    REASON_NOT_HEALTHY_BRIDGE_KEPT: _ClassVar[Reason]
    REASON_REMOVING_BRIDGE: _ClassVar[Reason]
    REASON_INSTANCES_CHANGED: _ClassVar[Reason]
    REASON_NOT_REMOVED: _ClassVar[Reason]
    REASON_CHANGED_BY_CLOUD_CONTROLLER: _ClassVar[Reason]
    REASON_CANCELLED: _ClassVar[Reason]
    REASON_BRIDGE_CRASHED: _ClassVar[Reason]
    REASON_BRIDGE_TIMEOUT: _ClassVar[Reason]
    REASON_BBS_REFUSED_DEFINITION: _ClassVar[Reason]
    REASON_COPY_CORRUPT: _ClassVar[Reason]
    REASON_NOT_HEALTHY: _ClassVar[Reason]
    REASON_COPY_FAILED: _ClassVar[Reason]
    REASON_REVERTED_EXTERNALLY: _ClassVar[Reason]
    REASON_RESTORED: _ClassVar[Reason]
    REASON_FELL_BACK_TO_SOURCE: _ClassVar[Reason]
    REASON_SOURCE_UNKNOWN: _ClassVar[Reason]
    REASON_SOURCE_CREDENTIALS_UNKNOWN: _ClassVar[Reason]
    REASON_RETIRED_STALE_INSTANCES: _ClassVar[Reason]
    REASON_BRIDGE_IN_USE: _ClassVar[Reason]
    REASON_ORPHANED_BRIDGE: _ClassVar[Reason]
    REASON_REMOVED_BY_OWNER: _ClassVar[Reason]
    REASON_NOT_DESIRED: _ClassVar[Reason]
    REASON_NOT_DOCKER: _ClassVar[Reason]
    REASON_OTHER_DOMAIN: _ClassVar[Reason]
    REASON_NOT_CACHEABLE: _ClassVar[Reason]
    REASON_NO_APP_GUID: _ClassVar[Reason]
    REASON_DENIED: _ClassVar[Reason]
    REASON_NOT_ALLOWED: _ClassVar[Reason]
    REASON_OPTED_OUT: _ClassVar[Reason]
    REASON_NOT_OPTED_IN: _ClassVar[Reason]
    REASON_CELLS_NOT_PROVEN: _ClassVar[Reason]
    REASON_CANNOT_RUN_ON_CELLS: _ClassVar[Reason]
    REASON_NO_INSTANCES: _ClassVar[Reason]
    REASON_NOT_RUNNING: _ClassVar[Reason]
    REASON_OLD_INSTANCES_LEFT: _ClassVar[Reason]
    REASON_DRAINING_BRIDGE: _ClassVar[Reason]
    REASON_NOT_PULLED: _ClassVar[Reason]
    REASON_COPY_NOT_PULLED: _ClassVar[Reason]
    REASON_NOT_STARTED: _ClassVar[Reason]
    REASON_IMAGE_NOT_STARTED: _ClassVar[Reason]
    REASON_PROCESS_EXITED: _ClassVar[Reason]
    REASON_NO_ROOM: _ClassVar[Reason]
    REASON_DRAINING_ORIGINAL: _ClassVar[Reason]
    REASON_SOURCE_UNREACHABLE_KNOWN_COPY_USED: _ClassVar[Reason]
    REASON_RUNS_FROM_FORMER_REGISTRY: _ClassVar[Reason]
    REASON_COPY_IN_FORMER_REGISTRY: _ClassVar[Reason]
    REASON_WAITING_FOR_STAGING: _ClassVar[Reason]
    REASON_REGISTRY_NOT_CONFIGURED: _ClassVar[Reason]
    REASON_CACHE_REGISTRY_UNHEALTHY: _ClassVar[Reason]
    REASON_LOGIN_OUTDATED: _ClassVar[Reason]
    REASON_LOGIN_UPDATED: _ClassVar[Reason]
    REASON_FOREIGN_LOGIN: _ClassVar[Reason]
    REASON_REPAIRING_COPY: _ClassVar[Reason]
    REASON_COPY_INCOMPLETE: _ClassVar[Reason]
    REASON_COPY_LOST: _ClassVar[Reason]
    REASON_COPY_REPAIRED: _ClassVar[Reason]
    REASON_COPY_AND_SOURCE_LOST: _ClassVar[Reason]
    REASON_COPY_UNKNOWN: _ClassVar[Reason]
    REASON_SIMILAR_MIGRATIONS_FAILED: _ClassVar[Reason]
    REASON_BRIDGE_OF_OTHER_STORE: _ClassVar[Reason]
    REASON_DROPLET_PATCHED: _ClassVar[Reason]
    REASON_PATCHING_DROPLET: _ClassVar[Reason]
    REASON_RESTORING_DROPLET: _ClassVar[Reason]
    REASON_PATCH_UNCONFIRMED: _ClassVar[Reason]
    REASON_DROPLET_PULLS_NOT_PROVEN: _ClassVar[Reason]
    REASON_CLOUD_CONTROLLER_UNAVAILABLE: _ClassVar[Reason]
    REASON_CLOUD_CONTROLLER_DENIED: _ClassVar[Reason]
    REASON_CLOUD_CONTROLLER_REFUSED: _ClassVar[Reason]
    REASON_COPY_NAME_REFUSED: _ClassVar[Reason]
    REASON_IMAGE_CHANGED_EXTERNALLY: _ClassVar[Reason]
    REASON_DROPLET_NOT_STAGED: _ClassVar[Reason]
    REASON_DROPLET_GONE: _ClassVar[Reason]
    REASON_BUILD_FAILED: _ClassVar[Reason]
    REASON_BUILD_GONE: _ClassVar[Reason]

class DropletPhase(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DROPLET_PHASE_UNSPECIFIED: _ClassVar[DropletPhase]
    DROPLET_PHASE_PATCHING: _ClassVar[DropletPhase]
    DROPLET_PHASE_PATCHED: _ClassVar[DropletPhase]
    DROPLET_PHASE_RESTORING: _ClassVar[DropletPhase]
    DROPLET_PHASE_RESTORED: _ClassVar[DropletPhase]
    DROPLET_PHASE_LEFT: _ClassVar[DropletPhase]

class DropletChange(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DROPLET_CHANGE_UNSPECIFIED: _ClassVar[DropletChange]
    DROPLET_CHANGE_PATCH: _ClassVar[DropletChange]
    DROPLET_CHANGE_RESTORE: _ClassVar[DropletChange]
    DROPLET_CHANGE_PIN: _ClassVar[DropletChange]

class RegistryUse(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REGISTRY_USE_UNSPECIFIED: _ClassVar[RegistryUse]
    REGISTRY_USE_PULL: _ClassVar[RegistryUse]
    REGISTRY_USE_PUSH: _ClassVar[RegistryUse]

class CellPullsState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CELL_PULLS_STATE_UNSPECIFIED: _ClassVar[CellPullsState]
    CELL_PULLS_STATE_UNPROVEN: _ClassVar[CellPullsState]
    CELL_PULLS_STATE_PROVEN: _ClassVar[CellPullsState]
    CELL_PULLS_STATE_REFUTED: _ClassVar[CellPullsState]

class MigrationState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MIGRATION_STATE_UNSPECIFIED: _ClassVar[MigrationState]
    MIGRATION_STATE_WAITING: _ClassVar[MigrationState]
    MIGRATION_STATE_COPYING: _ClassVar[MigrationState]
    MIGRATION_STATE_MIGRATING: _ClassVar[MigrationState]
    MIGRATION_STATE_DONE: _ClassVar[MigrationState]
    MIGRATION_STATE_SKIPPED: _ClassVar[MigrationState]
    MIGRATION_STATE_FAILED: _ClassVar[MigrationState]

class EvictionVerdict(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EVICTION_VERDICT_UNSPECIFIED: _ClassVar[EvictionVerdict]
    EVICTION_VERDICT_DELETABLE: _ClassVar[EvictionVerdict]
    EVICTION_VERDICT_IN_USE: _ClassVar[EvictionVerdict]
    EVICTION_VERDICT_TOO_SOON: _ClassVar[EvictionVerdict]
    EVICTION_VERDICT_SHARED: _ClassVar[EvictionVerdict]
    EVICTION_VERDICT_UNKNOWN: _ClassVar[EvictionVerdict]
    EVICTION_VERDICT_NOT_FOUND: _ClassVar[EvictionVerdict]

class CopyStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    COPY_STATUS_UNSPECIFIED: _ClassVar[CopyStatus]
    COPY_STATUS_OK: _ClassVar[CopyStatus]
    COPY_STATUS_CORRUPT: _ClassVar[CopyStatus]
    COPY_STATUS_MISSING: _ClassVar[CopyStatus]
    COPY_STATUS_UNREADABLE: _ClassVar[CopyStatus]
    COPY_STATUS_REPAIRED: _ClassVar[CopyStatus]

class RebuildStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REBUILD_STATUS_UNSPECIFIED: _ClassVar[RebuildStatus]
    REBUILD_STATUS_ADOPTED: _ClassVar[RebuildStatus]
    REBUILD_STATUS_RESERVED: _ClassVar[RebuildStatus]
    REBUILD_STATUS_UNKNOWN: _ClassVar[RebuildStatus]
APP_STATE_UNSPECIFIED: AppState
APP_STATE_CACHED: AppState
APP_STATE_PENDING: AppState
APP_STATE_MIGRATING: AppState
APP_STATE_WAITING: AppState
APP_STATE_SKIPPED: AppState
APP_STATE_FAILED: AppState
JOB_STATE_UNSPECIFIED: JobState
JOB_STATE_QUEUED: JobState
JOB_STATE_COPYING: JobState
JOB_STATE_CACHED: JobState
JOB_STATE_FAILED: JobState
GOAL_UNSPECIFIED: Goal
GOAL_CACHE: Goal
GOAL_SOURCE: Goal
STRATEGY_UNSPECIFIED: Strategy
STRATEGY_RECREATE: Strategy
STRATEGY_BRIDGE: Strategy
STRATEGY_UPDATE: Strategy
PHASE_UNSPECIFIED: Phase
PHASE_PREPARED: Phase
PHASE_BRIDGING: Phase
PHASE_BRIDGED: Phase
PHASE_REMOVING: Phase
PHASE_REMOVED: Phase
PHASE_STARTING: Phase
PHASE_REMOVING_BRIDGE: Phase
REASON_UNSPECIFIED: Reason
REASON_MIGRATED: Reason
REASON_ALREADY_CACHED: Reason
REASON_NOT_CACHED: Reason
REASON_STAGING_TASK: Reason
REASON_OPERATOR_REQUEST: Reason
REASON_RUNS_FROM_SOURCE: Reason
REASON_REGISTRY_UNREACHABLE: Reason
REASON_RESTORE_REQUESTED: Reason
REASON_COPY_NEEDS_VERIFICATION: Reason
REASON_COPY_VERIFIED: Reason
REASON_COPY_VANISHED: Reason
REASON_RETRYING_COPY: Reason
REASON_COPY_RECORD_MISSING: Reason
REASON_STAGING_MAY_HAVE_BEEN_MISSED: Reason
REASON_WAITING_FOR_COPY: Reason
REASON_WAITING_UNTIL_STOPPED: Reason
REASON_IN_FLIGHT_LIMIT: Reason
REASON_WAITING_FOR_RECOVERY: Reason
REASON_CIRCUIT_BREAKER_OPEN: Reason
REASON_CHECK_FAILED: Reason
REASON_PAUSED: Reason
REASON_PINNED_TO_SOURCE: Reason
REASON_PLAN_IS_STALE: Reason
REASON_PREPARED: Reason
REASON_BRIDGING: Reason
REASON_BRIDGED: Reason
REASON_WAITING_FOR_ROUTES: Reason
REASON_REMOVING: Reason
REASON_REMOVED: Reason
REASON_REMOVAL_UNCONFIRMED: Reason
REASON_WAITING_FOR_CLOUD_CONTROLLER: Reason
REASON_INSTANCES_STOPPING: Reason
REASON_DESIRE_UNCONFIRMED: Reason
REASON_STARTING: Reason
REASON_NOT_HEALTHY_BRIDGE_KEPT: Reason
REASON_REMOVING_BRIDGE: Reason
REASON_INSTANCES_CHANGED: Reason
REASON_NOT_REMOVED: Reason
REASON_CHANGED_BY_CLOUD_CONTROLLER: Reason
REASON_CANCELLED: Reason
REASON_BRIDGE_CRASHED: Reason
REASON_BRIDGE_TIMEOUT: Reason
REASON_BBS_REFUSED_DEFINITION: Reason
REASON_COPY_CORRUPT: Reason
REASON_NOT_HEALTHY: Reason
REASON_COPY_FAILED: Reason
REASON_REVERTED_EXTERNALLY: Reason
REASON_RESTORED: Reason
REASON_FELL_BACK_TO_SOURCE: Reason
REASON_SOURCE_UNKNOWN: Reason
REASON_SOURCE_CREDENTIALS_UNKNOWN: Reason
REASON_RETIRED_STALE_INSTANCES: Reason
REASON_BRIDGE_IN_USE: Reason
REASON_ORPHANED_BRIDGE: Reason
REASON_REMOVED_BY_OWNER: Reason
REASON_NOT_DESIRED: Reason
REASON_NOT_DOCKER: Reason
REASON_OTHER_DOMAIN: Reason
REASON_NOT_CACHEABLE: Reason
REASON_NO_APP_GUID: Reason
REASON_DENIED: Reason
REASON_NOT_ALLOWED: Reason
REASON_OPTED_OUT: Reason
REASON_NOT_OPTED_IN: Reason
REASON_CELLS_NOT_PROVEN: Reason
REASON_CANNOT_RUN_ON_CELLS: Reason
REASON_NO_INSTANCES: Reason
REASON_NOT_RUNNING: Reason
REASON_OLD_INSTANCES_LEFT: Reason
REASON_DRAINING_BRIDGE: Reason
REASON_NOT_PULLED: Reason
REASON_COPY_NOT_PULLED: Reason
REASON_NOT_STARTED: Reason
REASON_IMAGE_NOT_STARTED: Reason
REASON_PROCESS_EXITED: Reason
REASON_NO_ROOM: Reason
REASON_DRAINING_ORIGINAL: Reason
REASON_SOURCE_UNREACHABLE_KNOWN_COPY_USED: Reason
REASON_RUNS_FROM_FORMER_REGISTRY: Reason
REASON_COPY_IN_FORMER_REGISTRY: Reason
REASON_WAITING_FOR_STAGING: Reason
REASON_REGISTRY_NOT_CONFIGURED: Reason
REASON_CACHE_REGISTRY_UNHEALTHY: Reason
REASON_LOGIN_OUTDATED: Reason
REASON_LOGIN_UPDATED: Reason
REASON_FOREIGN_LOGIN: Reason
REASON_REPAIRING_COPY: Reason
REASON_COPY_INCOMPLETE: Reason
REASON_COPY_LOST: Reason
REASON_COPY_REPAIRED: Reason
REASON_COPY_AND_SOURCE_LOST: Reason
REASON_COPY_UNKNOWN: Reason
REASON_SIMILAR_MIGRATIONS_FAILED: Reason
REASON_BRIDGE_OF_OTHER_STORE: Reason
REASON_DROPLET_PATCHED: Reason
REASON_PATCHING_DROPLET: Reason
REASON_RESTORING_DROPLET: Reason
REASON_PATCH_UNCONFIRMED: Reason
REASON_DROPLET_PULLS_NOT_PROVEN: Reason
REASON_CLOUD_CONTROLLER_UNAVAILABLE: Reason
REASON_CLOUD_CONTROLLER_DENIED: Reason
REASON_CLOUD_CONTROLLER_REFUSED: Reason
REASON_COPY_NAME_REFUSED: Reason
REASON_IMAGE_CHANGED_EXTERNALLY: Reason
REASON_DROPLET_NOT_STAGED: Reason
REASON_DROPLET_GONE: Reason
REASON_BUILD_FAILED: Reason
REASON_BUILD_GONE: Reason
DROPLET_PHASE_UNSPECIFIED: DropletPhase
DROPLET_PHASE_PATCHING: DropletPhase
DROPLET_PHASE_PATCHED: DropletPhase
DROPLET_PHASE_RESTORING: DropletPhase
DROPLET_PHASE_RESTORED: DropletPhase
DROPLET_PHASE_LEFT: DropletPhase
DROPLET_CHANGE_UNSPECIFIED: DropletChange
DROPLET_CHANGE_PATCH: DropletChange
DROPLET_CHANGE_RESTORE: DropletChange
DROPLET_CHANGE_PIN: DropletChange
REGISTRY_USE_UNSPECIFIED: RegistryUse
REGISTRY_USE_PULL: RegistryUse
REGISTRY_USE_PUSH: RegistryUse
CELL_PULLS_STATE_UNSPECIFIED: CellPullsState
CELL_PULLS_STATE_UNPROVEN: CellPullsState
CELL_PULLS_STATE_PROVEN: CellPullsState
CELL_PULLS_STATE_REFUTED: CellPullsState
MIGRATION_STATE_UNSPECIFIED: MigrationState
MIGRATION_STATE_WAITING: MigrationState
MIGRATION_STATE_COPYING: MigrationState
MIGRATION_STATE_MIGRATING: MigrationState
MIGRATION_STATE_DONE: MigrationState
MIGRATION_STATE_SKIPPED: MigrationState
MIGRATION_STATE_FAILED: MigrationState
EVICTION_VERDICT_UNSPECIFIED: EvictionVerdict
EVICTION_VERDICT_DELETABLE: EvictionVerdict
EVICTION_VERDICT_IN_USE: EvictionVerdict
EVICTION_VERDICT_TOO_SOON: EvictionVerdict
EVICTION_VERDICT_SHARED: EvictionVerdict
EVICTION_VERDICT_UNKNOWN: EvictionVerdict
EVICTION_VERDICT_NOT_FOUND: EvictionVerdict
COPY_STATUS_UNSPECIFIED: CopyStatus
COPY_STATUS_OK: CopyStatus
COPY_STATUS_CORRUPT: CopyStatus
COPY_STATUS_MISSING: CopyStatus
COPY_STATUS_UNREADABLE: CopyStatus
COPY_STATUS_REPAIRED: CopyStatus
REBUILD_STATUS_UNSPECIFIED: RebuildStatus
REBUILD_STATUS_ADOPTED: RebuildStatus
REBUILD_STATUS_RESERVED: RebuildStatus
REBUILD_STATUS_UNKNOWN: RebuildStatus

class Filter(_message.Message):
    __slots__ = ("orgs", "spaces", "apps", "images", "process_guids")
    ORGS_FIELD_NUMBER: _ClassVar[int]
    SPACES_FIELD_NUMBER: _ClassVar[int]
    APPS_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    PROCESS_GUIDS_FIELD_NUMBER: _ClassVar[int]
    orgs: _containers.RepeatedScalarFieldContainer[str]
    spaces: _containers.RepeatedScalarFieldContainer[str]
    apps: _containers.RepeatedScalarFieldContainer[str]
    images: _containers.RepeatedScalarFieldContainer[str]
    process_guids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, orgs: _Optional[_Iterable[str]] = ..., spaces: _Optional[_Iterable[str]] = ..., apps: _Optional[_Iterable[str]] = ..., images: _Optional[_Iterable[str]] = ..., process_guids: _Optional[_Iterable[str]] = ...) -> None: ...

class StatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StatusResponse(_message.Message):
    __slots__ = ("version", "run_id", "started_at", "paused", "restoring", "circuit_breaker", "cache_registry", "images", "image_bytes", "jobs_by_state", "apps_by_state", "migrations", "pinned_apps", "watching", "listed_at", "cells", "incomplete_images", "lost_images", "unhealthy_registries", "former_registries", "certificate_warnings", "set_aside", "instance_id", "active", "active_since", "lease_ms", "obstacle", "holder", "store_id", "other_stores", "cloud_controller", "database_outage", "config_error", "distinct_image_bytes")
    class JobsByStateEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class AppsByStateEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    VERSION_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_FIELD_NUMBER: _ClassVar[int]
    PAUSED_FIELD_NUMBER: _ClassVar[int]
    RESTORING_FIELD_NUMBER: _ClassVar[int]
    CIRCUIT_BREAKER_FIELD_NUMBER: _ClassVar[int]
    CACHE_REGISTRY_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    IMAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    JOBS_BY_STATE_FIELD_NUMBER: _ClassVar[int]
    APPS_BY_STATE_FIELD_NUMBER: _ClassVar[int]
    MIGRATIONS_FIELD_NUMBER: _ClassVar[int]
    PINNED_APPS_FIELD_NUMBER: _ClassVar[int]
    WATCHING_FIELD_NUMBER: _ClassVar[int]
    LISTED_AT_FIELD_NUMBER: _ClassVar[int]
    CELLS_FIELD_NUMBER: _ClassVar[int]
    INCOMPLETE_IMAGES_FIELD_NUMBER: _ClassVar[int]
    LOST_IMAGES_FIELD_NUMBER: _ClassVar[int]
    UNHEALTHY_REGISTRIES_FIELD_NUMBER: _ClassVar[int]
    FORMER_REGISTRIES_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_WARNINGS_FIELD_NUMBER: _ClassVar[int]
    SET_ASIDE_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_SINCE_FIELD_NUMBER: _ClassVar[int]
    LEASE_MS_FIELD_NUMBER: _ClassVar[int]
    OBSTACLE_FIELD_NUMBER: _ClassVar[int]
    HOLDER_FIELD_NUMBER: _ClassVar[int]
    STORE_ID_FIELD_NUMBER: _ClassVar[int]
    OTHER_STORES_FIELD_NUMBER: _ClassVar[int]
    CLOUD_CONTROLLER_FIELD_NUMBER: _ClassVar[int]
    DATABASE_OUTAGE_FIELD_NUMBER: _ClassVar[int]
    CONFIG_ERROR_FIELD_NUMBER: _ClassVar[int]
    DISTINCT_IMAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    version: str
    run_id: str
    started_at: float
    paused: bool
    restoring: bool
    circuit_breaker: CircuitBreaker
    cache_registry: str
    images: int
    image_bytes: int
    jobs_by_state: _containers.ScalarMap[str, int]
    apps_by_state: _containers.ScalarMap[str, int]
    migrations: int
    pinned_apps: int
    watching: bool
    listed_at: float
    cells: _containers.RepeatedCompositeFieldContainer[CellPulls]
    incomplete_images: int
    lost_images: int
    unhealthy_registries: _containers.RepeatedCompositeFieldContainer[UnhealthyRegistry]
    former_registries: _containers.RepeatedCompositeFieldContainer[FormerRegistry]
    certificate_warnings: _containers.RepeatedScalarFieldContainer[str]
    set_aside: _containers.RepeatedCompositeFieldContainer[SetAside]
    instance_id: str
    active: bool
    active_since: float
    lease_ms: int
    obstacle: str
    holder: ActiveInstance
    store_id: str
    other_stores: _containers.RepeatedScalarFieldContainer[str]
    cloud_controller: CloudController
    database_outage: DatabaseOutage
    config_error: str
    distinct_image_bytes: int
    def __init__(self, version: _Optional[str] = ..., run_id: _Optional[str] = ..., started_at: _Optional[float] = ..., paused: _Optional[bool] = ..., restoring: _Optional[bool] = ..., circuit_breaker: _Optional[_Union[CircuitBreaker, _Mapping]] = ..., cache_registry: _Optional[str] = ..., images: _Optional[int] = ..., image_bytes: _Optional[int] = ..., jobs_by_state: _Optional[_Mapping[str, int]] = ..., apps_by_state: _Optional[_Mapping[str, int]] = ..., migrations: _Optional[int] = ..., pinned_apps: _Optional[int] = ..., watching: _Optional[bool] = ..., listed_at: _Optional[float] = ..., cells: _Optional[_Iterable[_Union[CellPulls, _Mapping]]] = ..., incomplete_images: _Optional[int] = ..., lost_images: _Optional[int] = ..., unhealthy_registries: _Optional[_Iterable[_Union[UnhealthyRegistry, _Mapping]]] = ..., former_registries: _Optional[_Iterable[_Union[FormerRegistry, _Mapping]]] = ..., certificate_warnings: _Optional[_Iterable[str]] = ..., set_aside: _Optional[_Iterable[_Union[SetAside, _Mapping]]] = ..., instance_id: _Optional[str] = ..., active: _Optional[bool] = ..., active_since: _Optional[float] = ..., lease_ms: _Optional[int] = ..., obstacle: _Optional[str] = ..., holder: _Optional[_Union[ActiveInstance, _Mapping]] = ..., store_id: _Optional[str] = ..., other_stores: _Optional[_Iterable[str]] = ..., cloud_controller: _Optional[_Union[CloudController, _Mapping]] = ..., database_outage: _Optional[_Union[DatabaseOutage, _Mapping]] = ..., config_error: _Optional[str] = ..., distinct_image_bytes: _Optional[int] = ...) -> None: ...

class CloudController(_message.Message):
    __slots__ = ("url", "reachable_since", "failing_since", "last_success", "error", "requests_left", "requests_renewed_at", "missing_scopes", "updates_droplets", "droplets_by_phase", "waiting_by_reason", "droplets_listed_at")
    class DropletsByPhaseEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class WaitingByReasonEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    URL_FIELD_NUMBER: _ClassVar[int]
    REACHABLE_SINCE_FIELD_NUMBER: _ClassVar[int]
    FAILING_SINCE_FIELD_NUMBER: _ClassVar[int]
    LAST_SUCCESS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_LEFT_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_RENEWED_AT_FIELD_NUMBER: _ClassVar[int]
    MISSING_SCOPES_FIELD_NUMBER: _ClassVar[int]
    UPDATES_DROPLETS_FIELD_NUMBER: _ClassVar[int]
    DROPLETS_BY_PHASE_FIELD_NUMBER: _ClassVar[int]
    WAITING_BY_REASON_FIELD_NUMBER: _ClassVar[int]
    DROPLETS_LISTED_AT_FIELD_NUMBER: _ClassVar[int]
    url: str
    reachable_since: float
    failing_since: float
    last_success: float
    error: str
    requests_left: int
    requests_renewed_at: float
    missing_scopes: _containers.RepeatedScalarFieldContainer[str]
    updates_droplets: bool
    droplets_by_phase: _containers.ScalarMap[str, int]
    waiting_by_reason: _containers.ScalarMap[str, int]
    droplets_listed_at: float
    def __init__(self, url: _Optional[str] = ..., reachable_since: _Optional[float] = ..., failing_since: _Optional[float] = ..., last_success: _Optional[float] = ..., error: _Optional[str] = ..., requests_left: _Optional[int] = ..., requests_renewed_at: _Optional[float] = ..., missing_scopes: _Optional[_Iterable[str]] = ..., updates_droplets: _Optional[bool] = ..., droplets_by_phase: _Optional[_Mapping[str, int]] = ..., waiting_by_reason: _Optional[_Mapping[str, int]] = ..., droplets_listed_at: _Optional[float] = ...) -> None: ...

class DatabaseOutage(_message.Message):
    __slots__ = ("since", "error", "waiting_migrations", "waiting_lrps", "waiting_jobs")
    SINCE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    WAITING_MIGRATIONS_FIELD_NUMBER: _ClassVar[int]
    WAITING_LRPS_FIELD_NUMBER: _ClassVar[int]
    WAITING_JOBS_FIELD_NUMBER: _ClassVar[int]
    since: float
    error: str
    waiting_migrations: int
    waiting_lrps: int
    waiting_jobs: int
    def __init__(self, since: _Optional[float] = ..., error: _Optional[str] = ..., waiting_migrations: _Optional[int] = ..., waiting_lrps: _Optional[int] = ..., waiting_jobs: _Optional[int] = ...) -> None: ...

class ActiveInstance(_message.Message):
    __slots__ = ("instance_id", "admin_address", "since", "version", "owner")
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    ADMIN_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    instance_id: str
    admin_address: str
    since: float
    version: str
    owner: str
    def __init__(self, instance_id: _Optional[str] = ..., admin_address: _Optional[str] = ..., since: _Optional[float] = ..., version: _Optional[str] = ..., owner: _Optional[str] = ...) -> None: ...

class FormerRegistry(_message.Message):
    __slots__ = ("address", "configured", "images", "image_bytes", "lrps")
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    CONFIGURED_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    IMAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    LRPS_FIELD_NUMBER: _ClassVar[int]
    address: str
    configured: bool
    images: int
    image_bytes: int
    lrps: int
    def __init__(self, address: _Optional[str] = ..., configured: _Optional[bool] = ..., images: _Optional[int] = ..., image_bytes: _Optional[int] = ..., lrps: _Optional[int] = ...) -> None: ...

class UnhealthyRegistry(_message.Message):
    __slots__ = ("registry", "private", "use", "since", "fault", "error", "failures", "waiting_jobs", "waiting_lrps")
    REGISTRY_FIELD_NUMBER: _ClassVar[int]
    PRIVATE_FIELD_NUMBER: _ClassVar[int]
    USE_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    FAULT_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    WAITING_JOBS_FIELD_NUMBER: _ClassVar[int]
    WAITING_LRPS_FIELD_NUMBER: _ClassVar[int]
    registry: str
    private: bool
    use: RegistryUse
    since: float
    fault: str
    error: str
    failures: int
    waiting_jobs: int
    waiting_lrps: int
    def __init__(self, registry: _Optional[str] = ..., private: _Optional[bool] = ..., use: _Optional[_Union[RegistryUse, str]] = ..., since: _Optional[float] = ..., fault: _Optional[str] = ..., error: _Optional[str] = ..., failures: _Optional[int] = ..., waiting_jobs: _Optional[int] = ..., waiting_lrps: _Optional[int] = ...) -> None: ...

class CellPulls(_message.Message):
    __slots__ = ("placement_tags", "state", "since", "detail", "retry_at", "canary_runs", "droplets_detail")
    PLACEMENT_TAGS_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    RETRY_AT_FIELD_NUMBER: _ClassVar[int]
    CANARY_RUNS_FIELD_NUMBER: _ClassVar[int]
    DROPLETS_DETAIL_FIELD_NUMBER: _ClassVar[int]
    placement_tags: _containers.RepeatedScalarFieldContainer[str]
    state: CellPullsState
    since: float
    detail: str
    retry_at: float
    canary_runs: bool
    droplets_detail: str
    def __init__(self, placement_tags: _Optional[_Iterable[str]] = ..., state: _Optional[_Union[CellPullsState, str]] = ..., since: _Optional[float] = ..., detail: _Optional[str] = ..., retry_at: _Optional[float] = ..., canary_runs: _Optional[bool] = ..., droplets_detail: _Optional[str] = ...) -> None: ...

class CircuitBreaker(_message.Message):
    __slots__ = ("open", "failures", "last", "retry_at", "cell")
    OPEN_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    RETRY_AT_FIELD_NUMBER: _ClassVar[int]
    CELL_FIELD_NUMBER: _ClassVar[int]
    open: bool
    failures: int
    last: str
    retry_at: float
    cell: str
    def __init__(self, open: _Optional[bool] = ..., failures: _Optional[int] = ..., last: _Optional[str] = ..., retry_at: _Optional[float] = ..., cell: _Optional[str] = ...) -> None: ...

class SetAside(_message.Message):
    __slots__ = ("organization", "cache_guid", "failures", "last", "retry_at", "cell")
    ORGANIZATION_FIELD_NUMBER: _ClassVar[int]
    CACHE_GUID_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    RETRY_AT_FIELD_NUMBER: _ClassVar[int]
    CELL_FIELD_NUMBER: _ClassVar[int]
    organization: str
    cache_guid: str
    failures: int
    last: str
    retry_at: float
    cell: str
    def __init__(self, organization: _Optional[str] = ..., cache_guid: _Optional[str] = ..., failures: _Optional[int] = ..., last: _Optional[str] = ..., retry_at: _Optional[float] = ..., cell: _Optional[str] = ...) -> None: ...

class ListCachedImagesRequest(_message.Message):
    __slots__ = ("page_size", "page_token", "images")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    images: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., images: _Optional[_Iterable[str]] = ...) -> None: ...

class ListCachedImagesResponse(_message.Message):
    __slots__ = ("images", "next_page_token")
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    images: _containers.RepeatedCompositeFieldContainer[CachedImage]
    next_page_token: str
    def __init__(self, images: _Optional[_Iterable[_Union[CachedImage, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class CachedImage(_message.Message):
    __slots__ = ("cache_guid", "source", "url", "root_digest", "platform_digest", "digest", "bytes", "created_at", "verified_at", "needs_verification_since", "missing_since", "missing", "lost_since", "further_sources")
    CACHE_GUID_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    URL_FIELD_NUMBER: _ClassVar[int]
    ROOT_DIGEST_FIELD_NUMBER: _ClassVar[int]
    PLATFORM_DIGEST_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    VERIFIED_AT_FIELD_NUMBER: _ClassVar[int]
    NEEDS_VERIFICATION_SINCE_FIELD_NUMBER: _ClassVar[int]
    MISSING_SINCE_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    LOST_SINCE_FIELD_NUMBER: _ClassVar[int]
    FURTHER_SOURCES_FIELD_NUMBER: _ClassVar[int]
    cache_guid: str
    source: str
    url: str
    root_digest: str
    platform_digest: str
    digest: str
    bytes: int
    created_at: float
    verified_at: float
    needs_verification_since: float
    missing_since: float
    missing: str
    lost_since: float
    further_sources: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, cache_guid: _Optional[str] = ..., source: _Optional[str] = ..., url: _Optional[str] = ..., root_digest: _Optional[str] = ..., platform_digest: _Optional[str] = ..., digest: _Optional[str] = ..., bytes: _Optional[int] = ..., created_at: _Optional[float] = ..., verified_at: _Optional[float] = ..., needs_verification_since: _Optional[float] = ..., missing_since: _Optional[float] = ..., missing: _Optional[str] = ..., lost_since: _Optional[float] = ..., further_sources: _Optional[_Iterable[str]] = ...) -> None: ...

class GetCachedImagesRequest(_message.Message):
    __slots__ = ("images",)
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    images: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, images: _Optional[_Iterable[str]] = ...) -> None: ...

class GetCachedImagesResponse(_message.Message):
    __slots__ = ("images",)
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    images: _containers.RepeatedCompositeFieldContainer[ImageWithUsers]
    def __init__(self, images: _Optional[_Iterable[_Union[ImageWithUsers, _Mapping]]] = ...) -> None: ...

class ImageWithUsers(_message.Message):
    __slots__ = ("image", "process_guids")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    PROCESS_GUIDS_FIELD_NUMBER: _ClassVar[int]
    image: CachedImage
    process_guids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, image: _Optional[_Union[CachedImage, _Mapping]] = ..., process_guids: _Optional[_Iterable[str]] = ...) -> None: ...

class ListJobsRequest(_message.Message):
    __slots__ = ("page_size", "page_token", "states", "job_ids")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    STATES_FIELD_NUMBER: _ClassVar[int]
    JOB_IDS_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    states: _containers.RepeatedScalarFieldContainer[JobState]
    job_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., states: _Optional[_Iterable[_Union[JobState, str]]] = ..., job_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class ListJobsResponse(_message.Message):
    __slots__ = ("jobs", "next_page_token")
    JOBS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    jobs: _containers.RepeatedCompositeFieldContainer[Job]
    next_page_token: str
    def __init__(self, jobs: _Optional[_Iterable[_Union[Job, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class WatchJobsRequest(_message.Message):
    __slots__ = ("job_ids",)
    JOB_IDS_FIELD_NUMBER: _ClassVar[int]
    job_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, job_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class Job(_message.Message):
    __slots__ = ("job_id", "source", "state", "reason", "attempts", "next_attempt_at", "error", "cache_guid", "url", "created_at", "updated_at", "progress", "max_attempts")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_ATTEMPT_AT_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    CACHE_GUID_FIELD_NUMBER: _ClassVar[int]
    URL_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    UPDATED_AT_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    MAX_ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    source: str
    state: JobState
    reason: str
    attempts: int
    next_attempt_at: float
    error: str
    cache_guid: str
    url: str
    created_at: float
    updated_at: float
    progress: CopyProgress
    max_attempts: int
    def __init__(self, job_id: _Optional[str] = ..., source: _Optional[str] = ..., state: _Optional[_Union[JobState, str]] = ..., reason: _Optional[str] = ..., attempts: _Optional[int] = ..., next_attempt_at: _Optional[float] = ..., error: _Optional[str] = ..., cache_guid: _Optional[str] = ..., url: _Optional[str] = ..., created_at: _Optional[float] = ..., updated_at: _Optional[float] = ..., progress: _Optional[_Union[CopyProgress, _Mapping]] = ..., max_attempts: _Optional[int] = ...) -> None: ...

class CopyProgress(_message.Message):
    __slots__ = ("total_bytes", "transferred_bytes", "skipped_bytes", "retries")
    TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    TRANSFERRED_BYTES_FIELD_NUMBER: _ClassVar[int]
    SKIPPED_BYTES_FIELD_NUMBER: _ClassVar[int]
    RETRIES_FIELD_NUMBER: _ClassVar[int]
    total_bytes: int
    transferred_bytes: int
    skipped_bytes: int
    retries: int
    def __init__(self, total_bytes: _Optional[int] = ..., transferred_bytes: _Optional[int] = ..., skipped_bytes: _Optional[int] = ..., retries: _Optional[int] = ...) -> None: ...

class ListMigrationsRequest(_message.Message):
    __slots__ = ("page_size", "page_token", "process_guids")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    PROCESS_GUIDS_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    process_guids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., process_guids: _Optional[_Iterable[str]] = ...) -> None: ...

class ListMigrationsResponse(_message.Message):
    __slots__ = ("migrations", "next_page_token")
    MIGRATIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    migrations: _containers.RepeatedCompositeFieldContainer[Migration]
    next_page_token: str
    def __init__(self, migrations: _Optional[_Iterable[_Union[Migration, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class Migration(_message.Message):
    __slots__ = ("process_guid", "app_guid", "app_name", "cache_guid", "goal", "strategy", "phase", "rounds", "started_at", "entered_at", "from_rootfs")
    PROCESS_GUID_FIELD_NUMBER: _ClassVar[int]
    APP_GUID_FIELD_NUMBER: _ClassVar[int]
    APP_NAME_FIELD_NUMBER: _ClassVar[int]
    CACHE_GUID_FIELD_NUMBER: _ClassVar[int]
    GOAL_FIELD_NUMBER: _ClassVar[int]
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    ROUNDS_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_FIELD_NUMBER: _ClassVar[int]
    ENTERED_AT_FIELD_NUMBER: _ClassVar[int]
    FROM_ROOTFS_FIELD_NUMBER: _ClassVar[int]
    process_guid: str
    app_guid: str
    app_name: str
    cache_guid: str
    goal: Goal
    strategy: Strategy
    phase: Phase
    rounds: int
    started_at: float
    entered_at: float
    from_rootfs: str
    def __init__(self, process_guid: _Optional[str] = ..., app_guid: _Optional[str] = ..., app_name: _Optional[str] = ..., cache_guid: _Optional[str] = ..., goal: _Optional[_Union[Goal, str]] = ..., strategy: _Optional[_Union[Strategy, str]] = ..., phase: _Optional[_Union[Phase, str]] = ..., rounds: _Optional[int] = ..., started_at: _Optional[float] = ..., entered_at: _Optional[float] = ..., from_rootfs: _Optional[str] = ...) -> None: ...

class ListAppsRequest(_message.Message):
    __slots__ = ("page_size", "page_token", "filter", "states")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    STATES_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    filter: Filter
    states: _containers.RepeatedScalarFieldContainer[AppState]
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., filter: _Optional[_Union[Filter, _Mapping]] = ..., states: _Optional[_Iterable[_Union[AppState, str]]] = ...) -> None: ...

class ListAppsResponse(_message.Message):
    __slots__ = ("apps", "next_page_token", "unreadable")
    APPS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    UNREADABLE_FIELD_NUMBER: _ClassVar[int]
    apps: _containers.RepeatedCompositeFieldContainer[App]
    next_page_token: str
    unreadable: int
    def __init__(self, apps: _Optional[_Iterable[_Union[App, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., unreadable: _Optional[int] = ...) -> None: ...

class App(_message.Message):
    __slots__ = ("process_guid", "app_guid", "app_name", "space_name", "org_name", "rootfs", "to_rootfs", "state", "reason", "detail", "instances", "running", "droplet_phase", "droplet_reason")
    PROCESS_GUID_FIELD_NUMBER: _ClassVar[int]
    APP_GUID_FIELD_NUMBER: _ClassVar[int]
    APP_NAME_FIELD_NUMBER: _ClassVar[int]
    SPACE_NAME_FIELD_NUMBER: _ClassVar[int]
    ORG_NAME_FIELD_NUMBER: _ClassVar[int]
    ROOTFS_FIELD_NUMBER: _ClassVar[int]
    TO_ROOTFS_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    INSTANCES_FIELD_NUMBER: _ClassVar[int]
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    DROPLET_PHASE_FIELD_NUMBER: _ClassVar[int]
    DROPLET_REASON_FIELD_NUMBER: _ClassVar[int]
    process_guid: str
    app_guid: str
    app_name: str
    space_name: str
    org_name: str
    rootfs: str
    to_rootfs: str
    state: AppState
    reason: Reason
    detail: str
    instances: int
    running: int
    droplet_phase: DropletPhase
    droplet_reason: Reason
    def __init__(self, process_guid: _Optional[str] = ..., app_guid: _Optional[str] = ..., app_name: _Optional[str] = ..., space_name: _Optional[str] = ..., org_name: _Optional[str] = ..., rootfs: _Optional[str] = ..., to_rootfs: _Optional[str] = ..., state: _Optional[_Union[AppState, str]] = ..., reason: _Optional[_Union[Reason, str]] = ..., detail: _Optional[str] = ..., instances: _Optional[int] = ..., running: _Optional[int] = ..., droplet_phase: _Optional[_Union[DropletPhase, str]] = ..., droplet_reason: _Optional[_Union[Reason, str]] = ...) -> None: ...

class ListDropletsRequest(_message.Message):
    __slots__ = ("page_size", "page_token", "filter", "phases")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    PHASES_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    filter: Filter
    phases: _containers.RepeatedScalarFieldContainer[DropletPhase]
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., filter: _Optional[_Union[Filter, _Mapping]] = ..., phases: _Optional[_Iterable[_Union[DropletPhase, str]]] = ...) -> None: ...

class ListDropletsResponse(_message.Message):
    __slots__ = ("droplets", "next_page_token")
    DROPLETS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    droplets: _containers.RepeatedCompositeFieldContainer[Droplet]
    next_page_token: str
    def __init__(self, droplets: _Optional[_Iterable[_Union[Droplet, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class Droplet(_message.Message):
    __slots__ = ("droplet_guid", "app_guid", "app_name", "space_name", "org_name", "phase", "reason", "detail", "original_image", "written_image", "cache_guid", "build_guid", "attempts", "next_attempt_at", "created_at", "updated_at")
    DROPLET_GUID_FIELD_NUMBER: _ClassVar[int]
    APP_GUID_FIELD_NUMBER: _ClassVar[int]
    APP_NAME_FIELD_NUMBER: _ClassVar[int]
    SPACE_NAME_FIELD_NUMBER: _ClassVar[int]
    ORG_NAME_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    ORIGINAL_IMAGE_FIELD_NUMBER: _ClassVar[int]
    WRITTEN_IMAGE_FIELD_NUMBER: _ClassVar[int]
    CACHE_GUID_FIELD_NUMBER: _ClassVar[int]
    BUILD_GUID_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_ATTEMPT_AT_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    UPDATED_AT_FIELD_NUMBER: _ClassVar[int]
    droplet_guid: str
    app_guid: str
    app_name: str
    space_name: str
    org_name: str
    phase: DropletPhase
    reason: Reason
    detail: str
    original_image: str
    written_image: str
    cache_guid: str
    build_guid: str
    attempts: int
    next_attempt_at: float
    created_at: float
    updated_at: float
    def __init__(self, droplet_guid: _Optional[str] = ..., app_guid: _Optional[str] = ..., app_name: _Optional[str] = ..., space_name: _Optional[str] = ..., org_name: _Optional[str] = ..., phase: _Optional[_Union[DropletPhase, str]] = ..., reason: _Optional[_Union[Reason, str]] = ..., detail: _Optional[str] = ..., original_image: _Optional[str] = ..., written_image: _Optional[str] = ..., cache_guid: _Optional[str] = ..., build_guid: _Optional[str] = ..., attempts: _Optional[int] = ..., next_attempt_at: _Optional[float] = ..., created_at: _Optional[float] = ..., updated_at: _Optional[float] = ...) -> None: ...

class ListAuditRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListAuditResponse(_message.Message):
    __slots__ = ("entries", "next_page_token")
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[AuditEntry]
    next_page_token: str
    def __init__(self, entries: _Optional[_Iterable[_Union[AuditEntry, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class AuditEntry(_message.Message):
    __slots__ = ("at", "caller", "call", "arguments", "outcome")
    AT_FIELD_NUMBER: _ClassVar[int]
    CALLER_FIELD_NUMBER: _ClassVar[int]
    CALL_FIELD_NUMBER: _ClassVar[int]
    ARGUMENTS_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    at: float
    caller: str
    call: str
    arguments: str
    outcome: str
    def __init__(self, at: _Optional[float] = ..., caller: _Optional[str] = ..., call: _Optional[str] = ..., arguments: _Optional[str] = ..., outcome: _Optional[str] = ...) -> None: ...

class CacheImageRequest(_message.Message):
    __slots__ = ("reference",)
    REFERENCE_FIELD_NUMBER: _ClassVar[int]
    reference: str
    def __init__(self, reference: _Optional[str] = ...) -> None: ...

class PlanRequest(_message.Message):
    __slots__ = ("filter", "goal", "strategy", "only_cached", "include_pinned")
    FILTER_FIELD_NUMBER: _ClassVar[int]
    GOAL_FIELD_NUMBER: _ClassVar[int]
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    ONLY_CACHED_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_PINNED_FIELD_NUMBER: _ClassVar[int]
    filter: Filter
    goal: Goal
    strategy: Strategy
    only_cached: bool
    include_pinned: bool
    def __init__(self, filter: _Optional[_Union[Filter, _Mapping]] = ..., goal: _Optional[_Union[Goal, str]] = ..., strategy: _Optional[_Union[Strategy, str]] = ..., only_cached: _Optional[bool] = ..., include_pinned: _Optional[bool] = ...) -> None: ...

class PlanEntry(_message.Message):
    __slots__ = ("copy", "migration", "skipped", "end", "pin", "droplet", "skipped_droplet")
    COPY_FIELD_NUMBER: _ClassVar[int]
    MIGRATION_FIELD_NUMBER: _ClassVar[int]
    SKIPPED_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    PIN_FIELD_NUMBER: _ClassVar[int]
    DROPLET_FIELD_NUMBER: _ClassVar[int]
    SKIPPED_DROPLET_FIELD_NUMBER: _ClassVar[int]
    copy: PlannedCopy
    migration: PlannedMigration
    skipped: SkippedLrp
    end: PlanEnd
    pin: PlannedPin
    droplet: PlannedDroplet
    skipped_droplet: SkippedDroplet
    def __init__(self, copy: _Optional[_Union[PlannedCopy, _Mapping]] = ..., migration: _Optional[_Union[PlannedMigration, _Mapping]] = ..., skipped: _Optional[_Union[SkippedLrp, _Mapping]] = ..., end: _Optional[_Union[PlanEnd, _Mapping]] = ..., pin: _Optional[_Union[PlannedPin, _Mapping]] = ..., droplet: _Optional[_Union[PlannedDroplet, _Mapping]] = ..., skipped_droplet: _Optional[_Union[SkippedDroplet, _Mapping]] = ...) -> None: ...

class PlannedCopy(_message.Message):
    __slots__ = ("source", "registry", "known", "bytes", "requests", "platform_digest", "problem", "lrps")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    REGISTRY_FIELD_NUMBER: _ClassVar[int]
    KNOWN_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    PLATFORM_DIGEST_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    LRPS_FIELD_NUMBER: _ClassVar[int]
    source: str
    registry: str
    known: bool
    bytes: int
    requests: int
    platform_digest: str
    problem: str
    lrps: int
    def __init__(self, source: _Optional[str] = ..., registry: _Optional[str] = ..., known: _Optional[bool] = ..., bytes: _Optional[int] = ..., requests: _Optional[int] = ..., platform_digest: _Optional[str] = ..., problem: _Optional[str] = ..., lrps: _Optional[int] = ...) -> None: ...

class PlannedMigration(_message.Message):
    __slots__ = ("process_guid", "app_guid", "app_name", "space_name", "org_name", "from_rootfs", "to_rootfs", "copy", "strategy", "instances", "running", "reason", "pinned", "gets_unseen_content")
    PROCESS_GUID_FIELD_NUMBER: _ClassVar[int]
    APP_GUID_FIELD_NUMBER: _ClassVar[int]
    APP_NAME_FIELD_NUMBER: _ClassVar[int]
    SPACE_NAME_FIELD_NUMBER: _ClassVar[int]
    ORG_NAME_FIELD_NUMBER: _ClassVar[int]
    FROM_ROOTFS_FIELD_NUMBER: _ClassVar[int]
    TO_ROOTFS_FIELD_NUMBER: _ClassVar[int]
    COPY_FIELD_NUMBER: _ClassVar[int]
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    INSTANCES_FIELD_NUMBER: _ClassVar[int]
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    PINNED_FIELD_NUMBER: _ClassVar[int]
    GETS_UNSEEN_CONTENT_FIELD_NUMBER: _ClassVar[int]
    process_guid: str
    app_guid: str
    app_name: str
    space_name: str
    org_name: str
    from_rootfs: str
    to_rootfs: str
    copy: str
    strategy: Strategy
    instances: int
    running: int
    reason: Reason
    pinned: bool
    gets_unseen_content: bool
    def __init__(self, process_guid: _Optional[str] = ..., app_guid: _Optional[str] = ..., app_name: _Optional[str] = ..., space_name: _Optional[str] = ..., org_name: _Optional[str] = ..., from_rootfs: _Optional[str] = ..., to_rootfs: _Optional[str] = ..., copy: _Optional[str] = ..., strategy: _Optional[_Union[Strategy, str]] = ..., instances: _Optional[int] = ..., running: _Optional[int] = ..., reason: _Optional[_Union[Reason, str]] = ..., pinned: _Optional[bool] = ..., gets_unseen_content: _Optional[bool] = ...) -> None: ...

class PlannedPin(_message.Message):
    __slots__ = ("process_guid", "app_guid", "app_name", "space_name", "org_name", "rootfs")
    PROCESS_GUID_FIELD_NUMBER: _ClassVar[int]
    APP_GUID_FIELD_NUMBER: _ClassVar[int]
    APP_NAME_FIELD_NUMBER: _ClassVar[int]
    SPACE_NAME_FIELD_NUMBER: _ClassVar[int]
    ORG_NAME_FIELD_NUMBER: _ClassVar[int]
    ROOTFS_FIELD_NUMBER: _ClassVar[int]
    process_guid: str
    app_guid: str
    app_name: str
    space_name: str
    org_name: str
    rootfs: str
    def __init__(self, process_guid: _Optional[str] = ..., app_guid: _Optional[str] = ..., app_name: _Optional[str] = ..., space_name: _Optional[str] = ..., org_name: _Optional[str] = ..., rootfs: _Optional[str] = ...) -> None: ...

class SkippedLrp(_message.Message):
    __slots__ = ("process_guid", "app_guid", "app_name", "space_name", "org_name", "rootfs", "state", "reason", "detail")
    PROCESS_GUID_FIELD_NUMBER: _ClassVar[int]
    APP_GUID_FIELD_NUMBER: _ClassVar[int]
    APP_NAME_FIELD_NUMBER: _ClassVar[int]
    SPACE_NAME_FIELD_NUMBER: _ClassVar[int]
    ORG_NAME_FIELD_NUMBER: _ClassVar[int]
    ROOTFS_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    process_guid: str
    app_guid: str
    app_name: str
    space_name: str
    org_name: str
    rootfs: str
    state: AppState
    reason: Reason
    detail: str
    def __init__(self, process_guid: _Optional[str] = ..., app_guid: _Optional[str] = ..., app_name: _Optional[str] = ..., space_name: _Optional[str] = ..., org_name: _Optional[str] = ..., rootfs: _Optional[str] = ..., state: _Optional[_Union[AppState, str]] = ..., reason: _Optional[_Union[Reason, str]] = ..., detail: _Optional[str] = ...) -> None: ...

class PlannedDroplet(_message.Message):
    __slots__ = ("droplet_guid", "app_guid", "app_name", "space_name", "org_name", "change", "from_image", "to_image", "copy", "reason", "newest", "running", "pinned")
    DROPLET_GUID_FIELD_NUMBER: _ClassVar[int]
    APP_GUID_FIELD_NUMBER: _ClassVar[int]
    APP_NAME_FIELD_NUMBER: _ClassVar[int]
    SPACE_NAME_FIELD_NUMBER: _ClassVar[int]
    ORG_NAME_FIELD_NUMBER: _ClassVar[int]
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    FROM_IMAGE_FIELD_NUMBER: _ClassVar[int]
    TO_IMAGE_FIELD_NUMBER: _ClassVar[int]
    COPY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    NEWEST_FIELD_NUMBER: _ClassVar[int]
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    PINNED_FIELD_NUMBER: _ClassVar[int]
    droplet_guid: str
    app_guid: str
    app_name: str
    space_name: str
    org_name: str
    change: DropletChange
    from_image: str
    to_image: str
    copy: str
    reason: Reason
    newest: bool
    running: bool
    pinned: bool
    def __init__(self, droplet_guid: _Optional[str] = ..., app_guid: _Optional[str] = ..., app_name: _Optional[str] = ..., space_name: _Optional[str] = ..., org_name: _Optional[str] = ..., change: _Optional[_Union[DropletChange, str]] = ..., from_image: _Optional[str] = ..., to_image: _Optional[str] = ..., copy: _Optional[str] = ..., reason: _Optional[_Union[Reason, str]] = ..., newest: _Optional[bool] = ..., running: _Optional[bool] = ..., pinned: _Optional[bool] = ...) -> None: ...

class SkippedDroplet(_message.Message):
    __slots__ = ("droplet_guid", "app_guid", "app_name", "space_name", "org_name", "image", "state", "reason", "detail", "newest")
    DROPLET_GUID_FIELD_NUMBER: _ClassVar[int]
    APP_GUID_FIELD_NUMBER: _ClassVar[int]
    APP_NAME_FIELD_NUMBER: _ClassVar[int]
    SPACE_NAME_FIELD_NUMBER: _ClassVar[int]
    ORG_NAME_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    NEWEST_FIELD_NUMBER: _ClassVar[int]
    droplet_guid: str
    app_guid: str
    app_name: str
    space_name: str
    org_name: str
    image: str
    state: AppState
    reason: Reason
    detail: str
    newest: bool
    def __init__(self, droplet_guid: _Optional[str] = ..., app_guid: _Optional[str] = ..., app_name: _Optional[str] = ..., space_name: _Optional[str] = ..., org_name: _Optional[str] = ..., image: _Optional[str] = ..., state: _Optional[_Union[AppState, str]] = ..., reason: _Optional[_Union[Reason, str]] = ..., detail: _Optional[str] = ..., newest: _Optional[bool] = ...) -> None: ...

class PlanEnd(_message.Message):
    __slots__ = ("goal", "made_at", "considered", "problems", "cache_registry", "obstacles", "droplet_problems", "considered_droplets")
    GOAL_FIELD_NUMBER: _ClassVar[int]
    MADE_AT_FIELD_NUMBER: _ClassVar[int]
    CONSIDERED_FIELD_NUMBER: _ClassVar[int]
    PROBLEMS_FIELD_NUMBER: _ClassVar[int]
    CACHE_REGISTRY_FIELD_NUMBER: _ClassVar[int]
    OBSTACLES_FIELD_NUMBER: _ClassVar[int]
    DROPLET_PROBLEMS_FIELD_NUMBER: _ClassVar[int]
    CONSIDERED_DROPLETS_FIELD_NUMBER: _ClassVar[int]
    goal: Goal
    made_at: float
    considered: int
    problems: _containers.RepeatedScalarFieldContainer[str]
    cache_registry: str
    obstacles: _containers.RepeatedScalarFieldContainer[str]
    droplet_problems: _containers.RepeatedScalarFieldContainer[str]
    considered_droplets: int
    def __init__(self, goal: _Optional[_Union[Goal, str]] = ..., made_at: _Optional[float] = ..., considered: _Optional[int] = ..., problems: _Optional[_Iterable[str]] = ..., cache_registry: _Optional[str] = ..., obstacles: _Optional[_Iterable[str]] = ..., droplet_problems: _Optional[_Iterable[str]] = ..., considered_droplets: _Optional[int] = ...) -> None: ...

class ApplyRequest(_message.Message):
    __slots__ = ("options", "entry", "stop")
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    options: ApplyOptions
    entry: PlanEntry
    stop: ApplyStop
    def __init__(self, options: _Optional[_Union[ApplyOptions, _Mapping]] = ..., entry: _Optional[_Union[PlanEntry, _Mapping]] = ..., stop: _Optional[_Union[ApplyStop, _Mapping]] = ...) -> None: ...

class ApplyOptions(_message.Message):
    __slots__ = ("max_in_flight",)
    MAX_IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    max_in_flight: int
    def __init__(self, max_in_flight: _Optional[int] = ...) -> None: ...

class ApplyStop(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RestoreRequest(_message.Message):
    __slots__ = ("filter", "max_in_flight", "all")
    FILTER_FIELD_NUMBER: _ClassVar[int]
    MAX_IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    ALL_FIELD_NUMBER: _ClassVar[int]
    filter: Filter
    max_in_flight: int
    all: bool
    def __init__(self, filter: _Optional[_Union[Filter, _Mapping]] = ..., max_in_flight: _Optional[int] = ..., all: _Optional[bool] = ...) -> None: ...

class ApplyEvent(_message.Message):
    __slots__ = ("process_guid", "app_name", "state", "reason", "detail", "done", "total", "droplet_guid", "droplets_done", "droplets_total", "app_guid")
    PROCESS_GUID_FIELD_NUMBER: _ClassVar[int]
    APP_NAME_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    DROPLET_GUID_FIELD_NUMBER: _ClassVar[int]
    DROPLETS_DONE_FIELD_NUMBER: _ClassVar[int]
    DROPLETS_TOTAL_FIELD_NUMBER: _ClassVar[int]
    APP_GUID_FIELD_NUMBER: _ClassVar[int]
    process_guid: str
    app_name: str
    state: MigrationState
    reason: Reason
    detail: str
    done: int
    total: int
    droplet_guid: str
    droplets_done: int
    droplets_total: int
    app_guid: str
    def __init__(self, process_guid: _Optional[str] = ..., app_name: _Optional[str] = ..., state: _Optional[_Union[MigrationState, str]] = ..., reason: _Optional[_Union[Reason, str]] = ..., detail: _Optional[str] = ..., done: _Optional[int] = ..., total: _Optional[int] = ..., droplet_guid: _Optional[str] = ..., droplets_done: _Optional[int] = ..., droplets_total: _Optional[int] = ..., app_guid: _Optional[str] = ...) -> None: ...

class PlanEvictionRequest(_message.Message):
    __slots__ = ("images",)
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    images: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, images: _Optional[_Iterable[str]] = ...) -> None: ...

class PlannedEviction(_message.Message):
    __slots__ = ("name", "cache_guid", "source", "url", "bytes", "verdict", "detail", "deletable_from", "unused_since")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CACHE_GUID_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    URL_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    DELETABLE_FROM_FIELD_NUMBER: _ClassVar[int]
    UNUSED_SINCE_FIELD_NUMBER: _ClassVar[int]
    name: str
    cache_guid: str
    source: str
    url: str
    bytes: int
    verdict: EvictionVerdict
    detail: str
    deletable_from: float
    unused_since: float
    def __init__(self, name: _Optional[str] = ..., cache_guid: _Optional[str] = ..., source: _Optional[str] = ..., url: _Optional[str] = ..., bytes: _Optional[int] = ..., verdict: _Optional[_Union[EvictionVerdict, str]] = ..., detail: _Optional[str] = ..., deletable_from: _Optional[float] = ..., unused_since: _Optional[float] = ...) -> None: ...

class EvictRequest(_message.Message):
    __slots__ = ("images",)
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    images: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, images: _Optional[_Iterable[str]] = ...) -> None: ...

class EvictedCopy(_message.Message):
    __slots__ = ("url", "bytes", "cache_guid", "deleted", "error")
    URL_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    CACHE_GUID_FIELD_NUMBER: _ClassVar[int]
    DELETED_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    url: str
    bytes: int
    cache_guid: str
    deleted: bool
    error: str
    def __init__(self, url: _Optional[str] = ..., bytes: _Optional[int] = ..., cache_guid: _Optional[str] = ..., deleted: _Optional[bool] = ..., error: _Optional[str] = ...) -> None: ...

class VerifyRequest(_message.Message):
    __slots__ = ("images", "repair")
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    REPAIR_FIELD_NUMBER: _ClassVar[int]
    images: _containers.RepeatedScalarFieldContainer[str]
    repair: bool
    def __init__(self, images: _Optional[_Iterable[str]] = ..., repair: _Optional[bool] = ...) -> None: ...

class VerifiedCopy(_message.Message):
    __slots__ = ("cache_guid", "source", "status", "error", "bytes", "done", "total")
    CACHE_GUID_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    cache_guid: str
    source: str
    status: CopyStatus
    error: str
    bytes: int
    done: int
    total: int
    def __init__(self, cache_guid: _Optional[str] = ..., source: _Optional[str] = ..., status: _Optional[_Union[CopyStatus, str]] = ..., error: _Optional[str] = ..., bytes: _Optional[int] = ..., done: _Optional[int] = ..., total: _Optional[int] = ...) -> None: ...

class PauseRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class PauseResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ResumeRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ResumeResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ResetCircuitBreakerRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ResetCircuitBreakerResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetLogLevelRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class SetLogLevelRequest(_message.Message):
    __slots__ = ("level",)
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    level: str
    def __init__(self, level: _Optional[str] = ...) -> None: ...

class LogLevel(_message.Message):
    __slots__ = ("level", "configured")
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    CONFIGURED_FIELD_NUMBER: _ClassVar[int]
    level: str
    configured: str
    def __init__(self, level: _Optional[str] = ..., configured: _Optional[str] = ...) -> None: ...

class SealAnewRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class SealAnewResponse(_message.Message):
    __slots__ = ("values", "renewed", "unreadable")
    VALUES_FIELD_NUMBER: _ClassVar[int]
    RENEWED_FIELD_NUMBER: _ClassVar[int]
    UNREADABLE_FIELD_NUMBER: _ClassVar[int]
    values: int
    renewed: int
    unreadable: int
    def __init__(self, values: _Optional[int] = ..., renewed: _Optional[int] = ..., unreadable: _Optional[int] = ...) -> None: ...

class RebuildRequest(_message.Message):
    __slots__ = ("accept_unsealed",)
    ACCEPT_UNSEALED_FIELD_NUMBER: _ClassVar[int]
    accept_unsealed: bool
    def __init__(self, accept_unsealed: _Optional[bool] = ...) -> None: ...

class RebuiltCopy(_message.Message):
    __slots__ = ("cache_guid", "url", "source", "status", "detail", "process_guids", "done", "total")
    CACHE_GUID_FIELD_NUMBER: _ClassVar[int]
    URL_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    PROCESS_GUIDS_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    cache_guid: str
    url: str
    source: str
    status: RebuildStatus
    detail: str
    process_guids: _containers.RepeatedScalarFieldContainer[str]
    done: int
    total: int
    def __init__(self, cache_guid: _Optional[str] = ..., url: _Optional[str] = ..., source: _Optional[str] = ..., status: _Optional[_Union[RebuildStatus, str]] = ..., detail: _Optional[str] = ..., process_guids: _Optional[_Iterable[str]] = ..., done: _Optional[int] = ..., total: _Optional[int] = ...) -> None: ...

class BackupPart(_message.Message):
    __slots__ = ("content",)
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    content: bytes
    def __init__(self, content: _Optional[bytes] = ...) -> None: ...

class RestoreBackupResponse(_message.Message):
    __slots__ = ("replaced",)
    REPLACED_FIELD_NUMBER: _ClassVar[int]
    replaced: str
    def __init__(self, replaced: _Optional[str] = ...) -> None: ...
