"""NeMo Guardrails' server on loopback: `PEER_PYTHON nemo_server.py CONFIG_FOLDER PORT`.

Run by the peer's Python, never imported here. `nemoguardrails server` itself listens on every address and logs prompts at
every call; this starts the same app without either, which is faster.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import uvicorn
from nemoguardrails.server import api  # type: ignore[import-not-found]


def main() -> None:
    folder, port = Path(sys.argv[1]), int(sys.argv[2])
    logging.disable(logging.WARNING)
    api.app.rails_config_path = str(folder)
    api.set_default_config_id(folder.name)
    uvicorn.run(api.app, host="127.0.0.1", port=port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
