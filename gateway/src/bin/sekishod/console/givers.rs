//! Which role may give which family of metrics. Edge, files and watch take bytes of strangers apart: one of them that fell
//! must not be able to say that the log is whole, or the policy in force.

use events::{Family, Role, Sample};

/// Whether a sample is of what this role itself counts and measures.
pub(crate) fn may_give(role: Role, sample: &Sample) -> bool {
    let Sample { family, labels, .. } = sample;
    let is_of = |word: &str| labels.first().is_some_and(|label| label == word);
    match family {
        // Each of itself only.
        Family::RoleResident | Family::RecorderLost => is_of(role.word()),
        Family::SelfTest => role == Role::Console || (role == Role::Files && is_of("inspection")),
        family => givers(*family).contains(&role),
    }
}

/// Complete, so that a new family says whose it is.
const fn givers(family: Family) -> &'static [Role] {
    match family {
        // What the console itself says, of others too.
        Family::Build
        | Family::RoleUp
        | Family::RoleStarted
        | Family::ClockOffset
        | Family::ClockStratum
        | Family::ControlState
        | Family::ControlSince
        | Family::ControlChecked
        | Family::Controls
        | Family::ControlChanges
        | Family::Scrapes
        | Family::Certificate => &[Role::Console],
        Family::Enforcement
        | Family::PolicyApplied
        | Family::ReadBack
        | Family::ReadBackDifferences
        | Family::ForeignTables
        | Family::Applies
        | Family::Drifts
        | Family::Troubles
        | Family::TimeTrusted
        | Family::ClockJumps
        | Family::AllowedPackets
        | Family::AllowedBytes
        | Family::DeniedPackets
        | Family::ConntrackEntries
        | Family::ConntrackLimit
        | Family::Devices
        | Family::SessionStates
        | Family::Sessions
        | Family::SessionsEnded
        | Family::Persons
        | Family::PersonLocks => &[Role::Core],
        Family::DenialsTold
        | Family::Suspicions
        | Family::FeedUp
        | Family::FeedLost
        | Family::FeedEvent
        | Family::LedgerFlows
        | Family::LedgerPruned
        | Family::LedgerOpen
        | Family::LedgerBytes
        | Family::LedgerBudget
        | Family::LedgerOldest => &[Role::Watch],
        Family::LogEntries
        | Family::LogCheckpoint
        | Family::LogVerified
        | Family::LogIntact
        | Family::LogBytes
        | Family::LogBudget
        | Family::LogOldest
        | Family::LogAccepting
        | Family::LogRefused
        | Family::Deed => &[Role::Record],
        // The kernel's WireGuard is core's to ask.
        Family::VpnPeers
        | Family::VpnDataPath
        | Family::VpnHandshake
        | Family::VpnBytes
        | Family::VpnDrops => &[Role::Core, Role::Edge],
        Family::SessionConnections | Family::SessionBytes | Family::Handshakes => &[Role::Edge],
        Family::Files
        | Family::FileVerdicts
        | Family::FileFindings
        | Family::FilesHeld
        | Family::FilesBytes
        | Family::FilesBudget => &[Role::Files],
        Family::SelfTest => &[Role::Console, Role::Files],
        Family::RoleResident | Family::RecorderLost => &Role::ALL,
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
            assert!(!givers(*family).is_empty(), "{family:?} is nobody's");
        }
    }
}
