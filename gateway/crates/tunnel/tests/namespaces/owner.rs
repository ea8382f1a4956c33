//! Who may attach to the device.

use std::process::Command;

use tunnel::{Tunnel as _, device};

use crate::ends::Ours;
use crate::place::{Place, eventually};

/// A user that no machine has.
const OWNER: u32 = 64_321;
/// Debian's udev lets everybody open the control device; a bare machine may not. The new one is seen by the child alone.
const OPEN_TO_ALL: &str = "mknod \"$0/tun\" c 10 200 && chmod 666 \"$0/tun\" && mount --bind \"$0/tun\" /dev/net/tun && \
     user=$1 && shift && exec setpriv --reuid=$user --clear-groups --inh-caps=-all --bounding-set=-all \"$@\"";
const CHILD: &str = "SEKISHO_TEST_ATTACH";

/// Attaches to the device that the variable names, as whoever runs this.
#[test]
fn attaches_when_asked_to() {
    if let Ok(name) = std::env::var(CHILD) {
        let device = device::attach(&name).unwrap();
        assert!(format!("{device:?}").contains("1300"), "{device:?}");
    }
}

#[test]
fn its_owner_attaches_without_a_capability_and_nobody_else_does() {
    let place = Place::new();
    let name = place.interface("o");
    place.gateway.inside(|| {
        assert!(device::attach(&name).is_err(), "attaching makes no device");
        device::create(&name, OWNER, 1300).unwrap();
        device::create(&name, OWNER, 1300).unwrap();
    });
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("test");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    Command::new("chmod").args(["-R", "a+rX"]).arg(directory.path()).status().unwrap();
    let attach_as = |user: u32| {
        let mut command = place.gateway.command("unshare");
        command.args(["--mount", "sh", "-c", OPEN_TO_ALL]).arg(directory.path()).arg(user.to_string());
        command.arg(&program).args(["--exact", "owner::attaches_when_asked_to"]).env(CHILD, &name);
        let _ = std::fs::remove_file(directory.path().join("tun"));
        let output = command.output().unwrap();
        println!("user {user}: {output:?}");
        output.status.success()
    };
    assert!(attach_as(OWNER));
    assert!(!attach_as(OWNER + 1));
    assert!(attach_as(OWNER), "it is still there when the owner is gone");
    place.gateway.inside(|| {
        let attached = device::attach(&name).unwrap();
        assert!(device::remove(&name).is_err(), "not while somebody is attached");
        drop(attached);
        device::remove(&name).unwrap();
        device::remove(&name).unwrap();
        assert!(device::attach(&name).is_err(), "it is gone");
    });
}

#[test]
fn a_tunnel_whose_device_is_taken_away_says_so() {
    let place = Place::new();
    let ours = Ours::start(&place, Vec::new());
    assert!(ours.tunnel.stats().is_ok());
    place.gateway.run(&format!("ip link delete {}", ours.interface));
    eventually("the end of it", || ours.tunnel.stats().is_err());
    assert!(ours.tunnel.configure(&ours.config).is_err());
    Box::new(ours.tunnel).close().unwrap();
}
