"""What stands around gateways in a deployment, as real processes on loopback: a model server, Redis, nginx."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scripts.build_index import ensure_index
from scripts.child import LOOPBACK, Child, free_port
from scripts.gateway import Gateway
from tests.tools import need

READY_S = 60.0


def stub(folder: Path, *arguments: str) -> tuple[Child, str]:
    """A simulated vLLM, not started yet, and its base URL without `/v1`."""
    port = free_port()
    command = [sys.executable, "-m", "loadtests.stub_vllm", "--port", str(port), *arguments]
    return Child("The stub", command, folder / f"stub-{port}.log"), f"http://{LOOPBACK}:{port}"


def gateway(upstream: str, folder: Path, /, port: int | None = None, **settings: Any) -> Gateway:
    """Not started yet. `settings` are `CLINALIGN_*` variables without the beginning."""
    port = port or free_port()
    named = {f"CLINALIGN_{name}": value for name, value in settings.items()}
    return Gateway(upstream, ensure_index(), port=port, log=folder / f"gateway-{port}.log", settings=named)


class RedisServer(Child):
    def __init__(self, folder: Path, port: int | None = None) -> None:
        self.port = port or free_port()
        command = [str(need("redis-server")), "--port", str(self.port), "--bind", LOOPBACK, "--dir", str(folder)]
        super().__init__("Redis", [*command, "--save", "", "--appendonly", "no"], folder / f"redis-{self.port}.log")

    @property
    def url(self) -> str:
        return f"redis://{LOOPBACK}:{self.port}"


_NGINX = """
daemon off;
master_process off;
error_log stderr warn;
pid {folder}/nginx.pid;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  upstream gateways {{
    {servers}
    keepalive 16;
  }}
  server {{
    listen {address} ssl;
    ssl_certificate {folder}/tls.crt;
    ssl_certificate_key {folder}/tls.key;
    location ~ ^/(v1/|docs|openapi.json) {{
      proxy_pass http://gateways;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $host;
      proxy_buffering off;
      proxy_read_timeout 75s;
      proxy_next_upstream error timeout;
      client_max_body_size 2m;
    }}
  }}
}}
"""


class Nginx(Child):
    """TLS in front of gateways, as an Ingress controller has it: docs/deploy.md gives the same settings."""

    def __init__(self, ports: Sequence[int], folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        make_certificate(folder)
        servers = "\n    ".join(f"server {LOOPBACK}:{port} max_fails=1 fail_timeout=1s;" for port in ports)
        config = _NGINX.format(folder=folder, servers=servers, address=f"{LOOPBACK}:{self.port}")
        (folder / "nginx.conf").write_text(config)
        command = [str(need("nginx")), "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr"]
        super().__init__("nginx", command, folder / "nginx.log")

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    @property
    def certificate(self) -> Path:
        return self.folder / "tls.crt"


def make_certificate(folder: Path) -> None:
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    )
    files = ["-keyout", str(folder / "tls.key"), "-out", str(folder / "tls.crt")]
    subprocess.run([*command.split(), *files], check=True, capture_output=True)
