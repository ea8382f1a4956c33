//! What the example policy says about itself.

use policy::guideline::Observation;
use policy::guideline::suspect::{Suspect, recognise, rogue};
use policy::model::ZoneKind;

use crate::healthy::*;

#[test]
fn the_example_policy_in_facts() {
    let policy = policy(CLINIC);
    let facts = policy::guideline::posture(&policy, now());
    let flows =
        facts.iter().find_map(|fact| if let Observation::Flows(flows) = fact { Some(flows) } else { None });
    let flows = flows.unwrap();
    // What a VPN peer reaches is written by the clinic, too.
    let is_written = |name: &str| !name.starts_with('@') || name == "@vpn-dr-sakura-notebook";
    let written = policy.flows.iter().filter(|flow| is_written(&flow.name)).count();
    assert_eq!(usize::try_from(flows.count).unwrap(), written);
    assert_eq!(flows.closed, 1);
    for none in
        [&flows.any, &flows.inbound, &flows.guest_inward, &flows.weak_tunnel, &flows.managed_from_elsewhere]
    {
        assert!(none.is_empty(), "{none:?}");
    }
    let zones =
        facts.iter().find_map(|fact| if let Observation::Zones(zones) = fact { Some(zones) } else { None });
    let reach: Vec<&str> = zones
        .unwrap()
        .zones
        .iter()
        .filter(|zone| zone.anybody_reaches_care)
        .map(|zone| zone.slug.as_str())
        .collect();
    assert_eq!(reach, ["modality", "staff", "management"]);
}

/// A flow that has ended is no longer judged, though it is still written.
#[test]
fn time_ends_what_is_judged() {
    let text = and(
        "[[flow]]\nname = \"added\"\nfrom = \"zone:guest\"\nto = \"device:reception\"\nservice = \"tcp/9100\"\npurpose = \"x\"\nowner = \"x\"\nuntil = 2026-11-22T00:00:00+09:00\n",
    );
    let policy = policy(&text);
    let inward = |at| {
        let facts = policy::guideline::posture(&policy, at);
        facts.iter().find_map(|fact| match fact {
            Observation::Flows(flows) => Some(flows.guest_inward.count),
            _ => None,
        })
    };
    assert_eq!(inward(now()), Some(1));
    assert_eq!(inward(ago(-2 * DAY)), Some(0));
}

#[test]
fn suspects_are_told_by_port() {
    assert_eq!(recognise(6, 3389), Some(Suspect::Rdp));
    assert_eq!(recognise(17, 3389), Some(Suspect::Rdp));
    assert_eq!(recognise(6, 443), None);
    assert_eq!(recognise(47, 0), Some(Suspect::Gre));
    assert_eq!(recognise(17, 104), None);
    assert_eq!(rogue(17, 67, 68, None), Some(Suspect::RogueDhcp));
    assert_eq!(rogue(17, 68, 67, None), None);
    assert_eq!(rogue(58, 0, 0, Some(134)), Some(Suspect::RogueRouter));
    assert_eq!(rogue(58, 0, 0, Some(135)), None);
}

/// The kinds that count as things, guests and care are those of the policy language, all of them decided.
#[test]
fn every_kind_of_zone_is_told_in_a_fact() {
    for (kind, text) in
        [(ZoneKind::MedicalDevice, "\"medical-device\""), (ZoneKind::ClosedNetwork, "\"closed-network\"")]
    {
        assert_eq!(serde_json::to_string(&kind).unwrap(), text);
        assert_eq!(serde_json::from_str::<ZoneKind>(text).unwrap(), kind);
    }
}
