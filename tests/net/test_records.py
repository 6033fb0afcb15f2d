"""The code above streams works over one that behaves like TLS: records, bytes kept back, writes that need a read.

The tests are those of other modules, with `RecordStream` at both ends.
"""

from __future__ import annotations

import pytest
import trio

from gcount.cluster.links.dialer import WebsocketTransport
from gcount.core.protocol import messages
from tests.cluster.test_websocket import (  # noqa: F401
    test_a_cancelled_flush_loses_nothing_and_doubles_nothing,
    test_a_message_that_has_come_is_not_lost_when_the_time_for_it_is_over,
    test_a_ping_inside_a_message_is_answered_and_a_pong_says_nothing,
    test_a_ping_is_answered_with_its_payload_between_messages,
    test_a_receive_that_is_cancelled_again_and_again_loses_nothing,
    test_after_the_own_socket_was_closed_everything_says_so,
    test_closing_the_own_socket_wakes_receives_and_flushes,
    test_flush_is_done_with_what_was_posted_before_it_was_called,
    test_messages_arrive_in_order_both_ways_at_once,
    test_messages_that_came_together_let_other_tasks_run,
    test_the_close_comes_after_all_messages,
    test_the_end_of_the_stream_is_the_end_even_inside_a_frame,
    test_what_the_kernel_does_not_take_keeps_its_order_and_is_sent_by_flush,
)
from tests.fakes.caller import HELLO
from tests.fakes.streams import chosen, record_stream
from tests.http.served_node import PATIENCE, served, until
from tests.http.test_fast_path_connections import (  # noqa: F401
    test_a_client_that_does_not_read_its_answers_is_aborted,
    test_a_client_that_finishes_sending_right_after_its_request_gets_its_answer,
    test_a_client_that_leaves_in_the_middle_of_its_request_changes_nothing,
    test_a_connection_that_waits_for_a_commit_is_busy_and_an_idle_one_is_displaced,
    test_a_full_disk_is_answered_503_and_the_connection_goes_on,
    test_an_increment_under_way_outlives_the_client_that_sent_it,
    test_at_the_end_increments_under_way_are_answered_and_idle_connections_closed,
    test_requests_that_come_in_pieces_are_answered_in_order,
)
from tests.redis.test_outbox import (  # noqa: F401
    small,
    test_a_client_that_neither_reads_nor_writes_is_disconnected,
    test_a_client_that_never_reads_is_disconnected,
    test_a_client_that_writes_a_whole_pipeline_before_it_reads_gets_every_answer_in_order,
    test_beyond_the_limit_a_client_that_reads_is_waited_for,
    test_commands_before_the_end_of_a_session_are_answered_no_matter_how_it_ends,
    test_commands_of_a_refused_client_are_not_executed_in_whatever_pieces_they_come,
)


@pytest.fixture(autouse=True)
def _over_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chosen, "wrap", record_stream)


async def test_a_link_is_dialled_and_accepted_over_records() -> None:
    """It includes the websocket handshakes of trio-websocket and of the application."""
    async with served() as server:
        address = f"127.0.0.1:{server.port}"
        with trio.fail_after(PATIENCE):
            async with WebsocketTransport("127.0.0.1", 1, wrap=record_stream).connect(address) as link:
                assert link.remote == "127.0.0.1"
                link.post(messages.encode(HELLO))
                await link.flush()
                answer = await link.receive()
                assert isinstance(answer, bytes)
                assert isinstance(messages.decode(answer), messages.Hello)
                link.post(messages.encode(messages.Heartbeat()))
                await link.flush()
                answer = await link.receive()
                assert isinstance(answer, bytes)
                assert isinstance(messages.decode(answer), messages.HeartbeatAck)
            await until(lambda: len(server.connections) == 0)
