"""Values that are known by their content."""

import hashlib
import json
from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict


class ContentHashed(BaseModel):
    """A frozen value whose `id` is the sha256 (64 hex digits) of its canonical JSON, without the `unnamed` fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    unnamed: ClassVar[frozenset[str]] = frozenset()

    @cached_property
    def id(self) -> str:
        content = self.model_dump(mode="json", exclude=set(self.unnamed), context={"hashed": True})
        return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """pydantic's, with an id of its own."""
        copy = super().model_copy(update=update, deep=deep)
        copy.__dict__.pop("id", None)
        return copy
