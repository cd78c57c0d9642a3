"""Builds the index folder: principles.json, index.faiss, and a manifest that pins both by hash."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from pathlib import Path
from typing import Any, Literal

import faiss
import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from principles_index.encoders import Encoder
from principles_index.schema import Library
from service.domain import Principle
from service.errors import IndexInvalid

MANIFEST, PRINCIPLES, VECTORS = "manifest.json", "principles.json", "index.faiss"


class Manifest(BaseModel):
    """What the folder must hold. `sha256` covers the other fields, so that a flipped byte anywhere is found."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    format: Literal[1]
    encoder: str
    encoder_fingerprint: str
    dimension: int
    vectors: int
    principles: int
    principles_version: str
    principles_sha256: str
    vectors_sha256: str
    sha256: str

    @property
    def version(self) -> str:
        return self.sha256

    def digest(self) -> str:
        return _digest(self.model_dump(exclude={"sha256"}))

    @classmethod
    def read(cls, file: Path) -> Manifest:
        try:
            manifest = cls.model_validate_json(file.read_bytes())
        except FileNotFoundError:
            raise IndexInvalid(f"{file} is missing: make the index with `python -m principles_index build`") from None
        except (OSError, ValidationError, ValueError):
            raise IndexInvalid(
                f"{file} is damaged: rebuild the index with `python -m principles_index build`"
            ) from None
        if manifest.sha256 != manifest.digest():
            raise IndexInvalid(f"{file} is damaged: rebuild the index with `python -m principles_index build`")
        return manifest


def _digest(fields: dict[str, Any]) -> str:
    return hashlib.sha256(orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)).hexdigest()


def vector_texts(principle: Principle) -> list[str]:
    """The texts that stand for a principle: its statement with when it applies, then its exemplars."""
    return [f"{principle.statement} {principle.applies_when}", *(e.text for e in principle.exemplars)]


def build(library: Library, encoder: Encoder, encoder_name: str, out: Path) -> Manifest:
    """Writes the index folder atomically: a reader sees the old folder or the new one, never half of one.

    The same library, encoder and packages give the same bytes.
    """
    texts = [text for principle in library.principles for text in vector_texts(principle)]
    vectors = encoder.encode(texts)
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    blob = faiss.serialize_index(index).tobytes()
    principles = library.to_json()
    fields: dict[str, Any] = {
        "format": 1,
        "encoder": Path(encoder_name).name,
        "encoder_fingerprint": encoder.fingerprint,
        "dimension": int(vectors.shape[1]),
        "vectors": len(texts),
        "principles": len(library.principles),
        "principles_version": library.version,
        "principles_sha256": hashlib.sha256(principles).hexdigest(),
        "vectors_sha256": hashlib.sha256(blob).hexdigest(),
    }
    manifest = Manifest(**fields, sha256=_digest(fields))
    out.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        (staging / PRINCIPLES).write_bytes(principles)
        (staging / VECTORS).write_bytes(blob)
        (staging / MANIFEST).write_bytes(manifest.model_dump_json(indent=1).encode())
        staging.chmod(0o755)
        _swap(staging, out)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return manifest


def _swap(staging: Path, out: Path) -> None:
    """Puts the new folder in place. The manifest pins both files, so even a torn swap is refused, not misread."""
    old = staging.with_name(staging.name + "-old")
    if out.exists():
        out.rename(old)
    staging.rename(out)
    shutil.rmtree(old, ignore_errors=True)
