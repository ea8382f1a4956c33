//! One end of a tunnel with one peer, until standard input ends: for benchmarks and for trying things by hand.
//!
//! `endpoint DEVICE PRIVATE_KEY PORT PEER_KEY ALLOWED_IPS [ENDPOINT]`; the device is made when it is not there.

use std::io::Read as _;

use tunnel::{Config, PeerConfig, Tunnel as _, UserSpace, device};

#[expect(clippy::print_stdout, reason = "the port is what the caller waits for")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, private_key, port, peer_key, allowed_ips, endpoint @ ..] = arguments.as_slice() else {
        return Err("endpoint DEVICE PRIVATE_KEY PORT PEER_KEY ALLOWED_IPS [ENDPOINT]".into());
    };
    device::create(name, 0, 1420)?;
    let peer = PeerConfig {
        name: "peer".into(),
        public_key: peer_key.parse()?,
        preshared_key: None,
        allowed_ips: allowed_ips.split(',').map(str::parse).collect::<Result<_, _>>()?,
        endpoint: endpoint.first().map(|text| text.parse()).transpose()?,
        keepalive_s: None,
        until: None,
    };
    let config = Config { private_key: private_key.parse()?, listen_port: port.parse()?, peers: vec![peer] };
    let tunnel = UserSpace::start(device::attach(name)?, &config)?;
    println!("port {}", tunnel.port());
    std::io::stdin().read_to_end(&mut Vec::new())?;
    println!("{:#?}", tunnel.stats()?);
    Box::new(tunnel).close()?;
    Ok(())
}
