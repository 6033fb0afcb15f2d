"""Which starts of a node are alive: a restart replaces one for good, a copied directory makes two that alternate."""

from collections import OrderedDict

MAX_NODES = 1024  # whose boots are remembered
MAX_BOOTS = 64  # of each


class Boots:
    """The boots of each node that said hello, and which of them proved to be alive by saying more."""

    def __init__(self) -> None:
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
        del boots[:-MAX_BOOTS]
        if len(self._seen) > MAX_NODES:
            forgotten, _ = self._seen.popitem(last=False)
            self._alive.pop(forgotten, None)
        return twin

    def spoke(self, node: bytes, boot: bytes) -> None:
        """A boot said more than hello."""
        if node in self._seen:
            self._alive[node] = boot
