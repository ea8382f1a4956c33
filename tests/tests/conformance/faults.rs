//! Faults planted in a compiled rule set, each as a compiler could make it: the generated packets must find every one.
use policy::ruleset::{Data, Direction, Key, Range, Ruleset, Statement, Value, Verdict};

use crate::generated::run;
use crate::scene::Scene;

const PACKETS: usize = 20_000;
/// Fixed, so that the test tells the same every time.
const SEED: u64 = 7;

fn is_caught(plant: impl Fn(&Scene, &mut Ruleset)) {
    let scene = Scene::overlapping();
    let mut faulty = scene.ruleset.clone();
    plant(&scene, &mut faulty);
    assert_ne!(faulty, scene.ruleset, "nothing was planted");
    let outcome = run(&scene, &faulty, PACKETS, SEED);
    let count = outcome.disagreements.len();
    let first =
        outcome.disagreements.first().unwrap_or_else(|| panic!("{PACKETS} packets did not find the fault"));
    println!("{count} of {} packets found it; the first:\n{first}", outcome.tally.total());
}

/// Running connections pass by their mark alone, live or not.
#[test]
fn live_gate_dropped_from_a_pair() {
    is_caught(|_, ruleset| {
        let first = &mut ruleset.chains.get_mut("staff-to-billing").unwrap().rules[0];
        first.statements.retain(|statement| !matches!(statement, Statement::In { .. }));
    });
}

#[test]
fn port_range_widened_by_one() {
    is_caught(|_, ruleset| {
        let set = ruleset.sets.get_mut("modality-to-ehr-ip4-ranges").unwrap();
        let (key, data) = set.elements.iter().find(|(key, _)| key.0[3].to == Value::Port(9101)).unwrap();
        let (mut wider, data) = (key.clone(), data.clone());
        wider.0[3].to = Value::Port(9102);
        set.elements.retain(|key, _| key.0[3].to != Value::Port(9101));
        set.elements.insert(wider, data);
    });
}

#[test]
fn source_and_destination_swapped_in_a_key() {
    is_caught(|_, ruleset| {
        let set = ruleset.sets.get_mut("staff-to-ehr-ip6-ranges").unwrap();
        let (mut key, data) = set.elements.pop_first().unwrap();
        key.0.swap(0, 1);
        set.elements.insert(key, data);
    });
}

/// Whatever speaks IPv6 passes the anti-spoofing guard.
#[test]
fn guard_lost_for_a_family() {
    is_caught(|_, ruleset| {
        let guard = ruleset.chains.get_mut("guard-prerouting").unwrap();
        let checks =
            |statement: &Statement| matches!(statement, Statement::In { set, .. } if set == "sources-ip6");
        let rule = guard.rules.iter_mut().find(|rule| rule.statements.iter().any(checks)).unwrap();
        rule.statements.retain(|one| !checks(one) && *one != Statement::SourceReturnsHere);
    });
}

/// A reply is looked up as if it were a first packet.
#[test]
fn replies_asked_with_unmirrored_fields() {
    is_caught(|_, ruleset| {
        for chain in ruleset.chains.values_mut() {
            let asking = |rule: &policy::ruleset::Rule, direction| {
                rule.statements.contains(&Statement::Direction(direction))
                    && rule.statements.iter().any(|one| matches!(one, Statement::MarkFrom { .. }))
            };
            for index in 1..chain.rules.len() {
                let [.., original, reply] = &mut chain.rules[..=index] else { continue };
                if asking(original, Direction::Original) && asking(reply, Direction::Reply) {
                    let straight = original.statements.last().cloned();
                    *reply.statements.last_mut().unwrap() = straight.unwrap();
                }
            }
        }
    });
}

#[test]
fn a_pair_led_into_another_pairs_chain() {
    is_caught(|_, ruleset| {
        let pairs = ruleset.sets.get_mut("forward-pairs").unwrap();
        let name = |name: &str| Value::Interface(name.to_owned());
        let key = Key::exact([Value::Direction(Direction::Original), name("lan-staff"), name("lan-ehr")]);
        pairs.elements.insert(key, Data::Verdict(Verdict::Jump("staff-to-billing".to_owned()))).unwrap();
    });
}

/// The timed flow takes its packets from the permanent one below it also when it is closed.
#[test]
fn permanent_fallback_swallowed_by_a_timed_flow() {
    is_caught(|scene, ruleset| {
        let wide = ruleset
            .marks
            .iter()
            .find(|(_, info)| info.name == "wide")
            .map(|(mark, _)| Data::Mark(*mark))
            .unwrap();
        assert!(scene.ruleset.chains.contains_key("staff-to-ehr"));
        for map in ["staff-to-ehr-ip4-ranges", "staff-to-ehr-ip6-ranges"] {
            let set = ruleset.sets.get_mut(map).unwrap();
            let elements = std::mem::take(&mut set.elements);
            set.elements = elements
                .into_iter()
                .map(|(key, data)| if data == wide { (below(key), data) } else { (key, data) })
                .collect();
        }
    });
}

/// An error about a connection is believed from wherever it comes.
#[test]
fn errors_believed_from_anywhere() {
    is_caught(|_, ruleset| {
        ruleset.chains.get_mut("related-arriving").unwrap().rules.truncate(1);
    });
}

/// The clinic's addresses leave the box.
#[test]
fn masquerade_lost() {
    is_caught(|_, ruleset| ruleset.chains.get_mut("nat-postrouting").unwrap().rules.clear());
}

/// The ports up to where the timed flow begins.
fn below(Key(mut fields): Key) -> Key {
    if let Some(Range { to, .. }) = fields.get_mut(3) {
        *to = (*to).clone().min(Value::Port(8049));
    }
    Key(fields)
}
