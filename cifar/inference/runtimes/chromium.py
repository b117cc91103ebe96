"""A program that runs a model file in a page of headless Chromium; `main` is its start.

The page comes from a server of its own on this machine, whose headers isolate it: only then has it shared memory for
threads and a clock of 5 microseconds. Messages as in program.py, on stdin and stdout.
"""

import base64
import os
import sys
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, Any

from cifar.errors import first_line
from cifar.inference.runtimes.program import encode_message, read_message
from cifar.inference.runtimes.requirements import CHROMIUM, find_upwards

WEB = Path(__file__).parent / "web"
ARGUMENTS = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-sync",
    "--no-first-run",
    "--no-sandbox",  # which root cannot have
)
HEADERS = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cache-Control": "no-store",
}
TYPES = {".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm"}
LIBRARIES = {
    "onnxruntime": {
        "module": "/web/onnxruntime.mjs",
        "library": "/onnxruntime-web/dist/ort.wasm.min.mjs",
        "wasmFolder": "/onnxruntime-web/dist/",
    },
    "litertjs": {
        "module": "/web/litertjs.mjs",
        "library": "@litertjs/core",
        "wasmFolder": "/@litertjs/core/wasm/",
    },
}


class Handler(BaseHTTPRequestHandler):
    """Serves our page, the packages of Node and the model, and notes how large the WebAssembly was."""

    def __init__(self, model: Path, wasm_bytes: dict[str, int], *arguments: Any) -> None:
        self._model, self._wasm_bytes = model, wasm_bytes
        super().__init__(*arguments)

    def do_GET(self) -> None:
        """Send a file."""
        path = self._file()
        if path is None or not path.is_file():
            self.send_error(404)
            return
        content = path.read_bytes()
        if path.suffix == ".wasm":
            self._wasm_bytes[path.name] = len(content)
        self.send_response(200)
        self.send_header("Content-Type", TYPES.get(path.suffix, "application/octet-stream"))
        self.send_header("Content-Length", str(len(content)))
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def _file(self) -> Path | None:
        if self.path == "/model":
            return self._model
        if self.path == "/":
            return WEB / "page.html"
        if ".." in self.path:
            return None
        if self.path.startswith("/web/"):
            return WEB / self.path.removeprefix("/web/")
        return find_upwards(f"node_modules{self.path}")


def serve(library: str, model: Path, threads: int, requests: IO[bytes], replies: IO[bytes]) -> None:
    """Load a model file in a page and reply to requests until there are no more.

    Args:
        library: a key of LIBRARIES.
        model: the file.
        threads: of the library, with the page's own.
        requests: messages of program.py.
        replies: the same.
    """
    from playwright.sync_api import sync_playwright

    wasm_bytes: dict[str, int] = {}
    with (
        ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, model, wasm_bytes)) as server,
        sync_playwright() as playwright,
    ):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser = playwright.chromium.launch(executable_path=CHROMIUM.path, args=list(ARGUMENTS))
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{server.server_port}/")
        facts = page.evaluate("(options) => loadModel(options)", {**LIBRARIES[library], "threads": threads})
        facts["host"] = f"Chromium {browser.version}"
        facts["wasm_bytes"] = sum(wasm_bytes.values())
        _send(replies, facts)
        while True:
            request, content = read_message(requests)
            if request is None:
                break
            request["text"] = base64.b64encode(content).decode()
            reply = page.evaluate("(request) => classify(request)", request)
            _send(replies, reply, base64.b64decode(reply.pop("text")))
        browser.close()
        server.shutdown()


def _send(replies: IO[bytes], message: dict[str, Any], content: bytes = b"") -> None:
    replies.write(encode_message(message, content))
    replies.flush()


def main() -> None:
    """Serve the file that the arguments name; an error is the last message."""
    library, model, threads = sys.argv[1:]
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no message
    try:
        serve(library, Path(model), int(threads), sys.stdin.buffer, replies)
    except Exception as error:  # whatever a page or a browser raises
        _send(replies, {"error": first_line(error)})
