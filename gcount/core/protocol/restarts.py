"""Which starts of a node are alive: a restart replaces one for good, a copied directory makes two that alternate."""

from collections import OrderedDict

from gcount.core.options import DEFAULTS, Options


class Boots:
    """The boots of each node that said hello, and which of them proved to be alive by saying more.

    Args:
        options: how many boots are remembered, and of how many nodes.
    """

    def __init__(self, options: Options = DEFAULTS) -> None:
        self._max_nodes, self._max_boots = options.max_boot_nodes, options.max_boots
        self._seen: OrderedDict[bytes, list[bytes]] = OrderedDict()  # the newest last
        self._alive: dict[bytes, bytes] = {}

    def met(self, node: bytes, boot: bytes) -> bool:
        """A boot says hello; returns whether it was followed by another one that was alive.

        A hello of a former life that was long on its way follows, too, but never says more.
        """
        boots = self._seen.setdefault(node, [])
        self._seen.move_to_end(node)
        twin = boot in boots[:-1] and self._alive.get(node) == boots[-1]
        if boot in boots:
            boots.remove(boot)
        boots.append(boot)
        self._alive.pop(node, None)  # what a former life said proves nothing any more
        del boots[: -self._max_boots]
        if len(self._seen) > self._max_nodes:
            forgotten, _ = self._seen.popitem(last=False)
            self._alive.pop(forgotten, None)
        return twin

    def spoke(self, node: bytes, boot: bytes) -> None:
        """A boot said more than hello."""
        if node in self._seen:
            self._alive[node] = boot
