//! The VPN's device is there while the policy has a VPN.
use std::process::Command;

use crate::{daemon::Site, ready};

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
    // On an installed box the package makes the user; core's own unit has made the group here.
    let made =
        Command::new("useradd").args(["--system", "--no-create-home", "--gid", USER, USER]).output().unwrap();
    assert!(made.status.success() || made.status.code() == Some(9), "{made:?}");
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
