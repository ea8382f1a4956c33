#!/bin/sh
# A clinic with one trunk cable, on a kernel that has VLAN, flowtable and WireGuard: two zones are VLAN 10 and 20 on the
# gateway's only port, and rules keyed on the sub-interface names decide between them. Run as root in a guest.
#
#   ehr (10.10.0.2) -- VLAN 10 --.
#                                 trunk == eth0 of gw (10.10.0.1 on eth0.10, 10.20.0.1 on eth0.20)
#   staff (10.20.0.2) - VLAN 20 -'
#
# With the argument `swap` the first rules name the interfaces the wrong way round and only the first checks are made:
# they must fail.
failed=0
server=
patience=10
[ "$1" != swap ] || patience=2
say() { echo "$1 $2"; [ "$1" = ok ] || failed=$((failed + 1)); }
expect() { # what it is, wanted, found
    if [ "$2" = "$3" ]; then say ok "$1"; else say 'not ok' "$1: wanted \`$2\`, found \`$3\`"; fi
}
must() { "$@" || { echo "bail out: $*"; exit 2; }; }

zone() { # name, VLAN: the zone's host is .2 and ::2 in it, the gateway .1 and ::1
    must ip -n trunk link add link eth0 name "eth0.$2" type vlan id "$2"
    must ip -n trunk link set "eth0.$2" netns "$1"
    must ip -n gw link add link eth0 name "eth0.$2" type vlan id "$2"
    for side in "gw 1" "$1 2"; do
        must ip -n "${side% *}" address add "10.$2.0.${side#* }/24" dev "eth0.$2"
        must ip -n "${side% *}" address add "fd00:$2::${side#* }/64" dev "eth0.$2" nodad
        must ip -n "${side% *}" link set "eth0.$2" up
    done
    must ip -n "$1" route add default via "10.$2.0.1"
    must ip -n "$1" route add default via "fd00:$2::1"
}

tear_down() {
    [ -z "$server" ] || kill "$server"
    for name in gw trunk ehr staff; do ip netns delete $name 2> /dev/null; done
    rm -f /tmp/bulk /tmp/got /tmp/open
}

finish() {
    echo "$failed failed"
    [ $failed = 0 ]
    exit
}

lab() {
    trap tear_down EXIT
    for name in gw trunk ehr staff; do
        must ip netns add $name
        must ip -n $name link set lo up
    done
    must ip -n gw link add eth0 type veth peer name eth0 netns trunk
    must ip -n gw link set eth0 up
    must ip -n trunk link set eth0 up
    must ip netns exec gw sysctl -q -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
    zone ehr 10
    zone staff 20
}

allow() { # interface in, interface out, statements before the decision, objects they need
    must ip netns exec gw nft -f - <<RULES
table inet clinic
delete table inet clinic
table inet clinic {
    counter dropped { }
    counter seen { }
    $4
    chain forward {
        type filter hook forward priority 0; policy drop;
        counter name seen
        $3
        ct direction . iifname . oifname vmap { original . "$1" . "$2" : accept, reply . "$2" . "$1" : accept }
        counter name dropped drop
    }
}
RULES
}

packets() { ip netns exec gw nft list counter inet clinic "$1" | sed -n 's/.*packets \([0-9]*\).*/\1/p'; }

pings() { # from, to, wanted: one ping per family, judged by its answer
    for family in 4 6; do
        if [ $family = 4 ]; then address=10.$2.0.2; else address=fd00:$2::2; fi
        if [ "$3" = pass ]; then wait=$patience; else wait=1; fi
        if ip netns exec "$1" ping -$family -c 1 -W $wait "$address" > /dev/null; then found=pass; else found=drop; fi
        expect "$1 to $address" "$3" $found
    done
}

bulk() { # one TCP connection from ehr that fetches some hundred packets from staff
    ip netns exec staff nc -l -p 80 < /tmp/bulk &
    server=$!
    for _ in $(seq 100); do
        ip netns exec staff netstat -ltn | grep -q ':80 ' && break
        sleep 0.1
    done
    # The fetching side's input stays open: its early end would close half of the connection and end the offload.
    ip netns exec ehr nc 10.20.0.2 80 <> /tmp/open > /tmp/got
    wait $server
    server=
    expect "the transfer arrives whole" "$(md5sum < /tmp/bulk)" "$(md5sum < /tmp/got)"
}

lab
expect "a VLAN sub-interface has its id" 1 "$(ip -n gw -d link show eth0.10 | grep -c 'vlan protocol 802.1Q id 10')"

if [ "$1" = swap ]; then allow eth0.20 eth0.10; else allow eth0.10 eth0.20; fi
pings ehr 20 pass
pings staff 10 drop
expect "the last rule counted the drops" 2 "$(packets dropped)"
[ "$1" != swap ] || finish

allow eth0.20 eth0.10
pings ehr 20 drop
pings staff 10 pass
expect "the last rule counted the drops" 2 "$(packets dropped)"

allow eth0 eth0
pings ehr 20 drop
expect "a rule on the trunk does not speak for its VLANs" 2 "$(packets dropped)"

head -c 1000000 /dev/urandom > /tmp/bulk
mkfifo /tmp/open
allow eth0.10 eth0.20
bulk
slow=$(packets seen)
allow eth0.10 eth0.20 'meta l4proto tcp flow add @fast' \
    'flowtable fast { hook ingress priority 0; devices = { eth0.10, eth0.20 }; }'
bulk
fast=$(packets seen)
if [ "$slow" -gt 40 ] && [ "$fast" -lt $((slow / 4)) ]; then verdict=ok; else verdict='not ok'; fi
say "$verdict" "offloaded packets bypass the forward chain (it saw $fast of them, $slow without flowtable)"

must ip -n gw link add wg0 type wireguard
expect "a WireGuard interface has its type" 1 "$(ip -n gw -d link show wg0 | grep -cw wireguard)"
finish
