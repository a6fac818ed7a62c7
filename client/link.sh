#!/bin/sh
# Shapes the network of the device whose namespace this shares, then waits to be stopped.
# LINK_UP_BIT, LINK_DOWN_BIT: bits per second, 0 for no limit; LINK_LATENCY_MS: added to each packet sent.
set -u
device=${LINK_DEVICE:-eth0}
up=${LINK_UP_BIT:-0} down=${LINK_DOWN_BIT:-0} latency=${LINK_LATENCY_MS:-0}

# A bucket holds 10 ms at the given rate, and one packet of the largest size at least.
burst() { b=$(($1 / 800)); [ "$b" -gt 65536 ] && echo "$b" || echo 65536; }

shape_up() {
  tc qdisc replace dev "$device" root handle 1: tbf rate "${up}bit" burst "$(burst "$up")" latency 400ms
}

# What arrives is led through an intermediate device, since only what leaves can be shaped.
shape_down() {
  ip link add ifb0 type ifb && ip link set ifb0 up &&
    tc qdisc replace dev ifb0 root tbf rate "${down}bit" burst "$(burst "$down")" latency 400ms &&
    tc qdisc replace dev "$device" handle ffff: ingress &&
    tc filter replace dev "$device" parent ffff: protocol all prio 1 u32 match u32 0 0 \
      action mirred egress redirect dev ifb0
}

delay() {
  if [ "$up" -gt 0 ]; then parent="parent 1:"; else parent="root"; fi
  # shellcheck disable=SC2086
  tc qdisc replace dev "$device" $parent handle 10: netem delay "${latency}ms"
}

attempt() {
  what=$1
  shift
  if said=$("$@" 2>&1); then
    echo "link: $what"
  else
    echo "link: WARNING: $what is not emulated: this kernel can't: $(echo "$said" | tail -n 1)" >&2
  fi
}

[ "$up" -gt 0 ] && attempt "upload at most $up bit/s" shape_up
[ "$down" -gt 0 ] && attempt "download at most $down bit/s" shape_down
[ "$latency" != 0 ] && attempt "latency of $latency ms" delay

trap 'exit 0' TERM INT
while :; do
  sleep 3600 &
  wait $!
done
