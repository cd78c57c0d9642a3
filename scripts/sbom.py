"""Adds encoder and index to an image's CycloneDX list of packages: `python sbom.py SBOM --out FILE --encoder DIR ...`.

Run while an image is built, so: standard library only, and no import of ours.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import Any


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sbom", type=Path, help="CycloneDX JSON of the packages")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--encoder", type=Path, required=True, help="folder of the encoder")
    parser.add_argument("--encoder-name", required=True)
    parser.add_argument("--index", type=Path, required=True, help="folder made by `python -m principles_index build`")
    args = parser.parse_args(arguments)
    bom = json.loads(args.sbom.read_text(encoding="utf-8"))
    manifest = json.loads((args.index / "manifest.json").read_text(encoding="utf-8"))
    bom["components"] += [
        component("machine-learning-model", args.encoder_name, manifest["encoder_fingerprint"], args.encoder),
        component("data", "principles-index", manifest["sha256"], args.index),
    ]
    args.out.write_text(json.dumps(bom, indent=1) + "\n", encoding="utf-8")
    return 0


def component(kind: str, name: str, version: str, folder: Path) -> dict[str, Any]:
    """A CycloneDX component whose parts are the folder's files, each with its SHA-256."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        "type": kind,
        "bom-ref": name,
        "name": name,
        "version": version,
        "components": [
            {
                "type": "file",
                "bom-ref": f"{name}/{path.relative_to(folder).as_posix()}",
                "name": path.relative_to(folder).as_posix(),
                "hashes": [{"alg": "SHA-256", "content": sha256_of(path)}],
            }
            for path in files
        ],
    }


def sha256_of(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


if __name__ == "__main__":
    sys.exit(main())
