"""The pages of hellos that are not whole yet, in bounded memory."""

from typing import Final

from contract.messages import Hello
from contract.topics import Address

MAX_GATEWAYS: Final = 2_000
MAX_ITEMS: Final = 400_000


class HelloPages:
    """One unfinished hello per gateway: a page of a newer one drops the older.

    When too much is held, the hello that waits longest is dropped; its gateway, which gets no
    welcome, says hello again.
    """

    def __init__(self, max_gateways: int = MAX_GATEWAYS, max_items: int = MAX_ITEMS) -> None:
        self._max_gateways = max_gateways
        self._max_items = max_items
        self._pages: dict[Address, dict[int, Hello]] = {}
        self._items = 0

    def add(self, address: Address, page: Hello) -> Hello | None:
        """The whole hello, as if it were one page, once the last of its pages is there."""
        if page.page > page.pages:
            return None
        held = self._pages.get(address, {})
        if any((one.nonce, one.pages) != (page.nonce, page.pages) for one in held.values()):
            self._drop(address)
            held = {}
        if page.page not in held:
            self._pages.setdefault(address, held)[page.page] = page
            self._items += _items_of(page)
        if len(held) < page.pages:
            self._make_room()
            return None
        self._drop(address)
        pages = [held[number] for number in sorted(held)]
        return pages[0].model_copy(
            update={
                "page": 1,
                "pages": 1,
                "devices": [device for one in pages for device in one.devices],
                "tasks": [mark for one in pages for mark in one.tasks],
            }
        )

    def _make_room(self) -> None:
        while len(self._pages) > self._max_gateways or self._items > self._max_items:
            self._drop(next(iter(self._pages)))

    def _drop(self, address: Address) -> None:
        for page in self._pages.pop(address, {}).values():
            self._items -= _items_of(page)


def _items_of(page: Hello) -> int:
    return len(page.devices) + len(page.tasks) + 1
