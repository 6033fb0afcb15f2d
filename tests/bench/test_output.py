"""The output of the load tools is read correctly, and bad results are not taken for good ones."""

from dataclasses import astuple

import pytest

from bench.client import Failed
from bench.comparison import output
from bench.comparison.results import Reading

WRK = """\
Running 2s test @ http://127.0.0.1:40001
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.52ms  801.00us   1.01s    86.54%
    Req/Sec    20.20k     0.43k   21.00k    77.33%
  Latency Distribution
     50%  940.00us
     75%    1.25ms
     90%    2.13ms
     99%   16.30ms
  41000 requests in 2.10s, 2.82MB read
Requests/sec:  19523.81
Transfer/sec:      1.34MB
"""

REDIS_BENCHMARK = (
    '"test","rps","avg_latency_ms","min_latency_ms","p50_latency_ms","p95_latency_ms","p99_latency_ms","max_latency_ms"\n'
    '"INCR bench-__rand_int__","47619.05","0.054","0.024","0.055","0.079","0.119","0.303"\n'
)

PGBENCH = """\
pgbench (15.18 (Debian 15.18-0+deb12u1))
transaction type: /tmp/script
scaling factor: 1
query mode: prepared
number of clients: 32
number of threads: 1
maximum number of tries: 1
duration: 2 s
number of transactions actually processed: 4
number of failed transactions: 0 (0.000%)
latency average = 4.000 ms
initial connection time = 51.200 ms
tps = 7999.500000 (without initial connection time)
"""
# client, transaction, its microseconds, script, when
PGBENCH_LOG = [
    "0 1 3000 0 1700000000 1",
    "1 1 1000 0 1700000000 2",
    "0 2 9000 0 1700000000 3",
    "1 2 2000 0 1700000000 4",
]


def test_wrk_says_rate_and_latencies_in_any_unit() -> None:
    assert astuple(output.wrk(WRK)) == pytest.approx((19523.81, 0.00094, 0.0163, 1.01))


@pytest.mark.parametrize(
    "line",
    [
        "  Non-2xx or 3xx responses: 3",
        "  Socket errors: connect 0, read 1, write 0, timeout 0",
    ],
)
def test_a_rate_of_wrk_that_counts_errors_is_none(line: str) -> None:
    with pytest.raises(Failed, match=line.split(": ")[1]):
        output.wrk(WRK.replace("Requests/sec", f"{line}\nRequests/sec"))


@pytest.mark.parametrize("needed", ["Requests/sec", "50%", "99%", "Latency  "])
def test_figures_that_wrk_left_out_are_not_made_up(needed: str) -> None:
    with pytest.raises(Failed):
        output.wrk(WRK.replace(needed, "?"))


def test_increments_by_compare_and_swap_are_those_that_succeeded() -> None:
    assert output.wrk_increments(WRK + "increments: 690 in 3.000000 s\n") == Reading(230.0)
    with pytest.raises(Failed):
        output.wrk_increments(WRK)


def test_redis_benchmark_says_rate_and_latencies_in_milliseconds() -> None:
    reading = output.redis_benchmark(REDIS_BENCHMARK)
    assert astuple(reading) == pytest.approx((47619.05, 0.000055, 0.000119, 0.000303))


@pytest.mark.parametrize(
    "text",
    [
        "",
        REDIS_BENCHMARK.splitlines()[0],
        "Error from server: ERR no such command\n",
        REDIS_BENCHMARK + "Error: Server closed the connection\n",
    ],
)
def test_an_error_of_redis_benchmark_is_no_result(text: str) -> None:
    with pytest.raises(Failed, match="redis-benchmark said"):
        output.redis_benchmark(text)


def test_pgbench_says_the_rate_and_its_log_the_latencies() -> None:
    assert output.pgbench(PGBENCH, PGBENCH_LOG) == Reading(7999.5, 0.002, 0.009, 0.009)


def test_failed_transactions_of_pgbench_are_no_result() -> None:
    with pytest.raises(Failed, match="pgbench said"):
        output.pgbench(PGBENCH.replace("failed transactions: 0", "failed transactions: 2"), PGBENCH_LOG)
    with pytest.raises(Failed, match="pgbench said"):
        output.pgbench("pgbench: error: could not connect", [])
    with pytest.raises(Failed, match="no transaction"):
        output.pgbench(PGBENCH, [])
