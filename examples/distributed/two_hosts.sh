#!/bin/bash
# two_hosts.sh [train | cut | host]: train.py on two hosts, which are network namespaces of this machine. It needs root.
# cut: the link between them goes down for good. host: everything on the second one is killed, and started anew.
# Each case prints the weights' digest, as `python train.py --epochs 40` does.
case=${1:-train} here=$(cd "$(dirname "$0")" && pwd) out=$(mktemp -d)
for h in 1 2; do ip netns add host$h; done
ip link add veth1 type veth peer name veth2
for h in 1 2; do
  ip link set veth$h netns host$h
  ip netns exec host$h ip addr add 10.78.0.$h/24 dev veth$h
  ip netns exec host$h ip link set lo up
  ip netns exec host$h ip link set veth$h up
done
trap 'for h in 1 2; do ip netns pids host$h | xargs -r kill -9; ip netns del host$h; done; rm -r "$out"' EXIT

export OMP_NUM_THREADS=1 TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
run() { # on host $1
  GLOO_SOCKET_IFNAME=veth$1 ip netns exec host"$1" timeout -k 5 300 python -m torch.distributed.run --nnodes 1:2 \
    --nproc-per-node 1 --max-restarts 3 --rdzv-backend c10d --rdzv-id two-hosts --rdzv-endpoint 10.78.0.1:29777 \
    --rdzv-conf "is_host=$([ "$1" = 1 ] && echo true || echo false),last_call_timeout=8" --local-addr 10.78.0.$1 \
    "$here/train.py" --epochs 40 --out "$out/run" 2>&1 | grep --line-buffered -E "^ +[0-9]|StateError:|weights" | sed -u "s/^/host $1: /"
}
run 1 & first=$!
run 2 &
if [ "$case" != train ]; then
  until ls "$out"/run/checkpoint_* > /dev/null 2>&1; do sleep 0.2; done
  sleep 2
  echo "$(date +%T) $case"
  if [ "$case" = cut ]; then ip netns exec host1 ip link set veth1 down; fi
  if [ "$case" = host ]; then ip netns pids host2 | xargs -r kill -9; sleep 3; run 2 & fi
fi
wait $first
echo "$(date +%T) the first host has ended"
