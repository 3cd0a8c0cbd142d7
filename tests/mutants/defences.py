"""Deliberate breaks of the server's defences: for each, the tests that must fail with it.

`python -m tests.mutants.defences` copies the repository, applies one break at a time, and runs its tests in the copy.
It ends with 1 when a break is not caught. It takes some minutes, and is not part of the suite;
`test_defences.py` checks that every break still applies.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import click

REPOSITORY = Path(__file__).resolve().parents[2]
IGNORED = shutil.ignore_patterns(
    ".git", ".venv", ".tools", ".data", "__pycache__", ".*_cache", ".hypothesis", "*.sqlite3*"
)
TIMEOUT_S = 600


@dataclass(frozen=True, slots=True)
class Break:
    """One edit of one file of the package, and the tests that must notice it."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def apply(self, folder: Path) -> None:
        """Edit the copy of the repository in `folder`. `ValueError` when the text is not there exactly once."""
        path = folder / self.file
        text = path.read_text(encoding="utf-8")
        if text.count(self.old) != 1:
            raise ValueError(f"{self.name}: {self.file} has the text {text.count(self.old)} times, not once")
        path.write_text(text.replace(self.old, self.new), encoding="utf-8")


BREAKS: tuple[Break, ...] = (
    Break(
        "a backtracking expression",
        "openapi_server/moderation/pii.py",
        "_MAX_WORDS = 4\n",
        '_MAX_WORDS = 4\nimport re\n_SLOW = re.compile(r"(0+)+b")\n',
        ("tests/test_patterns.py",),
    ),
    Break(
        "large bodies are read on the event loop",
        "openapi_server/http/validation.py",
        "body, is_changed = await run_by_size(len(raw), partial(self._read, raw), MAX_INLINE_BYTES)",
        "body, is_changed = self._read(raw)",
        ("tests/http/test_validation.py",),
    ),
    Break(
        "the description has no fixed ETag",
        "openapi_server/http/api_docs.py",
        "    etag = f'\"{hashlib.sha256(body).hexdigest()[:32]}\"'",
        "    etag = f'\"{id(body)}\"'",
        ("tests/http/test_api_docs.py",),
    ),
    Break(
        "a stream that ends stays counted",
        "openapi_server/http/rate_limits.py",
        "            self._open_streams[key] -= 1\n",
        "            self._open_streams[key] -= 0\n",
        ("tests/http/test_rate_limits.py", "tests/api/test_rate_limits.py"),
    ),
    Break(
        "an address has no limit of its own",
        "openapi_server/http/rate_limits.py",
        "if address_item is not None and not caller.is_user:",
        "if False:",
        ("tests/http/test_rate_limits.py", "tests/api/test_rate_limits.py"),
    ),
    Break(
        "an invented name is a fresh limit",
        "openapi_server/http/rate_limits.py",
        "if caller.is_new and kind in (LimitKind.TURNS, LimitKind.REPEATS):",
        "if False:",
        ("tests/http/test_rate_limits.py", "tests/api/test_rate_limits.py"),
    ),
    Break(
        "wrong passwords lock nothing",
        "openapi_server/accounts/login_protection.py",
        "        if not locked:\n            return\n",
        "        if locked is not None:\n            return\n",
        ("tests/accounts", "tests/api/test_accounts.py"),
    ),
    Break(
        "a success clears the failures of the address",
        "openapi_server/accounts/login_protection.py",
        "        for key in attempt.own_keys:\n            self._counters.pop(key, None)\n",
        "        for key in self._list_keys(attempt):\n            self._counters.pop(key, None)\n",
        ("tests/accounts", "tests/api/test_accounts.py"),
    ),
    Break(
        "an abandoned login stays in the queue",
        "openapi_server/accounts/passwords.py",
        "                self._leave(address, turn)\n",
        "                pass\n",
        ("tests/accounts",),
    ),
    Break(
        "sessions are bound to nobody",
        "openapi_server/http/authorization.py",
        "if not is_bound and not context.services.settings.binds_sessions_to_callers:",
        "if not is_bound:",
        ("tests/api/test_session_binding.py", "tests/api/test_authorization.py"),
    ),
    Break(
        "any session token is right",
        "openapi_server/http/identity.py",
        "    return session_id if hmac.compare_digest(expected.encode(), given.encode()) else None",
        "    return session_id if expected and given else None",
        ("tests/api/test_session_binding.py", "tests/api/test_authorization.py"),
    ),
    Break(
        "handlers run on what was not validated",
        "openapi_server/http/async_handlers.py",
        "            require_validated(scope)\n",
        "            pass\n",
        ("tests/http/test_validation.py", "tests/api/test_operation_table.py"),
    ),
    Break(
        "two media types are one",
        "openapi_server/http/operation_table.py",
        "    if len(names) > 1:\n",
        "    if len(names) > 9:\n",
        ("tests/http/test_validation.py", "tests/api/test_operation_table.py"),
    ),
    Break(
        "answers of one caller may be cached",
        "openapi_server/http/operation_table.py",
        'NO_STORE = "private, no-store"',
        'NO_STORE = "public, max-age=60"',
        ("tests/api/test_security_headers.py",),
    ),
    Break(
        "the leftmost forwarded address is believed",
        "openapi_server/http/proxies.py",
        "            if not self._is_trusted(address, hops):\n                break\n",
        "",
        ("tests/http/test_proxies.py",),
    ),
    Break(
        "readiness is not tried",
        "openapi_server/storage/probe.py",
        "            await self._store.ping()\n",
        "            pass\n",
        ("tests/storage", "tests/api/test_system.py"),
    ),
    Break(
        "a full log queue grows",
        "openapi_server/logging_setup.py",
        "if self._is_closing or self._queued_bytes + len(line) > self._max_queued_bytes:",
        "if self._is_closing:",
        ("tests/test_logging_setup.py",),
    ),
    Break(
        "any signing key is strong",
        "openapi_server/key_strength.py",
        "MIN_KEY_BITS = 72",
        "MIN_KEY_BITS = 0",
        ("tests/test_config.py", "tests/test_key_strength.py"),
    ),
    Break(
        "uvicorn's own 400",
        "openapi_server/http/uvicorn_protocol.py",
        "    def send_400_response(self, msg: str) -> None:",
        "    def answer_400(self, msg: str) -> None:",
        ("tests/live/test_requests.py",),
    ),
    Break(
        "a used refresh token is good for ever",
        "openapi_server/accounts/logins.py",
        "timedelta(seconds=REFRESH_GRACE_S)",
        "timedelta(days=REFRESH_GRACE_S)",
        ("tests/accounts", "tests/api/test_accounts.py"),
    ),
)


def run_tests(folder: Path, tests: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    """Run the tests of the copy, to the first failure."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--no-header", *tests]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )


def is_caught(result: subprocess.CompletedProcess[str]) -> bool:
    """True when a test failed. A broken import or a wrong test name (exit codes above 1) is no catch."""
    return result.returncode == 1 and "FAILED " in result.stdout


def main(names: list[str]) -> int:
    """Try the named breaks, or all. Returns the exit code."""
    chosen = [item for item in BREAKS if not names or item.name in names]
    missed = 0
    for item in chosen:
        with tempfile.TemporaryDirectory(prefix="break-") as temporary:
            folder = Path(temporary) / "copy"
            shutil.copytree(REPOSITORY, folder, ignore=IGNORED)
            item.apply(folder)
            result = run_tests(folder, item.tests)
        failed = next((line for line in result.stdout.splitlines() if line.startswith("FAILED ")), "no test failed")
        missed += not is_caught(result)
        click.echo(
            f"{'caught' if is_caught(result) else 'MISSED'}  {item.name}: {failed.removeprefix('FAILED ')[:110]}"
        )
    click.echo(f"{len(chosen) - missed} of {len(chosen)} breaks caught")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
