from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from equipment.jobs import JobState, JobVerb, ReturnStatus
from equipment.opcua.nodeset import ORDER_VERBS
from equipment.simulators.job_receiver import ACTIVE_STATES, MAX_JOBS, OVER_STATES, JobReceiver
from tests.equipment.opcua.tiny import TinyPlant, order

NOW = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)

calls = st.tuples(
    st.sampled_from(JobVerb), st.sampled_from(["J-1", "J-2", "J-3"]), st.integers(0, 2), st.sampled_from([30.0, 40.0])
)


def receiver() -> JobReceiver:
    return JobReceiver(TinyPlant(), lambda: NOW)


def carry_out(tool: JobReceiver, verb: JobVerb, job_id: str, epoch: int, temperature_c: float) -> ReturnStatus:
    if verb not in ORDER_VERBS:
        return tool.verb(verb, job_id, epoch).status
    take = {JobVerb.STORE: tool.store, JobVerb.STORE_AND_START: tool.store_and_start, JobVerb.UPDATE: tool.update}
    return take[verb](order(job_id, epoch=epoch, temperature_c=temperature_c, duration_s=1.0)).status


@given(st.lists(st.one_of(calls, st.floats(0.1, 2.0)), max_size=40))
def test_no_sequence_of_calls_starts_a_job_twice_or_runs_two_at_once(steps: list[object]) -> None:
    tool = receiver()
    started = 0
    for step in steps:
        before = {job_id: replace(job) for job_id, job in tool.jobs.items()}
        epoch_before = tool.epoch
        if isinstance(step, float):
            tool.plant.advance(step)
            tool.follow()
        else:
            assert isinstance(step, tuple)
            status = carry_out(tool, *step)
            if not status.accepted:
                assert tool.jobs == before
            if step[2] < epoch_before:
                assert status == ReturnStatus.CANNOT_ACCEPT
        assert tool.epoch >= epoch_before
        active = [job for job in tool.jobs.values() if job.state in ACTIVE_STATES]
        assert len(active) <= 1
        for job_id, job in tool.jobs.items():
            was = before.get(job_id)
            if was is not None and was.state in OVER_STATES:
                assert job == was
            if job.state in ACTIVE_STATES and (was is None or was.state not in ACTIVE_STATES):
                started += 1
        assert tool.jobs_started == started


def test_asking_again_for_a_start_changes_nothing_even_after_the_end() -> None:
    tool = receiver()
    tool.store_and_start(order("J-1", duration_s=1.0))
    tool.plant.advance(2.0)
    tool.follow()
    assert tool.jobs["J-1"].state is JobState.ENDED
    assert tool.store_and_start(order("J-1", duration_s=1.0)).status & ReturnStatus.ALREADY_ACCEPTED
    assert tool.verb(JobVerb.START, "J-1", 1).status & ReturnStatus.ALREADY_ACCEPTED
    assert tool.jobs_started == 1
    assert tool.jobs["J-1"].state is JobState.ENDED


def test_a_full_tool_refuses_orders_and_ended_jobs_make_room() -> None:
    tool = receiver()
    for number in range(MAX_JOBS):
        assert tool.store(order(f"J-{number}")).status == ReturnStatus.OK
    assert tool.store(order("J-more")).status == ReturnStatus.CANNOT_ACCEPT
    tool.verb(JobVerb.ABORT, "J-0", 1)
    assert tool.store(order("J-more")).status == ReturnStatus.OK
    assert "J-0" not in tool.jobs
    assert len(tool.jobs) == MAX_JOBS
