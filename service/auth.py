"""API keys: hashed in configuration, compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass

from service.errors import InvalidAPIKey
from service.settings import ApiKey


@dataclass(frozen=True, slots=True)
class Tenant:
    name: str


ANONYMOUS = Tenant("anonymous")


class Keys:
    def __init__(self, keys: Sequence[ApiKey]) -> None:
        self._keys = tuple((Tenant(key.name), key.sha256.encode()) for key in keys)

    def tenant(self, authorization: str | None) -> Tenant:
        """Whose key this is. Every key is compared, so that time tells nothing. Raises InvalidAPIKey."""
        if not self._keys:
            return ANONYMOUS
        scheme, _, token = (authorization or "").partition(" ")
        digest = hashlib.sha256(token.strip().encode("utf-8", "surrogatepass")).hexdigest().encode()
        found = None
        for tenant, sha256 in self._keys:
            if hmac.compare_digest(digest, sha256):
                found = tenant
        if found is None or scheme.lower() != "bearer" or not token.isascii():
            raise InvalidAPIKey("Give a valid API key as `Authorization: Bearer KEY`.")
        return found
