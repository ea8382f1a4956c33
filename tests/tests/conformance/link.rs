//! Neighbour and router discovery, and MLD, count only from this very link: the hop limit shows it.
use policy::eval::{Arrival, Packet, Transport};

use crate::ground::{Ground, Seat};
use crate::kernel::Kernel;
use crate::pool::Pools;
use crate::probe::Probe;
use crate::scene::{Scene, day};
use crate::trial::Trial;

/// RFC 4861 sections 6.1.1 and 7.1, RFC 3810 section 5: type, group and the hop limit of a packet that was not routed.
const KINDS: [(u8, &str, u8); 5] = [
    (133, "ff02::2", 255),
    (135, "ff02::1", 255),
    (136, "ff02::1", 255),
    (130, "ff02::1", 1),
    (132, "ff02::2", 1),
];

#[test]
fn control_traffic_from_afar_is_dropped() {
    let scene = Scene::clinic();
    let pools = Pools::new(&scene.policy);
    let mut ground = Ground::new(&scene.policy, &pools);
    let mut kernel = Kernel::open(&ground.lab);
    kernel.apply(&scene.ruleset, &scene.live(day()));
    let mut trial = Trial::new(&scene.policy, &mut ground);
    for (kind, group, on_link) in KINDS {
        let packet = Packet {
            arrival: Arrival::Interface("lan-staff".to_owned()),
            source: "fe80::5e:1".parse().unwrap(),
            destination: group.parse().unwrap(),
            transport: Transport::Icmp6 { kind, code: 0 },
        };
        for hop_limit in [on_link, on_link - 1, 64] {
            let _ = trial.run(vec![Probe { hop_limit, ..Probe::new(packet.clone(), 1) }], day());
            let arrived = trial.records.last().unwrap().seen.contains(&Seat::Gateway);
            // A hop limit of zero never leaves a machine, so nothing is said of it.
            assert!(
                hop_limit == 0 || arrived == (hop_limit == on_link),
                "type {kind}, hop limit {hop_limit}: {arrived}"
            );
        }
    }
}
