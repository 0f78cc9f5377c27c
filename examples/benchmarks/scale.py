"""What a step costs on many processes, by simulation: the tree of `exact=True`, and a ring, with bandwidths as inputs.

    python examples/benchmarks/scale.py                               # resnet18 in fp32 on three kinds of network
    python examples/benchmarks/scale.py --numbers 124e6 --compute 0.3 --processes 8 64 1024

It is a model, and no measurement: a message of b bytes takes latency + b / bandwidth, both ends send and receive at
once, adding up b bytes takes b / memory, nothing overlaps with computing (as in easylearn). Steps are simulated message
by message, so that the processes of a host share its link to the others.

* tree: log2(W) rounds; in round k each process exchanges the whole buffer with the one that is 2^k away.
* ring: 2 (W - 1) rounds, each with a W-th of the buffer, to the next process (as gloo and NCCL do).
* fsdp: the weights are gathered twice and the gradients shared out once, each in W - 1 rounds of a ring.
"""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import dataclass


@dataclass(frozen=True)
class Network:
    """Bandwidths in bytes a second, latencies in seconds."""

    name: str
    inside: float  # between two processes of a host
    between: float  # of the link that a host has to all others
    latency: float
    memory: float  # at which two buffers are added up


NETWORKS = (
    Network("10 Gbit/s Ethernet, CPUs", 5e9, 1.25e9, 50e-6, 10e9),
    Network("100 Gbit/s, GPUs", 50e9, 12.5e9, 15e-6, 1e12),
    Network("8 x 400 Gbit/s, NVLink", 300e9, 400e9, 10e-6, 2e12),
)


def round_of(pairs: list[tuple[int, int]], size: float, net: Network, per_host: int) -> float:
    """Seconds in which each pair has sent `size` bytes from the first to the second, all at once."""
    out = Counter(a // per_host for a, b in pairs if a // per_host != b // per_host)
    into = Counter(b // per_host for a, b in pairs if a // per_host != b // per_host)
    busiest = max([*out.values(), *into.values()], default=0)
    is_inside = any(a // per_host == b // per_host for a, b in pairs)
    return net.latency + max(busiest * size / net.between, size / net.inside if is_inside else 0.0)


def tree(world: int, size: float, net: Network, per_host: int) -> float:
    """Seconds of one sum over all processes in a binary tree."""
    seconds, step = 0.0, 1
    while step < world:
        seconds += round_of([(a, a ^ step) for a in range(world)], size, net, per_host) + size / net.memory
        step *= 2
    return seconds


def one_way(world: int, size: float, net: Network, per_host: int) -> float:
    """Seconds of a gather, or of sharing out sums, along a ring."""
    each = round_of([(a, (a + 1) % world) for a in range(world)], size / world, net, per_host)
    return (world - 1) * (each + size / world / net.memory)


def simulate(world: int, numbers: float, net: Network, per_host: int) -> dict[str, float]:
    """Seconds of communication in a step, by way of exchange."""
    size = 4 * numbers
    ring = one_way(world, size, net, per_host)
    return {"tree": tree(world, size, net, per_host), "ring": 2 * ring, "fsdp": 3 * ring}


def main() -> None:
    parser = argparse.ArgumentParser(description="Simulate what exchanging gradients costs.")
    parser.add_argument("--numbers", type=float, default=11.7e6, help="in the model's weights (resnet18: 11.7e6)")
    parser.add_argument("--compute", type=float, default=0.1, help="seconds of forward and backward in a step")
    parser.add_argument("--processes", type=int, nargs="+", default=[8, 64, 1024])
    parser.add_argument("--per-host", type=int, default=8)
    parser.add_argument("--inside", type=float, help="bytes a second between two processes of a host")
    parser.add_argument("--between", type=float, help="bytes a second of a host's link")
    parser.add_argument("--latency", type=float, default=20e-6)
    parser.add_argument("--memory", type=float, default=100e9, help="bytes a second at which buffers are added up")
    args = parser.parse_args()
    networks: tuple[Network, ...] = NETWORKS
    if args.inside or args.between:
        between = args.between or args.inside
        networks = (Network("as given", args.inside or between, between, args.latency, args.memory),)
    print(f"{4 * args.numbers / 2**20:,.0f} MiB of gradients, {args.compute:g} s of computing in a step")
    for net in networks:
        print(f"\n{net.name}\n{'processes':>9}" + "".join(f"{way:>22}" for way in ("tree", "ring", "fsdp")))
        for world in args.processes:
            told = simulate(world, args.numbers, net, args.per_host)
            cells = (f"{s * 1e3:10,.1f} ms (x{1 + s / args.compute:.2f})" for s in told.values())
            print(f"{world:>9}" + "".join(f"{cell:>22}" for cell in cells))


if __name__ == "__main__":
    main()
