"""What a node that tells of holds has written is read correctly."""

from pathlib import Path

from bench.node_that_tells import Hold, holds


def test_holds_since_a_time_are_found_among_other_lines(tmp_path: Path) -> None:
    log = tmp_path / "1.log"
    log.write_text("ready\nheld 100.500000 0.002000 run\nheld 101.000000 0.750000 seal\nheld 102.5 0.0101 run\n")
    assert holds(log, 0.0)[0] == Hold(100.5, 0.002, "run")
    assert [hold.until for hold in holds(log, 100.4)] == [100.5, 102.5]
