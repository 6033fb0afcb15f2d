"""What a node that tells of holds has written is read correctly."""

from pathlib import Path

from bench.node_that_tells import Hold, holds


def test_holds_since_a_time_are_found_among_other_lines(tmp_path: Path) -> None:
    log = tmp_path / "1.log"
    log.write_text("ready\nheld 100.5 0.002000 0.001 run\nheld 101.0 0.75 0.1 seal\nheld 102.5 0.0101 0.01 A.run\n")
    assert holds(log, 0.0)[0] == Hold(100.5, 0.002, 0.001, "run")
    assert [hold.until for hold in holds(log, 100.4)] == [100.5, 102.5]
