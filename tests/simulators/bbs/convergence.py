"""Convergence: one round of the repairs that the BBS makes to LRPs and tasks.

How often, is the server's.
Source: bbs converger/converger.go, db/sqldb/lrp_convergence.go, db/sqldb/task_convergence.go,
controllers/lrp_convergence_controller.go.
"""

import contextlib

from protos.bbs.actual_lrp_pb2 import ActualLRP, ActualLRPKey
from protos.bbs.task_pb2 import Task
from tests.simulators.bbs import actual, events, tasks
from tests.simulators.bbs.errors import BbsError
from tests.simulators.bbs.state import SECOND, State, copy_of

KICK_TASK = 30 * SECOND
EXPIRE_PENDING = 1800 * SECOND
EXPIRE_COMPLETED = 120 * SECOND
MAX_EXPONENT = 5
GIVE_UP = 200


def converge(state: State) -> None:
    """Run one round: LRPs, then tasks."""
    _forget_expired_domains(state)
    fresh = frozenset(state.fresh_domains())
    cells = frozenset(state.registered_cells())
    for step in (_evacuating_without_cell, _lost, _returned):
        step(state, cells)
    _surplus_suspects(state, fresh)
    _crashed(state)
    _missing(state)
    _stale(state)
    _extras(state, fresh)
    _converge_tasks(state, cells)


def _forget_expired_domains(state: State) -> None:
    now = state.now()
    state.domains = {name: expiry for name, expiry in state.domains.items() if expiry > now}


def _evacuating_without_cell(state: State, cells: frozenset[str]) -> None:
    for row in state.rows():
        if row.presence == ActualLRP.EVACUATING and row.actual_lrp_instance_key.cell_id not in cells:
            actual.drop(state, row)


def _lost(state: State, cells: frozenset[str]) -> None:
    """Suspect the instances of cells that are gone, and start others in their place."""
    for row in state.rows():
        placed = row.presence == ActualLRP.ORDINARY and row.state in {actual.CLAIMED, actual.RUNNING}
        if not placed or row.actual_lrp_instance_key.cell_id in cells:
            continue
        key = row.actual_lrp_key
        if state.row(key.process_guid, key.index, ActualLRP.SUSPECT) is not None:
            state.events.emit(actual.unclaim(state, row))
        else:
            _change_presence(state, row, ActualLRP.SUSPECT)
            migration = actual.create_unclaimed(state, key)
            state.events.emit([events.instance_created(migration)])
        actual.auction(state, [key])


def _returned(state: State, cells: frozenset[str]) -> None:
    """Trust the instances of a cell that is back, and drop their migrations that do not run yet."""
    for row in state.rows():
        if row.presence != ActualLRP.SUSPECT or row.actual_lrp_instance_key.cell_id not in cells:
            continue
        migration = state.row(row.actual_lrp_key.process_guid, row.actual_lrp_key.index)
        if migration is not None and migration.state == actual.RUNNING:
            continue
        if migration is not None:
            actual.drop(state, migration)
        _change_presence(state, row, ActualLRP.ORDINARY)


def _change_presence(state: State, row: ActualLRP, presence: ActualLRP.Presence) -> None:
    before = copy_of(row)
    state.drop_row(row)
    row.presence = presence
    state.put_row(row)
    state.events.emit([events.instance_changed(before, row)])


def _surplus_suspects(state: State, fresh: frozenset[str]) -> None:
    for row in state.rows():
        if row.presence != ActualLRP.SUSPECT:
            continue
        key = row.actual_lrp_key
        ordinary = state.row(key.process_guid, key.index)
        replaced = ordinary is not None and ordinary.state == actual.RUNNING
        if replaced or (key.process_guid not in state.desired and key.domain in fresh):
            actual.drop(state, row)


def _crashed(state: State) -> None:
    for row in state.rows():
        if row.state == actual.CRASHED and _is_due(state, row):
            key = row.actual_lrp_key
            if key.process_guid in state.desired:
                state.events.emit(actual.unclaim(state, row))
                actual.auction(state, [key])


def _is_due(state: State, row: ActualLRP) -> bool:
    exponent = min(max(row.crash_count - actual.IMMEDIATE_RESTARTS, 0), MAX_EXPONENT)
    waits = state.crash_backoff * SECOND * 2**exponent
    return row.crash_count < GIVE_UP and state.now() - row.since >= waits


def _missing(state: State) -> None:
    for lrp in list(state.desired.values()):
        for index in range(lrp.instances):
            if state.row(lrp.process_guid, index) is None:
                key = ActualLRPKey(process_guid=lrp.process_guid, index=index, domain=lrp.domain)
                row = actual.create_unclaimed(state, key)
                state.events.emit([events.instance_created(row)])
                actual.auction(state, [key])


def _stale(state: State) -> None:
    for row in state.rows():
        old = state.now() - row.since > state.stale_unclaimed * SECOND
        if row.presence == ActualLRP.ORDINARY and row.state == actual.UNCLAIMED and old:
            actual.auction(state, [row.actual_lrp_key])


def _extras(state: State, fresh: frozenset[str]) -> None:
    """Retire what is not desired, in fresh domains only."""
    for row in state.rows():
        key = row.actual_lrp_key
        lrp = state.desired.get(key.process_guid)
        domain = key.domain if lrp is None else lrp.domain
        surplus = lrp is None or key.index >= lrp.instances
        if row.presence == ActualLRP.ORDINARY and surplus and domain in fresh:
            with contextlib.suppress(BbsError):  # only logged upstream
                actual.retire(state, key)


def _converge_tasks(state: State, cells: frozenset[str]) -> None:
    now = state.now()
    for task in list(state.tasks.values()):
        if task.state == Task.Pending and now - task.created_at > EXPIRE_PENDING:
            tasks.lose(state, task, "not started within time limit")
        elif task.state == Task.Pending:
            tasks.auction(state, task)
        elif task.state == Task.Running and task.cell_id not in cells:
            tasks.lose(state, task, "cell disappeared before completion")
        elif task.state == Task.Resolving and now - task.updated_at > KICK_TASK:
            tasks.demote(state, task)
        if task.state == Task.Completed:
            _tidy(state, task, now)


def _tidy(state: State, task: Task, now: int) -> None:
    if now - task.first_completed_at > EXPIRE_COMPLETED:
        tasks.expire(state, task)
    elif now - task.updated_at > KICK_TASK and task.task_definition.completion_callback_url:
        state.complete(task)
