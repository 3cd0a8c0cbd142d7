"""Random keys pass, whatever their alphabet; what people think up does not."""

from __future__ import annotations

import base64
import secrets
import uuid
from collections.abc import Callable

import pytest

from openapi_server.key_strength import MIN_KEY_BITS, estimate_key_bits

RANDOM: dict[str, Callable[[], str]] = {
    "token_urlsafe": lambda: secrets.token_urlsafe(32),
    "openssl rand -base64 48": lambda: base64.b64encode(secrets.token_bytes(48)).decode(),
    "128 bits in hexadecimal digits": lambda: secrets.token_hex(16),
    "openssl rand -hex 32": lambda: secrets.token_hex(32),
    "Base32": lambda: base64.b32encode(secrets.token_bytes(20)).decode(),
    "small letters": lambda: "".join(secrets.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(32)),
    "UUID": lambda: str(uuid.uuid4()),
}
WEAK = [
    "development-only-0123456789abcdef0123456789abcdef",
    "x" * 64,
    "01" * 20,
    "!!!!????!!!!????!!!!????!!!!????",
    "aB3$aB3$aB3$aB3$aB3$aB3$aB3$aB3$",
    "11111111222222223333333344444444",
    "deadbeefdeadbeefdeadbeefdeadbeef",
    "0123456789abcdef0123456789abcdef",
    "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789",
    "00112233445566778899aabbccddeeff",
    "ffeeddccbbaa99887766554433221100",
    "sk-1234567890abcdefghijklmnopqrstuvwxyz",
    "qwertyuiopasdfghjklzxcvbnm123456",
    "1q2w3e4r5t6y7u8i9o0p1q2w3e4r5t6y",
    "1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik9ol0p",
    "!QAZ@WSX#EDC$RFV%TGB^YHN&UJM*IK(OL)P",
    "1qaz@WSX3edc$RFV5tgb^YHN7ujm*IK9ol)P",
    "zaq1xsw2cde3vfr4bgt5nhy6mju7ki8lo9p0",
    "zaq12wsxcde34rfvbgt56yhnmju78ik",
    "qweasdzxcrtyfghvbnuiojklmqweasdzxc",
    "1qay2wsx3edc4rfv5tgb6zhn7ujm8ik9ol0p",
    "aqzsedrftgyhujikolpaqwsxcdevfrbgtnhy",
    "ZGV2ZWxvcG1lbnQtb25seS0wMTIzNDU2Nzg5YWJjZGVm",
    "c2VjcmV0LXNpZ25pbmcta2V5LW9mLXRoZS16b28",
    "c2VjcmV0LXNpZ25pbmcta2V5LW9mLXRoZS16b28=",
    "7365637265742d7369676e696e672d6b65792d6f662d7468652d7a6f6f",
    "z00-s3cr3t-k3y-z00-l10n-t1g3r-s3rv3r",
    "a1b2c3d4e5f6g7h8i9j0k1l2m3n4o5p6",
    "zaq1xsw2cde3vfr4bgt5nhy6mju7ki8lo9",
    "!QAZ2wsx#EDC4rfv%TGB6yhn&UJM8ik<9ol>",
    "qweasdzxcrtyfghvbnuiojklm1234567890",
    "change-me-change-me-change-me-change-me",
    "your-256-bit-secret-your-256-bit-secret",
    "your-secret-key-at-least-32-characters",
    "zoochat-production-signing-key-2026",
    "admin:admin:admin:admin:admin:admin",
    "P@ssw0rd!P@ssw0rd!P@ssw0rd!P@ssw0rd!",
    "this-is-a-secret-key-for-our-zoo-chat-server",
    "my super secret signing key for production 2026",
    "correct horse battery staple lion tiger bear elephant",
    "thisisaverylongsecretkeythatnobodywilleverguess",
    "The quick brown fox jumps over the lazy dog",
    "der löwe schläft heute nacht im dschungel tief",
]


@pytest.mark.parametrize("name", RANDOM)
def test_a_random_key_passes(name: str) -> None:
    """Every one: a server must not refuse to start because of chance."""
    assert min(estimate_key_bits(RANDOM[name]()) for _ in range(500)) >= MIN_KEY_BITS


@pytest.mark.parametrize("key", WEAK)
def test_what_people_think_up_does_not_pass(key: str) -> None:
    assert estimate_key_bits(key) < MIN_KEY_BITS
