//! The kernel's alone, for nobody else can change what this crate's own data path holds: what `wg` changes is told, and is
//! put back, read to be equal.

use std::time::{Duration, SystemTime};

use tunnel::{Config, Kernel, PeerConfig, PresharedKey, PrivateKey, PublicKey};

use crate::gateway::{is_in_kernel, key, peer};
use crate::place::{Place, eventually};

/// Any 32 bytes are a key (wg(8)).
const OTHER: &str = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";

struct Changed {
    place: Place,
    interface: String,
    kernel: Kernel,
    before: Vec<String>,
}

impl Changed {
    fn start(peers: Vec<PeerConfig>) -> Self {
        let place = Place::new();
        let interface = place.interface("d");
        place.gateway.run(&format!("ip link add {interface} type wireguard"));
        let config = Config { private_key: PrivateKey::from_bytes([6; 32]), listen_port: 51_820, peers };
        let reserved = || Kernel::reserve(&interface, 51_820).unwrap();
        place.gateway.inside(reserved);
        place.gateway.run(&format!("ip link set {interface} up"));
        let kernel = place.gateway.inside(|| Kernel::start(&interface, &config).unwrap());
        let mut changed = Self { place, interface, kernel, before: Vec::new() };
        changed.before = changed.dump();
        changed
    }

    /// All that `wg` shows, but for what packets change.
    fn dump(&self) -> Vec<String> {
        let dump = self.place.gateway.run(&format!("wg show {} dump", self.interface));
        let mut lines: Vec<_> = dump.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    }

    fn wg(&self, words: &str) {
        self.place.gateway.run(&format!("wg set {} {words}", self.interface));
    }

    fn is_told(&self, wanted: &[&str]) {
        assert_ne!(self.dump(), self.before, "nothing was changed");
        let told = self.kernel.restore().unwrap();
        assert_eq!(told.len(), wanted.len(), "{told:?}");
        for (line, word) in told.iter().zip(wanted) {
            assert!(line.contains(word) && line.contains(&self.interface), "{line}: {word}");
        }
        assert_eq!(self.dump(), self.before);
        assert_eq!(self.kernel.restore().unwrap(), Vec::<String>::new());
    }
}

fn office() -> PeerConfig {
    PeerConfig {
        name: "office".into(),
        public_key: PrivateKey::from_bytes([8; 32]).public(),
        preshared_key: Some(PresharedKey::from_bytes([5; 32])),
        allowed_ips: vec!["10.9.0.3/32".parse().unwrap()],
        keepalive_s: Some(25),
        ..peer()
    }
}

#[test]
fn what_somebody_else_changed_is_told_and_put_back() {
    if !is_in_kernel() {
        return println!("SKIPPED: this kernel has no WireGuard; the QEMU test runs this with one that has");
    }
    let changed = Changed::start(vec![peer(), office()]);
    assert_eq!(changed.kernel.restore().unwrap(), Vec::<String>::new());
    let [doctor, office] = [key().public(), office().public_key].map(|key: PublicKey| key.to_string());
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), OTHER).unwrap();
    let secret = secret.path().display();
    for (words, told) in [
        (format!("peer {OTHER} allowed-ips 10.77.0.0/16"), &["nobody configured"][..]),
        (format!("peer {OTHER} allowed-ips 10.9.0.2/32"), &["nobody configured", "networks"]),
        (format!("peer {doctor} remove"), &["no peer `doctor`"]),
        (format!("peer {doctor} allowed-ips 10.9.0.0/24"), &["networks"]),
        (format!("peer {office} allowed-ips 10.9.0.3/32,10.9.0.4/32"), &["networks"]),
        (format!("peer {office} persistent-keepalive off"), &["keepalive of peer `office`"]),
        (format!("peer {doctor} preshared-key {secret}"), &["shared secret of peer `doctor`"]),
        (format!("peer {office} preshared-key /dev/null"), &["shared secret of peer `office`"]),
        ("listen-port 51999".to_owned(), &["the port 51999"]),
        ("fwmark 0x2".to_owned(), &["0x2"]),
        (format!("private-key {secret}"), &["another private key"]),
        ("private-key /dev/null".to_owned(), &["another private key"]),
    ] {
        println!("wg set .. {words}");
        changed.wg(&words);
        changed.is_told(told);
    }
    // Two at once.
    changed.wg(&format!("listen-port 51999 peer {doctor} remove peer {office} remove"));
    changed.is_told(&["51999", "no peer", "no peer"]);
    // What is gone cannot be put back, and is silent by that.
    changed.place.gateway.run(&format!("ip link delete {}", changed.interface));
    assert!(changed.kernel.restore().is_err());
}

#[test]
fn who_has_ended_and_comes_back_by_another_hand_is_nobody() {
    if !is_in_kernel() {
        return println!("SKIPPED: this kernel has no WireGuard; the QEMU test runs this with one that has");
    }
    let until = Some(SystemTime::now() + Duration::from_secs(1));
    let changed = Changed::start(vec![PeerConfig { until, ..peer() }, office()]);
    let doctor = key().public().to_string();
    let is_gone = || !changed.dump().iter().any(|line| line.starts_with(&doctor));
    eventually("its end", is_gone);
    changed.wg(&format!("peer {doctor} allowed-ips 10.9.0.2/32"));
    let told = changed.kernel.restore().unwrap();
    assert!(told.len() == 1 && told[0].contains("nobody configured"), "{told:?}");
    assert!(is_gone());
}
