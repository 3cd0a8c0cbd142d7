"""Login, refreshed tokens, logout, and who is calling."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import lru_cache

import structlog

from openapi_server.accounts.login_protection import LoginAttempt, LoginClient, LoginProtection
from openapi_server.accounts.passwords import LoginQueue, Passwords
from openapi_server.accounts.tokens import AccessTokens, create_refresh_token, hash_refresh_token
from openapi_server.models.errors import BadCredentials, InvalidToken
from openapi_server.models.ids import make_id
from openapi_server.models.user import AuthenticatedUser, Login, Role, User
from openapi_server.protocols import AccountStore, Clock

# The demo accounts: username, role, parent (parents come before their children). Their passwords are in the
# documentation, so production must not have them.
DEMO_USERS = (
    ("parent1", Role.PARENT, None),
    ("user1", Role.USER, "parent1"),
    ("keeper1", Role.ZOOKEEPER, None),
    ("admin", Role.ADMINISTRATOR, None),
)
# The hashes of their passwords, with the costs of `Passwords`. Computing them takes a quarter of a second.
_DEMO_HASHES = {
    "parent1": "$argon2id$v=19$m=47104,t=1,p=1$i01oBSAIhMEohFm/0SrslQ$ToYHkhDiFfZQDysSzQhqv6wpR6UYhhMor+szgvdnNzU",
    "user1": "$argon2id$v=19$m=47104,t=1,p=1$RiJJGnGwnBP95XOqLpzAQw$VRC88Qk9h7NhFU9YRpY4q4r9VS7r18nTRApxtVQHDys",
    "keeper1": "$argon2id$v=19$m=47104,t=1,p=1$QiF9s41dISPVodefbgU3Jw$GV0g8+n1neH/wXMgfQysEmAUDP33zGSZ7eAtJkGwf4c",
    "admin": "$argon2id$v=19$m=47104,t=1,p=1$Nydlfd4Vi2oYw7lWykkQRw$Ir0DoPSIc9A0XB9h67ud/nGj+j0YgIgUhVA77ketzyk",
}

# How long a used refresh token still gets its successor: for a second tab, and for an answer that was lost.
REFRESH_GRACE_S = 10
# How many refreshes one after the other may happen in that time and still be followed from their first token.
MAX_REPEATED_REFRESHES = 20

# For logins that come from no request.
UNKNOWN_CLIENT = LoginClient()

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class TokenGrant:
    """The result of a login or a refresh: two tokens, and the seconds for which the access token is valid.

    `device_cookie`: after a login, what makes its browser known for the next one.
    """

    access_token: str
    refresh_token: str
    expires_in_s: int
    username: str
    role: Role
    device_cookie: str = ""


class AccountService:
    """What users do with their accounts. `refresh_ttl_s`: how long a login lasts after its last refresh."""

    def __init__(
        self,
        store: AccountStore,
        passwords: Passwords,
        tokens: AccessTokens,
        clock: Clock,
        refresh_ttl_s: int,
        protection: LoginProtection,
    ) -> None:
        self._store = store
        self._passwords = passwords
        self._tokens = tokens
        self._clock = clock
        self._refresh_ttl_s = refresh_ttl_s
        self._protection = protection
        self._login_queue = LoginQueue()
        # The same token comes with each request, and a signature takes 50 µs to verify.
        self._find_username = lru_cache(maxsize=4096)(self._verify_username)

    @property
    def waiting_count(self) -> int:
        """How many logins wait for their passwords to be checked."""
        return self._login_queue.length

    async def login(self, username: str, password: str, client: LoginClient = UNKNOWN_CLIENT) -> TokenGrant:
        """Raises `BadCredentials` for an unknown name and for a wrong password alike, and after the same time.

        Raises `LoginLocked` after too many wrong passwords, `RateLimited` and `LoginsBusy` when too many logins wait.
        """
        attempt = self._protection.identify(username, client)
        # Before the store is asked. A lock is the same for names that exist and for others.
        self._protection.check(attempt)
        async with self._login_queue.wait_for_place(client.address):
            grant = await self._check_and_grant(username, password, attempt)
        self._protection.record_success(attempt)
        return replace(grant, device_cookie=self._protection.make_device_cookie(username, client.device_cookie))

    async def _check_and_grant(self, username: str, password: str, attempt: LoginAttempt) -> TokenGrant:
        user = await self._store.get_user(username)
        # In the queue, nobody has guessed yet: only from here on does the attempt count.
        self._protection.start(attempt)
        checked = await self._passwords.check(user.password_hash if user else None, password)
        if user is None or not checked.is_right:
            log.info("login_refused")
            raise BadCredentials
        login = Login(make_id("login"), username, self._clock.now(), self._login_expires_at)
        refresh_token = create_refresh_token()
        if not await self._store.create_login(login, hash_refresh_token(refresh_token), user.password_hash):
            raise BadCredentials
        if checked.new_hash is not None:
            await self._store.rehash_password(username, user.password_hash, checked.new_hash)
        return self._grant_tokens(login, refresh_token, user)

    async def refresh(self, refresh_token: str) -> TokenGrant:
        """New tokens for a refresh token, which is single-use. Raises `InvalidToken` when it is not valid.

        The same token again within `REFRESH_GRACE_S` gets the same successor; later it ends the login.
        """
        tokens = [refresh_token]
        for _ in range(MAX_REPEATED_REFRESHES):
            tokens.append(self._tokens.derive_refresh_token(tokens[-1]))
        hashes = [hash_refresh_token(token) for token in tokens]
        repeatable_since = self._clock.now() - timedelta(seconds=REFRESH_GRACE_S)
        found = await self._store.refresh_login(hashes, self._login_expires_at, repeatable_since)
        user = await self._store.get_user(found[0].username) if found else None
        if found is None or user is None:
            raise InvalidToken("The refresh token is not valid. Log in again.")
        login, number = found
        return self._grant_tokens(login, tokens[number], user)

    async def logout(self, access_token: str | None, refresh_token: str | None) -> None:
        """End the logins of the tokens; all their tokens are void from now on. The access token may have expired.

        Raises `InvalidToken` when neither token is of a login that has not ended.
        """
        ended = []
        if access_token is not None:
            with suppress(InvalidToken):
                login_id = self._tokens.verify(access_token, may_be_expired=True).login_id
                ended.append(await self._store.end_login(login_id))
        if refresh_token is not None:
            ended.append(await self._store.end_login_of_token(hash_refresh_token(refresh_token)))
        if not any(ended):
            raise InvalidToken

    async def authenticate(self, access_token: str) -> AuthenticatedUser:
        """The user of the token. Raises `InvalidToken`, also when the login was ended: a logout works at once."""
        claims = self._tokens.verify(access_token)
        user = await self._store.get_authenticated_user(claims.username, claims.login_id)
        if user is None:
            raise InvalidToken
        return user

    def find_username(self, access_token: str) -> str | None:
        """Whom the token was issued to; None when it is not ours. It need not be valid any more."""
        return self._find_username(access_token)

    def find_login_device(self, cookie: str) -> str | None:
        """The browser that a login made known with the cookie `login_device`; None when it is not ours."""
        return self._protection.find_known_device(cookie)

    def _verify_username(self, access_token: str) -> str | None:
        try:
            return self._tokens.verify(access_token).username
        except InvalidToken:
            return None

    async def has_user(self, username: str) -> bool:
        return await self._store.get_user(username) is not None

    async def search_users(self, text: str, limit: int) -> list[User]:
        """The first accounts, by name, whose name has the text in it; `*`: all of them."""
        wanted = "" if text == "*" else text.casefold()
        return [user for user in await self._store.list_users() if wanted in user.username][:limit]

    @property
    def _login_expires_at(self) -> datetime:
        return self._clock.now() + timedelta(seconds=self._refresh_ttl_s)

    def _grant_tokens(self, login: Login, refresh_token: str, user: User) -> TokenGrant:
        return TokenGrant(self._tokens.issue(login), refresh_token, self._tokens.ttl_s, user.username, user.role)


async def create_demo_users(store: AccountStore, passwords: Passwords, clock: Clock) -> None:
    """Create the missing ones; the password is the name followed by `-demo`."""
    for username, role, parent in DEMO_USERS:
        if await store.get_user(username) is None:
            password_hash = _DEMO_HASHES[username]
            if passwords.needs_rehash(password_hash):
                password_hash = await passwords.hash(f"{username}-demo")
            await store.create_user(User(username, role, password_hash, clock.now(), parent, is_demo=True))


async def list_demo_users(store: AccountStore) -> list[str]:
    """The names of the demo accounts in the store whose passwords were never changed."""
    return [user.username for user in await store.list_users() if user.is_demo]
