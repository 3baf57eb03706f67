#!/usr/bin/env python3
"""A small client of Quorate, written from docs/wire.md alone.

Needs Python 3.9 and the package `msgpack`. Usage:

    client.py [--nodes HOST:PORT,...] put KEY VALUE
    client.py [--nodes HOST:PORT,...] get KEY
    client.py [--nodes HOST:PORT,...] cas KEY VERSION VALUE      (version 0: only if the key is absent)
    client.py [--nodes HOST:PORT,...] list PREFIX
    client.py check docs/wire.md     (compares the frames of this client with those of the page)

Writes go through a session, so that a write that is sent again takes effect once.
"""

import argparse
import itertools
import random
import re
import socket
import struct
import sys
import time

import msgpack

VERSION = 1
MAX_FRAME = 16 * 1024 * 1024
DEADLINE = 10.0  # seconds for a whole operation
PATIENCE = 1.0  # seconds for one answer


class Refused(Exception):
    """A final answer that is an error: its name and contents."""

    def __init__(self, name, contents):
        super().__init__(f"{name}: {contents}" if contents is not None else name)
        self.name, self.contents = name, contents


class Maybe(Exception):
    """The write may or may not have taken effect."""


def encode(packet):
    body = msgpack.packb(packet, use_bin_type=True)
    return struct.pack(">I", len(body)) + body


def variant(value):
    """Takes one of several apart: its name, and its contents or None."""
    if isinstance(value, dict):
        ((name, contents),) = value.items()
        return name, contents
    return value, None


def hello(cluster=""):
    return {"Hello": {"version": VERSION, "cluster": cluster, "node": None, "store": 0}}


def write(number, command, stamp=None, group=1):
    return {"Request": {"id": number, "group": group, "body": {"Write": {"stamp": stamp, "command": command}}}}


def read(number, query, consistency="Linearizable", group=1):
    body = {"Read": {"query": query, "consistency": consistency}}
    return {"Request": {"id": number, "group": group, "body": body}}


def put(key, value, expect="Any"):
    return {"Change": {"Put": {"key": key, "value": value, "expect": expect, "lifetime": "Forever"}}}


def get(key):
    return {"Get": {"key": key}}


def prefix(start, after=None, max_keys=0):
    return {"Prefix": {"prefix": start, "after": after, "max_keys": max_keys, "max_bytes": 0, "keys_only": False}}


class Connection:
    """One connection, after its handshake."""

    def __init__(self, address, cluster):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self.socket.sendall(encode(hello(cluster)))
            name, self.welcome = variant(self.receive())
            if name == "Goodbye":
                raise ConnectionError(self.welcome["reason"])
            if name != "Welcome":
                raise ConnectionError(f"the node answered {name}: {self.welcome}")
        except BaseException:
            self.close()
            raise

    def ask(self, request):
        """Sends one request and waits for its response; answers pings meanwhile."""
        self.socket.sendall(encode(request))
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            name, contents = variant(self.receive())
            if name == "Ping":
                self.socket.sendall(encode({"Pong": contents}))
            elif name == "Goodbye":
                raise ConnectionError(contents["reason"])
            elif name == "Response" and contents["id"] == request["Request"]["id"]:
                return contents["result"]
        raise TimeoutError("no answer in time")

    def receive(self):
        (length,) = struct.unpack(">I", self.exactly(4))
        if length > MAX_FRAME:
            raise ConnectionError(f"a frame of {length} bytes")
        return msgpack.unpackb(self.exactly(length), raw=False, strict_map_key=False)

    def exactly(self, count):
        data = bytearray()
        while len(data) < count:
            more = self.socket.recv(count - len(data))
            if not more:
                raise ConnectionError("closed by the node")
            data += more
        return bytes(data)

    def close(self):
        self.socket.close()


class Client:
    """Finds the leader, repeats what may be repeated, keeps a session for its writes."""

    def __init__(self, addresses, cluster="", deadline=DEADLINE):
        self.cluster, self.deadline = cluster, deadline
        self.seeds = itertools.cycle(addresses)
        self.nodes = {}
        self.connection = None
        self.ids = itertools.count(1)
        self.session, self.seq = None, 0

    def execute(self, make, effect=False):
        """Sends `make(id)` until there is a final answer: for reads, and for writes with a stamp (`effect`)."""
        until, pause = time.monotonic() + self.deadline, 0.01
        # Whether some copy may have been carried out: what later ones are told speaks of those only.
        doubt = False
        while True:
            unknown, leader = False, None
            try:
                if self.connection is None:
                    self.connect(next(self.seeds))
                unknown = True
                outcome, contents = variant(self.connection.ask(make(next(self.ids))))
                if outcome == "Ok":
                    return variant(contents)[1]
                name, details = variant(contents)
                unknown = name == "Unknown"
                if name == "NotLeader":
                    leader = details["leader"]
                elif name == "Refused":
                    reason, contents = variant(details)
                    if reason == "Limit" and doubt:
                        raise Maybe(f"the last copy was refused: {contents}")
                    raise Refused(reason, contents)
                elif name not in ("Busy", "NoSuchGroup", "Unknown"):
                    raise Refused(name, details)
                if name != "Busy":
                    self.disconnect()
            except OSError as error:
                problem = error
                self.disconnect()
            else:
                problem = name
            doubt = doubt or (effect and unknown)
            if time.monotonic() > until:
                raise Maybe(str(problem)) if doubt else TimeoutError(str(problem))
            if leader in self.nodes and self.try_connect(self.nodes[leader]):
                continue
            time.sleep(random.uniform(0, pause))
            pause = min(pause * 2, 1.0)

    def connect(self, address):
        self.connection = Connection(address, self.cluster)
        self.nodes = dict(self.connection.welcome.get("nodes", []))

    def try_connect(self, address):
        try:
            self.connect(address)
            return True
        except OSError:
            return False

    def disconnect(self):
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def write(self, command):
        """One command at a time, so everything below its number is answered."""
        if self.session is None:
            _, opened = variant(self.execute(lambda number: write(number, "OpenSession")))
            self.session, self.seq = opened["session"], 0
        self.seq += 1
        stamp = {"session": self.session, "seq": self.seq, "acked_below": self.seq}
        try:
            return variant(self.execute(lambda number: write(number, command, stamp), effect=True))
        except Refused as refused:
            if refused.name == "SessionExpired":
                self.session = None
                raise Maybe("the session has expired") from refused
            raise

    def put(self, key, value, expect="Any"):
        """The new version of the key."""
        _, changed = self.write(put(key, value, expect))
        return changed["Version"]

    def get(self, key):
        """Value and version; None and 0 when the key is absent."""
        try:
            _, found = variant(self.execute(lambda number: read(number, get(key))))
            return found["value"], found["version"]
        except Refused as refused:
            if refused.name == "NoKey":
                return None, 0
            raise

    def list(self, start):
        """All pairs whose key begins so, page by page."""
        after = None
        while True:
            _, page = variant(self.execute(lambda number: read(number, prefix(start, after))))
            yield from ((pair["key"], pair["value"], pair["version"]) for pair in page["pairs"])
            after = page["cursor"]
            if after is None:
                return

    def close(self):
        if self.session is not None:
            self.write("CloseSession")
        self.disconnect()


def check(page):
    """Compares the frames of this client with the examples of the page."""
    session = {"group": 1, "index": 7}
    expected = {
        "hello": hello("demo"),
        "pong": {"Pong": 1},
        "put": write(1, put(b"greeting", b"hello")),
        "cas": write(2, put(b"greeting", b"hello", {"Version": 1})),
        "get": read(3, get(b"greeting")),
        "prefix": read(4, prefix(b"user/", b"user/1", 2)),
        "open-session": write(6, "OpenSession"),
        "put-in-session": write(
            7, put(b"greeting", b"hello"), {"session": session, "seq": 1, "acked_below": 1}
        ),
    }
    with open(page, encoding="utf-8") as file:
        blocks = dict(re.findall(r"```hex ([\w-]+)\n(.*?)```", file.read(), re.DOTALL))
    wrong = 0
    for name, packet in expected.items():
        digits = "".join(line.split("#")[0] for line in blocks[name].splitlines())
        if bytes.fromhex(digits) != encode(packet):
            wrong += 1
            print(f"{name}: this client sends {encode(packet).hex()}")
    print(f"{len(expected) - wrong} of {len(expected)} frames are as in {page}")
    return 1 if wrong else 0


def main():
    parser = argparse.ArgumentParser(description="A small client of Quorate.")
    parser.add_argument("--nodes", default="127.0.0.1:7101", help="addresses, separated by commas")
    parser.add_argument("--timeout", type=float, default=DEADLINE, help="seconds for an operation")
    parser.add_argument("--cluster", default="", help="name of the cluster, if it is to be checked")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, arguments in {
        "put": ["key", "value"],
        "get": ["key"],
        "cas": ["key", "version", "value"],
        "list": ["prefix"],
        "check": ["page"],
    }.items():
        command = commands.add_parser(name)
        for argument in arguments:
            command.add_argument(argument)
    options = parser.parse_args()
    if options.command == "check":
        return check(options.page)
    client = Client(options.nodes.split(","), options.cluster, options.timeout)
    try:
        if options.command == "put":
            print("version", client.put(options.key.encode(), options.value.encode()))
        elif options.command == "cas":
            version = int(options.version)
            expect = {"Version": version} if version else "Absent"
            print("version", client.put(options.key.encode(), options.value.encode(), expect))
        elif options.command == "get":
            value, version = client.get(options.key.encode())
            if value is None:
                print("no such key", file=sys.stderr)
                return 1
            print(f"{value.decode(errors='replace')} (version {version})")
        else:
            for key, value, version in client.list(options.prefix.encode()):
                print(f"{key.decode(errors='replace')} = {value.decode(errors='replace')} (version {version})")
        client.close()
    except Refused as refused:
        print(f"refused: {refused}", file=sys.stderr)
        return 1
    except Maybe as maybe:
        print(f"maybe: it may or may not have taken effect ({maybe})", file=sys.stderr)
        return 2
    except (OSError, TimeoutError) as error:
        print(f"not done: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
