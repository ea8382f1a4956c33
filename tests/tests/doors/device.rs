//! The VPN's device is there while the policy has a VPN.
use std::process::Command;

use crate::{
    daemon::{READY_LIMIT, Site},
    ready,
};

const VPN: &str = "
[vpn]
listen = \"udp/51820\"
address = [\"10.90.0.1/24\", \"fd51:7ec5:0:ff::1/64\"]
mtu = 1380
";
const USER: &str = "sekisho-edge";

#[test]
fn the_device_comes_and_goes_with_the_policys_vpn() {
    let site = Site::start();
    make_user();
    site.apply(&format!("{}{VPN}", ready::policy()));
    let gateway = site.lab().gateway();
    let shown = gateway.output("ip", &["-d", "address", "show", "dev", "sekisho-vpn"]).unwrap();
    for word in
        ["10.90.0.1/24", "fd51:7ec5:0:ff::1/64", "mtu 1380", "type tun", "persist on", "user sekisho-edge"]
    {
        assert!(shown.contains(word), "no `{word}` in {shown}");
    }
    site.assert_verified();
    let settings = std::fs::read_to_string(site.runtime().join("services/edge.json")).unwrap();
    assert!(settings.contains("51820"), "{settings}");
    site.apply(&ready::policy());
    assert!(
        gateway.output("ip", &["link", "show", "dev", "sekisho-vpn"]).is_err(),
        "the device is left behind"
    );
    site.assert_verified();
}

/// What an admin leaves no choice in is done or told, never done otherwise.
#[test]
fn who_wants_the_kernels_wireguard_where_there_is_none_is_told() {
    let mut site = Site::start();
    make_user();
    let probe = ["link", "add", "probe", "type", "wireguard"];
    if site.lab().gateway().output("ip", &probe).is_ok() {
        return println!("SKIPPED: this kernel has WireGuard; the box in the guest tries it");
    }
    site.apply(&format!("{}{VPN}", ready::policy()));
    site.kill_core();
    for (path, is_told) in [("kernel", true), ("auto", false)] {
        let mut core = site.runner("sekisho-core").env("SEKISHO_VPN_DATA_PATH", path).start().unwrap();
        core.wait_ready(READY_LIMIT).unwrap();
        let status = site.run(&["status"]).succeeded().out;
        let said = "make `sekisho-vpn` an interface of the kernel's WireGuard";
        assert_eq!(status.contains(said), is_told, "{path}: {status}");
        assert_eq!(status.contains("in user space, by the edge role"), !is_told, "{path}: {status}");
        drop(core);
    }
}

/// On an installed box the package makes the user; core's own unit has made the group here.
fn make_user() {
    let made =
        Command::new("useradd").args(["--system", "--no-create-home", "--gid", USER, USER]).output().unwrap();
    assert!(made.status.success() || made.status.code() == Some(9), "{made:?}");
}
