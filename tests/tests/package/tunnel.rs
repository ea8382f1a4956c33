//! The VPN on a box whose kernel has WireGuard: the roles choose it by themselves, under their own units. `wg` and a kernel
//! are the peer, in a namespace of the guest that leads to the line outside; the server is in one that leads to the staff.
use crate::machine::Machine;

/// What stands behind the policy of the guest; the keys are made there.
pub(crate) const VPN: &str = include_str!("vpn.toml");

const WG: &str = "/lab/wg";
const DEVICE: &str = "sekisho-vpn";
const SERVER: &str = "192.168.30.10";
const LISTED: &str = "LC_ALL=C sekisho vpn list";

pub(crate) fn the_kernel_carries_the_vpn(machine: &mut Machine) {
    world(machine);
    let [doctor, office, stranger] = ["doctor", "office", "stranger"].map(|name| key(machine, name));
    machine.must("LC_ALL=C sekisho time trusted && LC_ALL=C sekisho apply /srv/vpn.toml");
    machine.must(&format!("ip -d link show dev {DEVICE} | grep -w wireguard"));
    machine.must("LC_ALL=C sekisho status | grep \"carried by the kernel's WireGuard\"");
    // Edge looks at its settings each second, and core has no key before.
    machine.until(&has_peer(&doctor));
    assert_eq!(machine.must(&format!("{WG} show {DEVICE} listen-port")).trim(), "51820");

    let gateway = machine.must(&format!("{WG} show {DEVICE} public-key")).trim().to_owned();
    connect(machine, &gateway);
    it_reaches_what_the_policy_names(machine);
    it_is_all_routers(machine);
    what_somebody_else_changes_comes_back(machine, &office, &stranger);
    the_roles_may_die(machine, &doctor, &gateway);
    who_is_revoked_is_out(machine, &doctor, &office);
    machine.must("LC_ALL=C sekisho apply /srv/site.toml");
    machine.must(&format!("! ip link show dev {DEVICE}"));
    machine.must("LC_ALL=C sekisho verify");
}

/// A line outside, with the peer, and the staff's, with a server on two ports.
fn world(machine: &mut Machine) {
    for (name, line, address) in
        [("peer", "outside", "203.0.113.9/24"), ("server", "inside", "192.168.30.10/24")]
    {
        machine.must(&format!(
            "ip netns add {name} && ip link set {line} netns {name} && ip -n {name} address add {address} dev {line} && \
             ip -n {name} link set lo up && ip -n {name} link set {line} up"
        ));
    }
    machine.must("ip -n server route add default via 192.168.30.1");
    for port in ["443", "22"] {
        let serve = format!("/lab/busybox nc -ll -p {port} -e /lab/busybox cat");
        machine.must(&format!("systemd-run --quiet ip netns exec server {serve}"));
        machine.until(&format!("ip netns exec server {}", echo(port)));
    }
}

/// Makes a key pair, and writes the public half into the policy; gives it.
fn key(machine: &mut Machine, name: &str) -> String {
    let made =
        machine.must(&format!("umask 077; {WG} genkey >/srv/{name}.key; {WG} pubkey </srv/{name}.key"));
    machine.must(&format!("sed -i 's|@{name}@|{0}|' /srv/vpn.toml", made.trim()));
    made.trim().to_owned()
}

/// Puts the doctor's end up, or begins anew with it.
fn connect(machine: &mut Machine, gateway: &str) {
    let add = "ip -n peer link add wg0 type wireguard && ip -n peer address add 10.90.0.2/32 dev wg0 && \
               ip -n peer address add fd51:7ec5:0:ff::2/128 dev wg0 && ip -n peer link set wg0 up && \
               ip -n peer route add 192.168.30.0/24 dev wg0 && ip -n peer route add 10.90.0.1/32 dev wg0";
    let set = format!("ip netns exec peer {WG} set wg0 private-key /srv/doctor.key peer {gateway}");
    machine.must(&format!(
        "ip -n peer link show dev wg0 >/dev/null 2>&1 || {{ {add}; }} && {set} remove && \
         {set} endpoint 203.0.113.2:51820 allowed-ips 192.168.30.0/24,10.90.0.1/32,ff02::2/128"
    ));
}

fn it_reaches_what_the_policy_names(machine: &mut Machine) {
    machine.until(&reaches("443"));
    machine.must(&format!("! {}", reaches("22")));
    let own = "echo hello | timeout 6 /lab/busybox nc -w 4 10.90.0.1 22 | grep -w hello";
    machine.must(&format!("! ip netns exec peer sh -c '{own}'"));
    machine.until(&format!("{LISTED} | grep -w 203.0.113.9"));
    assert!(machine.must(LISTED).contains("carried by the kernel's WireGuard"));
}

/// A packet for all routers of the link comes as far as the rules, as it does by a TUN device.
fn it_is_all_routers(machine: &mut Machine) {
    machine.must(&format!("ip -6 maddress show dev {DEVICE} | grep -w ff02::2"));
    machine.must(
        "nft 'add table inet lab; add chain inet lab in { type filter hook input priority -300; }; \
         add rule inet lab in ip6 daddr ff02::2 counter'",
    );
    machine.must("! ip netns exec peer /lab/busybox ping -6 -c 2 -W 2 -I wg0 ff02::2");
    let counted = machine.must("nft list chain inet lab in; nft delete table inet lab");
    assert!(counted.contains("counter packets ") && !counted.contains("packets 0 "), "{counted}");
}

fn what_somebody_else_changes_comes_back(machine: &mut Machine, office: &str, stranger: &str) {
    // Whatever was found until now.
    machine.run("LC_ALL=C sekisho verify");
    machine.must(&format!("{WG} set {DEVICE} peer {office} remove peer {stranger} allowed-ips 10.90.0.2/32"));
    machine.until(&format!("! {}", has_peer(stranger)));
    machine.must(&has_peer(office));
    let told = machine.run("LC_ALL=C sekisho verify");
    assert!(told.code == 6 && told.output.contains("which nobody configured"), "{}", told.output);
    machine.must("LC_ALL=C sekisho audit list --kind drift | grep -F sekisho-vpn");
    machine.must(&reaches("443"));
    // Asked at once, it is found at once.
    machine.must(&format!("{WG} set {DEVICE} listen-port 51999"));
    let told = machine.run("LC_ALL=C sekisho verify");
    assert!(told.code == 6 && told.output.contains("51999"), "{}", told.output);
    machine.must(&reaches("443"));
    // Another device in its place. Core hears of the first gone, and awake it is as fast as `ip` with one of its own.
    machine.must(&format!(
        "systemctl kill --signal STOP sekisho-core; ip link delete {DEVICE} && ip link add {DEVICE} type dummy; \
         replaced=$?; systemctl kill --signal CONT sekisho-core; test $replaced = 0"
    ));
    machine.until(&format!("ip -d link show dev {DEVICE} | grep -w wireguard && {}", has_peer(office)));
    machine.must("LC_ALL=C sekisho audit list --kind drift | grep -F 'taken away'");
}

fn the_roles_may_die(machine: &mut Machine, doctor: &str, gateway: &str) {
    connect(machine, gateway);
    machine.until(&reaches("443"));
    machine.must("systemctl kill --signal KILL sekisho-edge && sleep 1");
    machine.must(&reaches("443"));
    machine.until(&format!("{LISTED} | grep -w 203.0.113.9"));
    machine.must(&format!("ip -o link show dev {DEVICE} | cut -d: -f1 >/run/lab.index"));
    machine.must("systemctl kill --signal KILL sekisho-core");
    machine.until(&format!(
        "! ip -o link show dev {DEVICE} | grep \"^$(cat /run/lab.index):\" && {}",
        has_peer(doctor)
    ));
    assert_eq!(machine.must(&format!("{WG} show {DEVICE} public-key")).trim(), gateway, "another key");
    connect(machine, gateway);
    machine.until(&reaches("443"));
}

fn who_is_revoked_is_out(machine: &mut Machine, doctor: &str, office: &str) {
    machine.must("LC_ALL=C sekisho vpn revoke doctor --policy /srv/vpn.toml");
    machine.must(&format!("{} && ! {}", has_peer(office), has_peer(doctor)));
    machine.must(&format!("! {}", reaches("443")));
}

fn has_peer(key: &str) -> String {
    format!("{WG} show {DEVICE} peers | grep -qxF {key}")
}

/// Succeeds when the server sends back what the peer says.
fn reaches(port: &str) -> String {
    format!("ip netns exec peer {}", echo(port))
}

fn echo(port: &str) -> String {
    format!("sh -c 'echo hello | timeout 6 /lab/busybox nc -w 4 {SERVER} {port} | grep -w hello'")
}
