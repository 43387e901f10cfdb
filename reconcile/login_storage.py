"""Remembers whether the BBS stores an LRP's login that is updated in place, as reading one back has shown."""


class LoginStorage:
    """What this process has learnt of the BBS; a BBS that was upgraded since is known anew after a restart.

    Attributes:
        is_stored: None while nothing has shown it.
    """

    def __init__(self) -> None:
        self.is_stored: bool | None = None
