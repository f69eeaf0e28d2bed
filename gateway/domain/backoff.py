"""How long until the next try: doubling, capped, and spread so that many do not come at once."""


def backoff_ms(tries: int, base_ms: int, cap_ms: int, factor: float = 2.0) -> int:
    """The delay before try number `tries` + 1, where `tries` have failed (at least one)."""
    exponent = min(max(tries - 1, 0), 64)
    try:
        delay = base_ms * factor**exponent
    except OverflowError:
        return cap_ms
    return round(min(delay, cap_ms))


def jittered_ms(delay_ms: int, chance: float) -> int:
    """Between half of the delay and all of it; `chance` is from 0 to 1."""
    return round(delay_ms * (0.5 + 0.5 * chance))
