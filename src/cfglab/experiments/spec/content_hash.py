"""Values that are identified by a hash of their content."""

import hashlib
import json
from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict


class ContentHashed(BaseModel):
    """A frozen value that is identified by its content.

    Attributes:
        id: the SHA-256 (64 hex digits) of the canonical JSON, without the `unnamed` fields.
        unnamed: fields that do not count.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    unnamed: ClassVar[frozenset[str]] = frozenset()

    @cached_property
    def id(self) -> str:
        content = self.model_dump(mode="json", exclude=set(self.unnamed), context={"hashed": True})
        return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy as pydantic does; its `id` is computed from its own content."""
        copy = super().model_copy(update=update, deep=deep)
        copy.__dict__.pop("id", None)
        return copy
