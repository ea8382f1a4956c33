//! Whether a sample came from a role whose word is taken for it ([`events::metrics::Info::from`]).

use events::{Family, Role, Sample};

/// Whether a sample is of what this role itself counts and measures.
pub(crate) fn may_give(role: Role, sample: &Sample) -> bool {
    let Sample { family, labels, .. } = sample;
    let is_of = |word: &str| labels.first().is_some_and(|label| label == word);
    match family {
        // Each of itself only.
        Family::RoleResident | Family::RecorderLost => is_of(role.word()),
        // Files tests only the inspection.
        Family::SelfTest => role == Role::Console || (role == Role::Files && is_of("inspection")),
        family => family.info().from.contains(&role),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_takes_strangers_bytes_apart_speaks_of_its_own_only() {
        let sample =
            |family: Family, label: &str| Sample::new(family, &vec![label; family.info().labels.len()], 1.0);
        let lies = [Family::LogIntact, Family::LogAccepting, Family::Enforcement, Family::ControlState];
        for role in [Role::Edge, Role::Files, Role::Watch] {
            for family in lies {
                assert!(!may_give(role, &sample(family, "ok")), "{role:?} {family:?}");
            }
            for family in [Family::RoleResident, Family::RecorderLost] {
                assert!(may_give(role, &sample(family, role.word())), "{role:?} {family:?}");
                assert!(!may_give(role, &sample(family, "core")), "{role:?} {family:?}");
            }
        }
        assert!(may_give(Role::Record, &sample(Family::LogIntact, "")));
        assert!(may_give(Role::Edge, &sample(Family::VpnBytes, "sent")));
        let inspection = |word| may_give(Role::Files, &sample(Family::SelfTest, word));
        assert_eq!([inspection("inspection"), inspection("metrics_door")], [true, false]);
        for family in Family::ALL {
            assert!(!family.info().from.is_empty(), "{family:?} is nobody's");
        }
    }
}
