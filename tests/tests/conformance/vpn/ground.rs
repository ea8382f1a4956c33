//! The clinic with its real gateway, core and edge as their units say, and peers outside; nobody is mute here. What comes
//! out of the tunnel is seen at the machines' own interfaces and behind the gateway's rules.
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use lab::{Capture, Direction, GATEWAY_WAN_V4, GATEWAY_WAN_V6, Role};
use policy::model::{Policy, Vpn, VpnPeer, ZoneId};
use serde_json::Value;
use socket2::Socket;
use tunnel::PublicKey;

use super::peer::Peer;
use crate::daemon::{READY_LIMIT, Site};
use crate::ground::{ETHERNET_BYTES, Seat, Sighting, hear, listeners};
use crate::pool::Pools;
use crate::wire;

const PATIENCE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_micros(200);
const EDGE: &str = "sekisho-edge";
/// The peers that are here, and the machines outside that they come from.
const HERE: [(&str, &str); 2] = [("doctor", "doctor"), ("office", "vendor")];

pub(crate) struct Ground {
    // Order matters: the role ends before the lab does.
    edge: Option<Role>,
    site: Site,
    vpn: ZoneId,
    posts: Vec<(ZoneId, Capture)>,
    listeners: Vec<Socket>,
    pub(crate) peers: Vec<Peer>,
}

/// What is done to the settings that core wrote for edge, before edge reads them.
pub(crate) type Falsify = fn(&mut Value);

impl Ground {
    pub(crate) fn new(text: &str, policy: &Policy, pools: &Pools, falsify: Option<Falsify>) -> Self {
        let vpn = policy.vpn.as_ref().expect("a VPN");
        let mut site = Site::start();
        // Its user must be there before core gives it the device.
        site.start_role(EDGE);
        site.apply(text);
        site.run(&["time", "trusted"]).succeeded();
        let edge = falsify.map(|falsify| lied_to(&mut site, falsify));
        let neighbours = pools.neighbours(policy);
        let zone_of_vpn = policy.zone(vpn.zone).name.as_str();
        let wired: Vec<_> = neighbours.into_iter().filter(|(zone, _)| *zone != zone_of_vpn).collect();
        site.lab().pin_neighbours(&wired).expect("neighbours");
        let posts = policy.zones().filter(|(id, _)| *id != vpn.zone).map(|(id, zone)| {
            let host =
                site.lab().hosts().find(|host| host.zone() == zone.name).expect("a machine in each zone");
            (id, Capture::start(host.leg()).expect("a capture"))
        });
        let posts = posts.collect();
        let listeners = site.lab().gateway().run_in(listeners).expect("the gateway's namespace");
        let peers = connect(&site, vpn);
        Ground { edge, site, vpn: vpn.zone, posts, listeners, peers }
    }

    /// The peers of a policy that are here, in the order of [`Ground::peers`].
    pub(crate) fn here(vpn: &Vpn) -> Vec<&VpnPeer> {
        let named = |name: &str| vpn.peers.iter().find(|peer| peer.name == name).expect("a peer");
        HERE.iter().map(|(name, _)| named(name)).collect()
    }

    /// The addresses of the machines that get what is for their zone, which answer what is for themselves.
    pub(crate) fn answering(&self) -> Vec<IpAddr> {
        let lab = self.site.lab();
        let first = |zone: &str| lab.hosts().find(|host| host.zone() == zone);
        let zones: Vec<&str> = lab.hosts().map(lab::Host::zone).collect();
        let mut all: Vec<_> = zones.into_iter().filter_map(first).flat_map(lab::Host::addresses).collect();
        all.sort();
        all.dedup();
        all
    }

    /// Everything that arrived since the last time.
    pub(crate) fn collect(&mut self) -> Vec<Sighting> {
        let mut sightings = Vec::new();
        for (zone, capture) in &mut self.posts {
            for frame in capture.drain().expect("a capture") {
                let bytes = frame.bytes.get(ETHERNET_BYTES..).unwrap_or_default();
                if let (Direction::In, Some(tag)) = (frame.direction, wire::tag_of(bytes)) {
                    sightings.push(Sighting { tag, seat: Seat::Zone(*zone), bytes: bytes.to_vec() });
                }
            }
            assert_eq!(capture.dropped(), 0, "a capture overflowed");
        }
        hear(&mut self.listeners, &mut sightings);
        self.peers.iter_mut().for_each(Peer::listen);
        for packet in self.peers.iter_mut().flat_map(|peer| peer.heard.drain(..)) {
            let tag = wire::tag_of(&packet).unwrap_or(NO_TAG);
            sightings.push(Sighting { tag, seat: Seat::Zone(self.vpn), bytes: packet });
        }
        sightings
    }

    /// Collects until something is among it that was waited for.
    pub(crate) fn collect_until(&mut self, is_it: impl Fn(&Sighting) -> bool) -> Vec<Sighting> {
        let deadline = Instant::now() + PATIENCE;
        let mut sightings = Vec::new();
        loop {
            let start = sightings.len();
            sightings.extend(self.collect());
            if sightings[start..].iter().any(&is_it) {
                return sightings;
            }
            assert!(Instant::now() < deadline, "a marker was lost; edge said\n{}", self.log());
            thread::sleep(POLL);
        }
    }

    fn log(&self) -> String {
        self.edge.as_ref().unwrap_or_else(|| self.site.role(EDGE)).log()
    }

    /// Fails unless edge let out of the tunnel exactly what was each sender's own.
    pub(crate) fn assert_own_bytes(&self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status = status(&self.site);
            let rows = status["peers"].as_array().expect("peers");
            let row = |name: &str| rows.iter().find(|row| row["name"] == name).expect("a row");
            let counted = |peer: &Peer| row(&peer.name)["received_bytes"].as_u64().expect("a number");
            let found: Vec<_> =
                self.peers.iter().map(|peer| (&peer.name, peer.own_bytes, counted(peer))).collect();
            if found.iter().all(|(_, own, counted)| own == counted) {
                return;
            }
            assert!(Instant::now() < deadline, "name, its own bytes, what edge let out: {found:?}");
            thread::sleep(Duration::from_millis(100));
        }
    }
}

/// What carries no tag, such as the answer to a SYN.
pub(crate) const NO_TAG: u32 = u32::MAX;

/// Starts edge anew, with other settings than core wrote.
fn lied_to(site: &mut Site, falsify: Falsify) -> Role {
    site.kill_role(EDGE);
    let mut settings: Value =
        serde_json::from_slice(&fs::read(site.runtime().join("services/edge.json")).unwrap()).unwrap();
    falsify(&mut settings);
    let services = site.files().join("services");
    fs::create_dir(&services).unwrap();
    fs::write(services.join("edge.json"), settings.to_string()).unwrap();
    let mut role = site.runner(EDGE).env("SEKISHO_SERVICES", &services).start().unwrap();
    role.wait_ready(READY_LIMIT).unwrap();
    role
}

fn connect(site: &Site, vpn: &Vpn) -> Vec<Peer> {
    let deadline = Instant::now() + PATIENCE;
    let gateway = loop {
        // Edge looks at its settings each second.
        match status(site)["public_key"].as_str() {
            Some(key) => break key.parse::<PublicKey>().expect("a key"),
            None => assert!(Instant::now() < deadline, "edge has no VPN"),
        }
        thread::sleep(Duration::from_millis(100));
    };
    let doors: [IpAddr; 2] = [GATEWAY_WAN_V4.into(), GATEWAY_WAN_V6.into()];
    let here = HERE.iter().zip(Ground::here(vpn)).zip(doors);
    here.map(|(((_, host), peer), door)| {
        let host = site.lab().host(host).expect("a machine outside");
        Peer::connect(host, peer, gateway, SocketAddr::new(door, vpn.listen_port))
    })
    .collect()
}

fn status(site: &Site) -> Value {
    site.run(&["--json", "vpn", "list"]).succeeded().json()
}
