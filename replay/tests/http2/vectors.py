#!/usr/bin/env python3
"""Writes vectors.json: HTTP/2 connections as two ends made with the Python package `h2` (4.4) have them, and what each end
understood. The pipeline is held against it.

    python3 -m venv v && v/bin/pip install h2==4.4.1 && v/bin/python vectors.py

An object a connection: "name"; "pieces", what each end sent at once, in order: [0 (client) or 1 (server), hexadecimal];
"streams": what came out at the other end; bodies as strings of bytes 0 to 255, "begins" the piece in which it was asked for.
"""

import json
import pathlib
import random

import h2.config
import h2.connection
import h2.events
import h2.settings

HEADERS = [("user-agent", "agent/1.0"), ("accept", "*/*"), ("x-api-key", "dummy-key"), ("content-type", "application/json"),
           ("anthropic-version", "2023-06-01"), ("x-word", "déjà ✓"), ("accept-encoding", "gzip, deflate"), ("x-empty", "")]
ANSWERS = [("content-type", "application/json"), ("server", "stub"), ("request-id", "req_1"), ("cache-control", "no-store"),
           ("set-cookie", "a=b; Path=/"), ("x-long", "z" * 60), ("vary", "accept-encoding")]


class Run:
    def __init__(self, name, seed):
        self.name, self.random = name, random.Random(seed)
        self.ends = [h2.connection.H2Connection(h2.config.H2Configuration(client_side=client, header_encoding=None))
                     for client in (True, False)]
        self.pieces, self.streams = [], {}
        for end in self.ends:
            end.initiate_connection()
        self.flush()

    def flush(self):
        """Lets both ends have what the other sent, until neither has more to say."""
        busy = True
        while busy:
            busy = False
            for side, end in enumerate(self.ends):
                data = end.data_to_send()
                if data:
                    busy = True
                    self.pieces.append([side, data.hex()])
                    for event in self.ends[1 - side].receive_data(data):
                        self.note(side, event)

    def note(self, side, event):
        number = getattr(event, "stream_id", None)
        if not number or number % 2 == 0:
            return
        stream = self.streams.setdefault(number, {
            "stream_id": number, "request_headers": None, "response_headers": None, "request_body": "",
            "response_body": "", "ended": [False, False], "reset": False, "begins": len(self.pieces) - 1})
        which = ("request", "response")[side]
        if isinstance(event, (h2.events.RequestReceived, h2.events.ResponseReceived)):
            stream[f"{which}_headers"] = [[name.decode("utf-8"), value.decode("utf-8")] for name, value in event.headers]
        elif isinstance(event, h2.events.DataReceived):
            stream[f"{which}_body"] += event.data.decode("latin-1")
            self.ends[1 - side].acknowledge_received_data(event.flow_controlled_length, number)
        elif isinstance(event, h2.events.StreamEnded):
            stream["ended"][side] = True
        elif isinstance(event, h2.events.StreamReset):
            stream["reset"] = True

    def ask(self, end=False):
        number = self.ends[0].get_next_available_stream_id()
        kept = [field for field in HEADERS if self.random.random() < 0.6]
        path = self.random.choice(["/", "/v1/things", f"/v1/things/{self.random.randrange(5)}?q=1"])
        method = self.random.choice(["GET", "POST", "PUT"])
        self.ends[0].send_headers(number, [(":method", method), (":scheme", "https"), (":authority", "api.example.com"),
                                           (":path", path), *kept], end_stream=end,
                                  priority_weight=self.random.choice([None, None, 17]))
        return number

    def answer(self, number, end=False):
        kept = [field for field in ANSWERS if self.random.random() < 0.6]
        status = self.random.choice(["200", "200", "404", "429", "529"])
        self.ends[1].send_headers(number, [(":status", status), *kept], end_stream=end)

    def body(self, side, number, end=False):
        size = self.random.choice([0, 1, 20, 100])
        padding = self.random.choice([None, None, 0, 9])
        self.ends[side].send_data(number, bytes(self.random.randrange(256) for _ in range(size)), end, padding)

    def done(self):
        self.flush()
        return {"name": self.name, "pieces": self.pieces, "streams": [self.streams[n] for n in sorted(self.streams)]}


def any_order(seed):
    """Up to five streams at once; what happens next is random."""
    run = Run(f"any order, {seed}", seed)
    open_ends = {}  # stream: [request open, response: 0 waits, 1 open, 2 done]
    for step in range(70):
        choice = run.random.random()
        if (not open_ends or choice < 0.2) and len(open_ends) < 5:
            ends = run.random.random() < 0.5
            open_ends[run.ask(ends)] = [not ends, 0]
        elif open_ends:
            number = run.random.choice(sorted(open_ends))
            state = open_ends[number]
            last = run.random.random() < 0.3
            run.flush()
            if choice > 0.97:
                run.ends[run.random.randrange(2)].reset_stream(number, 8)
                del open_ends[number]
            elif state[0] and choice < 0.6:
                if last and run.random.random() < 0.3:
                    run.ends[0].send_headers(number, [("x-trailer", "of the request")], end_stream=True)
                else:
                    run.body(0, number, last)
                state[0] = not last
            elif state[1] == 0:
                if run.random.random() < 0.2:
                    run.ends[1].send_headers(number, [(":status", "103"), ("link", "</a>; rel=preload")])
                run.answer(number, last)
                state[1] = 2 if last else 1
            elif state[1] == 1:
                if last and run.random.random() < 0.4:
                    run.ends[1].send_headers(number, [("x-trailer", "of the response"), ("grpc-status", "0")], end_stream=True)
                else:
                    run.body(1, number, last)
                state[1] = 2 if last else 1
            if number in open_ends and not state[0] and state[1] == 2:
                del open_ends[number]
        if step % 23 == 22:
            run.ends[run.random.randrange(2)].ping(b"12345678")
        if step in (30, 45):
            size = run.random.choice([0, 90, 200, 8192])
            run.ends[run.random.randrange(2)].update_settings({h2.settings.SettingCodes.HEADER_TABLE_SIZE: size})
        if run.random.random() < 0.8:
            run.flush()
    return run.done()


def pushed():
    """A server pushes a response; the client asks for more afterwards."""
    run = Run("pushed", 1)
    number = run.ask(True)
    run.flush()
    run.ends[1].push_stream(number, 2, [(":method", "GET"), (":scheme", "https"), (":authority", "api.example.com"),
                                        (":path", "/pushed"), ("x-pushed", "1")])
    run.answer(number)
    run.answer(2)
    run.body(1, 2, True)
    run.body(1, number, True)
    run.flush()
    number = run.ask(True)
    run.flush()
    run.ends[1].send_headers(number, [(":status", "200"), ("x-pushed", "1"), ("server", "stub")], end_stream=True)
    return run.done()


def main():
    runs = [any_order(seed) for seed in range(1, 7)] + [pushed()]
    lines = ",\n".join(json.dumps(run, separators=(",", ":")) for run in runs)
    (pathlib.Path(__file__).parent / "vectors.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")


main()
