"""What can go wrong in the cloud, named for what the caller does next.

CloudError
├── NotFound             the caller: there is no such thing (also: it is another org's)
│   └── Gone               it was there, and is not any more: deleted, or a link that expired
├── Invalid              the caller: correct it and send it again; says where
├── Conflict             the caller: look at what is there, then decide
├── NotInTime            the caller: what it waited for may still come; ask again
├── NotPermitted         the caller: needs another token
├── StorageFull          the disk: nothing was stored; senders keep it and try again
├── StorageUnavailable   the database: try again
│   └── StorageDamaged     its file is broken: the operator restores a backup
├── BrokerRefused        the operator: the broker's rules do not let us work; stop at start
└── SettingsInvalid      the operator: stop at start; say file, line and key
"""

from collections.abc import Sequence

from contract.http.problems import ProblemItem


class CloudError(Exception):
    """The root; never raised itself."""


class NotFound(CloudError):
    def __init__(self, what: str) -> None:
        super().__init__(f"there is no {what}")


class Gone(NotFound):
    """`code` is "deleted" or "link_expired"."""

    def __init__(self, code: str, detail: str) -> None:
        CloudError.__init__(self, detail)
        self.code = code


class Invalid(CloudError):
    """`code` is one of `contract.http.problems.CODES`; `items` say where and what."""

    def __init__(self, code: str, detail: str, items: Sequence[ProblemItem] = ()) -> None:
        super().__init__(detail)
        self.code = code
        self.items = list(items)


class Conflict(CloudError):
    """`run` is the run in flight, where that is the conflict."""

    def __init__(self, code: str, detail: str, run: str | None = None) -> None:
        super().__init__(detail)
        self.code = code
        self.run = run


class NotInTime(CloudError):
    """A wait whose time is over."""


class NotPermitted(CloudError):
    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class StorageFull(CloudError):
    pass


class StorageUnavailable(CloudError):
    pass


class StorageDamaged(StorageUnavailable):
    pass


class BrokerRefused(CloudError):
    pass


class SettingsInvalid(CloudError):
    pass
