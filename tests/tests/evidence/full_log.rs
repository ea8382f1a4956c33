//! A full log: what changes rules is refused, and giving it more room is not.
use std::{thread::sleep, time::Duration};

use crate::{clinic::Clinic, hands, policies};

const FAILED: i32 = 1;

#[test]
fn a_full_log_refuses_new_rules_and_takes_more_room() {
    let mut clinic = Clinic::fresh();
    let in_force = |clinic: &Clinic| clinic.site.status()["policy"]["id"].clone();
    let give_room = hands::full_log(&mut clinic);
    let before = in_force(&clinic);
    clinic.site.try_apply(&one_more_flow()).failed(FAILED, &["it could not be recorded", "log_budget"]);
    assert_eq!(in_force(&clinic), before);
    give_room(&mut clinic);
    assert_eq!(in_force(&clinic), before, "the room is no rule");
    let said = clinic.site.run(&["--json", "audit", "list", "--kind", "apply-requested", "--limit", "1"]);
    let entries = said.succeeded().json()["entries"].clone();
    assert_eq!(entries[0]["entry"]["event"]["same_rules"], true, "{entries}");
    // The record role looks at its settings once a second.
    let taken = |clinic: &mut Clinic| {
        sleep(Duration::from_millis(500));
        clinic.site.try_apply(&one_more_flow()).code == Some(0)
    };
    assert!((0..20).any(|_| taken(&mut clinic)), "with more room new rules are taken");
    assert_ne!(in_force(&clinic), before);
}

fn one_more_flow() -> String {
    let flow =
        "name = \"one-more\"\nfrom = \"zone:staff\"\nto = \"device:emr-maker\"\nservice = \"tcp/8443\"";
    format!("{}\n[[flow]]\n{flow}\npurpose = \"a test\"\nowner = \"tests\"\n", policies::good())
}
