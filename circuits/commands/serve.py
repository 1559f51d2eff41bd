"""`circuits serve`: the store's graphs in a browser, with the real model behind them."""

from __future__ import annotations

import argparse
import ipaddress
import os
import secrets
import socket
import sys
from contextlib import suppress
from types import FrameType

from circuits import flags

PORT = 8077
LOCAL = ("127.0.0.1", "localhost", "::1")
EVERYWHERE = ("0.0.0.0", "::")  # no address that a browser can open
ELSEWHERE = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}  # kept for examples: nobody is there


def add_arguments(parser: argparse.ArgumentParser) -> None:
    flags.add_store(parser)
    flags.add_model(parser, default=None)
    parser.add_argument(
        "--host",
        metavar="ADDRESS",
        type=flags.filled,
        default=LOCAL[0],
        help="where to listen (default: 127.0.0.1, this machine only; elsewhere a token is asked for)",
    )
    parser.add_argument("--port", metavar="N", type=port, default=PORT, help=f"default: {PORT}; 0 for any that is free")
    flags.add_quiet(parser)


def port(text: str) -> int:
    """A port's number, 0 for any."""
    if not (text.isascii() and text.isdigit() and int(text) < 65536):
        raise argparse.ArgumentTypeError(f"a port is a number from 0 to 65535, found {text!r}")
    return int(text)


def run(arguments: argparse.Namespace) -> int:
    import uvicorn

    from circuits.serving.app import make_app
    from circuits.serving.lab import load_by_name
    from graphs.store import Store

    store = Store(arguments.store)
    count = len(store.list())
    # Others than this machine may connect: whoever has the printed address may ask.
    token = "" if is_local(arguments.host) else secrets.token_urlsafe(16)
    hosts = () if token else tuple(map(in_address, {*LOCAL, arguments.host}))
    load = load_by_name(
        arguments.model, arguments.transcoders, device=arguments.device, dtype=arguments.dtype, force=arguments.force
    )
    app = make_app(store, load, hosts=hosts, token=token)
    listening = listen(arguments.host, arguments.port)
    ending = f":{listening.getsockname()[1]}/{f'?token={token}' if token else ''}"
    here, *others = [f"http://{in_address(name)}{ending}" for name in names_of(arguments.host)]
    if not arguments.quiet:
        print(f"{count:,} graph{'s' * (count != 1)} of {store.folder} at {here}")
        for other in others:
            print(f"from other machines: {other}")
        print("Ctrl-C ends it", flush=True)
        if token:
            print("others can connect: whoever has this address can read the store and ask the model", file=sys.stderr)
    elif token:
        print(here, flush=True)  # without it nobody gets in
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False, lifespan="off", ws="none"))
    server.handle_exit = end
    try:
        server.run(sockets=[listening])
    except KeyboardInterrupt:
        pass
    finally:
        listening.close()
    return 0


def listen(host: str, port: int) -> socket.socket:
    """A socket that browsers can connect to at once.

    Raises:
        BadOption: the port is taken, or this machine has no such address.
    """
    from circuits.errors import BadOption

    listening = None
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if host == "::":
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listening.bind((host, port))
        listening.listen()
        return listening
    except OSError as reason:
        if listening is not None:
            listening.close()
        raise BadOption(
            f"cannot listen at {host}, port {port}: {reason.strerror or reason}. "
            "Take another --port, 0 for any that is free, or another --host."
        ) from reason


def names_of(host: str) -> list[str]:
    """What a browser calls a server that listens there, on this machine first.

    Where it listens everywhere, this machine's address in the network is asked of the system; nothing is sent for it.
    """
    if host not in EVERYWHERE:
        return [host]
    names = ["localhost"]
    for family, far in ELSEWHERE.items():
        if family == socket.AF_INET6 and host != "::":
            continue
        with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((far, 9))
            names.append(probe.getsockname()[0])
    return names


def in_address(name: str) -> str:
    """A host as an address has it."""
    return f"[{name}]" if ":" in name else name


def end(sig: int, frame: FrameType | None) -> None:
    """End at once: what is written is there whole or not at all, and nothing else stops a thread that loads a model."""
    os._exit(0)


def is_local(host: str) -> bool:
    """Whether only this machine can connect."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
