"""Tells a restart of a node from a duplicate.

After a restart only the new process says hello. When two processes run on copies of one data directory, their hellos
alternate. Each start of a process has a random id, by which the two cases are told apart.
"""

from collections import OrderedDict

from gcount.core.options import DEFAULTS, Options


class Restarts:
    """The starts of each node that said hello, and which of them proved to be alive by sending more than a hello.

    Args:
        options: how many starts are remembered, and of how many nodes.
    """

    def __init__(self, options: Options = DEFAULTS) -> None:
        self._max_nodes, self._max_starts = options.max_restarted_nodes, options.max_starts
        self._seen: OrderedDict[bytes, list[bytes]] = OrderedDict()  # the newest last
        self._alive: dict[bytes, bytes] = {}

    def said_hello(self, node: bytes, start_id: bytes) -> bool:
        """Take the hello of a start.

        Returns:
            Whether the node has two live processes: this start said hello before, then another one did and proved to
            be alive. A hello of an ended process that was long on its way also comes after another one, but nothing
            ever follows it.
        """
        starts = self._seen.setdefault(node, [])
        self._seen.move_to_end(node)
        duplicate = start_id in starts[:-1] and self._alive.get(node) == starts[-1]
        if start_id in starts:
            starts.remove(start_id)
        starts.append(start_id)
        self._alive.pop(node, None)  # only what comes after this hello proves that a process is alive now
        del starts[: -self._max_starts]
        if len(self._seen) > self._max_nodes:
            forgotten, _ = self._seen.popitem(last=False)
            self._alive.pop(forgotten, None)
        return duplicate

    def spoke(self, node: bytes, start_id: bytes) -> None:
        """Note that a start sent more than a hello, so that it is alive."""
        if node in self._seen:
            self._alive[node] = start_id
