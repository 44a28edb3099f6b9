"""A stand-in for the model behind Claude Code, on loopback: it plays tool calls, then says DONE."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class ScriptedModel(ThreadingHTTPServer):
    """Calls one tool per turn. `results` has what Claude Code showed the model of each."""

    def __init__(self, calls):
        super().__init__(("127.0.0.1", 0), Turn)
        self.calls = calls
        self.results = []
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Turn(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_words):
        pass

    def do_HEAD(self):
        self.answer("text/plain", b"")

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if not self.path.startswith("/v1/messages") or "count_tokens" in self.path:
            return self.answer("application/json", b'{"input_tokens": 1}')
        contents = [m["content"] for m in body["messages"] if isinstance(m["content"], list)]
        results = [block for c in contents for block in c if block["type"] == "tool_result"]
        # Requests without tools are chores of Claude Code's, such as naming the conversation.
        calls = self.server.calls if body.get("tools") else []
        if calls:
            self.server.results = results
        if len(results) < len(calls):
            name, arguments = calls[len(results)]
            block = {"type": "tool_use", "id": f"toolu_{len(results)}", "name": name, "input": {}}
            delta = {"type": "input_json_delta", "partial_json": json.dumps(arguments)}
        else:
            block = {"type": "text", "text": ""}
            delta = {"type": "text_delta", "text": "DONE"}
        return self.say(body, block, delta)

    def say(self, body, block, delta):
        stop = "tool_use" if block["type"] == "tool_use" else "end_turn"
        message = {
            "id": "m", "type": "message", "role": "assistant", "model": body["model"],
            "content": [], "stop_reason": None, "usage": {"input_tokens": 1, "output_tokens": 1},
        }
        if not body.get("stream"):
            done = {**message, "content": [{"type": "text", "text": "DONE"}], "stop_reason": stop}
            return self.answer("application/json", json.dumps(done).encode())
        events = [
            {"type": "message_start", "message": message},
            {"type": "content_block_start", "index": 0, "content_block": block},
            {"type": "content_block_delta", "index": 0, "delta": delta},
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": {"stop_reason": stop}, "usage": message["usage"]},
            {"type": "message_stop"},
        ]
        lines = [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events]
        return self.answer("text/event-stream", "".join(lines).encode())

    def answer(self, content_type, body):
        self.send_response(200)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
