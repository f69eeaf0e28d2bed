"""Who may speak for a gateway: the proof in its hello, and why a hello is refused.

The broker says who may use a gateway's topics. The proof says that whoever does so holds the
token that was given out last, so that a retired or replaced machine is told from the new one.
"""

import hmac
from hashlib import sha256
from typing import Final

REFUSALS: Final = {
    "gateway_retired": "this gateway was retired",
    "token_void": "its token is not, or no longer, that of this gateway",
    "journal_retired": "another journal has taken the place of this one",
    "journal_copied": "this journal is a copy, or was set back: another has gone on since",
}


def key_of(token: str) -> str:
    """What is kept of a token, in hex. Tokens are long and random: no salt is needed."""
    return sha256(token.encode()).hexdigest()


def proof_of(key: str, nonce: str, journal: str, instance: str) -> str:
    """The proof for one hello, in hex, by what is kept of the token."""
    said = "\n".join((nonce, journal, instance)).encode()
    return hmac.new(key.encode(), said, sha256).hexdigest()


def is_proof(proof: str, key: str, nonce: str, journal: str, instance: str) -> bool:
    return hmac.compare_digest(proof.encode(), proof_of(key, nonce, journal, instance).encode())
