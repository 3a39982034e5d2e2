"""Stands in for the `vllm` program: listens on `--uds`, asks for the key of the environment, dies when told."""

import http.server
import json
import os
import socketserver
import sys

socket_path = sys.argv[sys.argv.index("--uds") + 1]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def is_let_in(self):
        if self.headers["authorization"] == f"Bearer {os.environ['VLLM_API_KEY']}":
            return True
        self.answer(401, {"error": "Unauthorized"})
        return False

    def do_GET(self):
        if self.is_let_in():
            self.answer(200, {"data": [{"id": sys.argv[2]}]})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.is_let_in():
            if "/die" in json.dumps(body):
                os._exit(3)
            message = {"role": "assistant", "content": " ".join(sys.argv[3:-2])}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            self.answer(
                200, {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
            )

    def address_string(self):
        return "socket"

    def log_message(self, *_):
        pass


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


if os.path.exists(socket_path):
    os.unlink(socket_path)
Server(socket_path, Handler).serve_forever()
