"""`circuits serve`: the store's graphs in a browser, with the real model behind them."""

from __future__ import annotations

import argparse
import ipaddress
import os
import secrets
import sys
from types import FrameType

from circuits import flags

PORT = 8077
LOCAL = ("127.0.0.1", "localhost", "::1")


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
    import socket

    import uvicorn

    from circuits.errors import BadOption
    from circuits.serving.app import make_app
    from circuits.serving.lab import load_by_name
    from graphs.store import Store

    store = Store(arguments.store)
    count = len(store.list())
    # Others than this machine may connect: whoever has the printed address may ask.
    token = "" if is_local(arguments.host) else secrets.token_urlsafe(16)
    hosts = () if token else tuple(f"[{each}]" if ":" in each else each for each in LOCAL)
    load = load_by_name(
        arguments.model, arguments.transcoders, device=arguments.device, dtype=arguments.dtype, force=arguments.force
    )
    app = make_app(store, load, hosts=hosts, token=token)
    family = socket.AF_INET6 if ":" in arguments.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((arguments.host, arguments.port))
        listening.listen()  # before the address is told: who reads it may connect at once
    except OSError as reason:
        listening.close()
        raise BadOption(
            f"cannot listen at {arguments.host}, port {arguments.port}: {reason.strerror or reason}. "
            "Take another --port, or 0 for any that is free."
        ) from reason
    name = f"[{arguments.host}]" if ":" in arguments.host else arguments.host
    address = f"http://{name}:{listening.getsockname()[1]}/{f'?token={token}' if token else ''}"
    if not arguments.quiet:
        print(f"{count:,} graph{'s' * (count != 1)} of {store.folder} at {address}\nCtrl-C ends it", flush=True)
        if token:
            print("others can connect: whoever has this address can read the store and ask the model", file=sys.stderr)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off"))
    server.handle_exit = end
    try:
        server.run(sockets=[listening])
    except KeyboardInterrupt:
        pass
    finally:
        listening.close()
    return 0


def end(sig: int, frame: FrameType | None) -> None:
    """End at once: what is written is there whole or not at all, and nothing else stops a thread that loads a model."""
    os._exit(0)


def is_local(host: str) -> bool:
    """Whether only this machine can connect."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
