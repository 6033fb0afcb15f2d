"""The text of `/metrics`: the values that are read at each scrape."""

from gcount.observe.metrics import Metrics


def test_a_sample_with_a_name_that_ends_in_total_is_a_counter_and_others_are_gauges() -> None:
    metrics = Metrics()
    metrics.watch(
        lambda: [
            ("some_open", "Open ones.", {"kind": "a"}, 1),
            ("some_open", "Open ones.", {"kind": "b"}, 2),
            ("some_closed_total", "Closed ones.", {}, 3),
        ]
    )
    lines = metrics.text().decode().splitlines()
    assert lines[-7:] == [
        "# HELP some_open Open ones.",
        "# TYPE some_open gauge",
        'some_open{kind="a"} 1.0',
        'some_open{kind="b"} 2.0',
        "# HELP some_closed_total Closed ones.",
        "# TYPE some_closed_total counter",
        "some_closed_total 3.0",
    ]
