"""Random keys pass, whatever their alphabet; what people think up does not."""

from __future__ import annotations

import base64
import hashlib
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
PRINTED = [
    "3.14159265358979323846264338327950288419716939937510",
    "31415926535897932384626433832795",
    "pi=3,1415926535897932384626433832795028841971",
    "59723833462648323979853562951413.3",
    "2.71828182845904523536028747135266249775724709369995",
    "1.41421356237309504880168872420969807856967187537694",
    "1.61803398874989484820458683436563811772030917980576",
    "0.69314718055994530941723212145817656807550013436026",
    "243f6a8885a308d313198a2e03707344a4093822299f31d0082efa98ec4e6c89",
    "6a09e667bb67ae853c6ef372a54ff53a510e527f9b05688c1f83d9ab5be0cd19",
    "428a2f9871374491b5c0fbcfe9b5dba53956c25b59f111f1923f82a4ab1c5ed5",
    "d76aa478e8c7b756242070dbc1bdceeef57c0faf4787c62a",
    "d41d8cd98f00b204e9800998ecf8427e",
    "D41D8CD98F00B204E9800998ECF8427E",
    "d41d8cd9-8f00-b204-e980-0998ecf8427e",
    "da39a3ee5e6b4b0d3255bfef95601890afd80709",
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
    "5f4dcc3b5aa765d61d8327deb882cf99",
    "sha256:" + hashlib.sha256(b"secret").hexdigest(),
    hashlib.sha512(b"changeme").hexdigest(),
    hashlib.sha1(b"admin\n", usedforsecurity=False).hexdigest(),
    hashlib.md5(b"zoo", usedforsecurity=False).hexdigest() * 2,
    base64.urlsafe_b64encode(hashlib.sha384(b"Password").digest()).decode(),
    "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow",
    "hJtXIZ2uSN5kbQfbtTNWbpdmhkV8FJG-Onbc6mxCcYg",
    "django-insecure-$k2=3v)x9#q8w!z7@5p^0&m*1n4b6r(t+y-u_i",
    "a-string-secret-at-least-256-bits-long",
    "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7",
    "prod-192b9bdd22ab9ed4d12e236c78afcb9a393ec15f71bbf5dc987d54727823bcbf-1",
    "404E635266556A586E3272357538782F413F4428472B4B6250645367566B5970",
    "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
]


@pytest.mark.parametrize("key", PRINTED)
def test_what_is_printed_somewhere_does_not_pass(key: str) -> None:
    """Constants, hashes of nothing and of common words, examples of RFCs and frameworks."""
    assert estimate_key_bits(key) < MIN_KEY_BITS


def test_a_random_key_behind_a_constant_is_as_good_as_without_it() -> None:
    assert estimate_key_bits("3.14159265358979-" + secrets.token_urlsafe(48)) >= MIN_KEY_BITS


@pytest.mark.parametrize("name", RANDOM)
def test_a_random_key_passes(name: str) -> None:
    """Every one: a server must not refuse to start because of chance."""
    assert min(estimate_key_bits(RANDOM[name]()) for _ in range(500)) >= MIN_KEY_BITS


@pytest.mark.parametrize("key", WEAK)
def test_what_people_think_up_does_not_pass(key: str) -> None:
    assert estimate_key_bits(key) < MIN_KEY_BITS
