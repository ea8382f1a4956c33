//! What entries hold of maintenance sessions: begun, approved, opened, ended. Of one session entries may come in any order,
//! and the log is read beside what comes in: whatever was taken twice counts once.

use std::collections::{BTreeMap, BTreeSet};

use events::SessionChange;
use jiff::{SignedDuration, Timestamp};
use policy::guideline::observation::{Maintenance, Named};

/// Sessions remembered one by one; of older ones that went as they should only the number is kept.
const SESSIONS_MAX: usize = 1024;
/// How long after its last moment the end of a session may still be on its way to the log: core tells it when it is there.
const END_LATE: SignedDuration = SignedDuration::from_mins(2);
/// Connections of one session that are followed at once; of more, some are not told to be lost.
const CONNECTIONS_MAX: usize = 1024;
/// How long after a session's end edge may still tell the end of its connections.
const CLOSE_LATE: SignedDuration = SignedDuration::from_secs(15);
/// Ends by which a session was cut off for want of a record.
const CUT_OFF: [&str; 2] = ["recorder-failed", "disk-full"];

/// The sessions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sessions {
    known: BTreeMap<String, Course>,
    /// Opened sessions that are no longer known one by one.
    former: u32,
    /// Entries come in the log's order, and none was left out: what is over needs not be remembered.
    is_whole: bool,
}

/// What is known of one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Course {
    /// The last entry about it.
    told_at: Timestamp,
    is_approved: bool,
    is_opened: bool,
    /// When the kernel closes it.
    until: Option<Timestamp>,
    ended_at: Option<Timestamp>,
    is_cut_off: bool,
    /// Connections that carry, as far as is told, and since when.
    open: BTreeMap<u64, Timestamp>,
    /// Connections told to be over whose beginning may be told in what was not read yet.
    over: BTreeSet<u64>,
    /// Connections that ended with the edge role that carried them.
    lost: BTreeSet<u64>,
}

impl Sessions {
    /// For entries of the whole log in their order.
    pub(super) fn of_whole_log() -> Self {
        Sessions { is_whole: true, ..Sessions::default() }
    }

    /// Takes up what an entry says of a session.
    pub(super) fn take(&mut self, session: &str, change: &SessionChange, at: Timestamp) {
        let course = self.known.entry(session.to_owned()).or_default();
        course.told_at = course.told_at.max(at);
        match change {
            SessionChange::Approved { .. } => course.is_approved = true,
            // Whoever approved is named in the entry without which nothing opens.
            SessionChange::Opening { approved_by, .. } => course.is_approved |= !approved_by.is_empty(),
            SessionChange::Opened { until, .. } => {
                course.is_opened = true;
                course.until = Some(*until);
            }
            SessionChange::Closed { why, .. } => {
                course.ended_at = course.ended_at.max(Some(at));
                course.is_cut_off |= CUT_OFF.contains(&why.as_str());
            }
            SessionChange::Denied { .. } => course.ended_at = course.ended_at.max(Some(at)),
            SessionChange::ConnectionOpened { connection } => course.begin(*connection, at),
            SessionChange::ConnectionClosed { connection, .. }
            | SessionChange::ConnectionLost { connection } => course.finish(*connection, self.is_whole),
            SessionChange::Requested { .. } => {}
        }
        self.forget();
    }

    /// Another edge role began, at a time by its own clock: whatever a former one carried is over.
    pub(super) fn edge_started(&mut self, at: Timestamp) {
        for course in self.known.values_mut() {
            course.lose(|begun_at| begun_at < at);
        }
    }

    /// Connections whose end nobody will tell, each once: edge began anew, or their session is over and edge silent.
    pub(super) fn lost(&mut self, now: Timestamp) -> Vec<(String, u64)> {
        let mut lost = Vec::new();
        for (session, course) in &mut self.known {
            if course.ended_at.is_some_and(|at| now.duration_since(at) > CLOSE_LATE) {
                course.lose(|_| true);
            }
            let own = std::mem::take(&mut course.lost);
            lost.extend(own.into_iter().map(|connection| (session.clone(), connection)));
        }
        lost
    }

    /// Takes over what another found.
    pub(super) fn merge(&mut self, other: Sessions) {
        self.former = self.former.saturating_add(other.former);
        for (session, found) in other.known {
            let course = self.known.entry(session).or_default();
            course.told_at = course.told_at.max(found.told_at);
            course.is_approved |= found.is_approved;
            course.is_opened |= found.is_opened;
            course.until = course.until.max(found.until);
            course.ended_at = course.ended_at.max(found.ended_at);
            course.is_cut_off |= found.is_cut_off;
            let over = std::mem::take(&mut course.over);
            course.open.extend(found.open.into_iter().filter(|(connection, _)| !over.contains(connection)));
            course.lost.extend(found.lost.difference(&over));
        }
        // What was over before its beginning was read has been taken off, and no more of it comes.
        self.known.values_mut().for_each(|course| course.over.clear());
        self.is_whole = true;
        self.forget();
    }

    /// What a control is judged by.
    pub(super) fn fact(&self, now: Timestamp) -> Maintenance {
        let opened = || self.known.iter().filter(|(_, course)| course.is_opened);
        let late = |until: Timestamp| now.duration_since(until) > END_LATE;
        let names = |meant: &dyn Fn(&Course) -> bool| -> Named {
            opened().filter(|(_, course)| meant(course)).map(|(session, _)| session).collect()
        };
        Maintenance {
            opened: self.former.saturating_add(u32::try_from(opened().count()).unwrap_or(u32::MAX)),
            unapproved: names(&|course| !course.is_approved),
            unended: names(&|course| course.ended_at.is_none() && course.until.is_some_and(late)),
            ended_at: opened().filter_map(|(_, course)| course.ended_at).max(),
            cut_off_at: self
                .known
                .values()
                .filter(|course| course.is_cut_off)
                .filter_map(|course| course.ended_at)
                .max(),
        }
    }

    /// Lets go of the oldest beyond the limit: first of those that went as they should.
    fn forget(&mut self) {
        while self.known.len() > SESSIONS_MAX {
            let is_whole =
                |course: &Course| course.ended_at.is_some() && (course.is_approved || !course.is_opened);
            let oldest = self.known.iter().min_by_key(|(_, course)| (!is_whole(course), course.told_at));
            let Some(session) = oldest.map(|(session, _)| session.clone()) else { return };
            let was_opened = self.known.remove(&session).is_some_and(|course| course.is_opened);
            self.former = self.former.saturating_add(u32::from(was_opened));
        }
    }
}

impl Course {
    fn begin(&mut self, connection: u64, at: Timestamp) {
        if self.open.len() < CONNECTIONS_MAX {
            self.open.insert(connection, at);
        }
    }

    /// Takes the open connections that are meant for lost.
    fn lose(&mut self, meant: impl Fn(Timestamp) -> bool) {
        let (gone, open) = std::mem::take(&mut self.open).into_iter().partition(|(_, at)| meant(*at));
        let gone: BTreeMap<u64, Timestamp> = gone;
        self.open = open;
        self.lost.extend(gone.into_keys());
    }

    fn finish(&mut self, connection: u64, is_whole: bool) {
        self.open.remove(&connection);
        self.lost.remove(&connection);
        if !is_whole && self.over.len() < CONNECTIONS_MAX {
            self.over.insert(connection);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn opening(approved_by: &[&str]) -> SessionChange {
        let text = String::new;
        let approved_by = approved_by.iter().map(ToString::to_string).collect();
        SessionChange::Opening { vendor: text(), target: text(), opens: text(), approved_by, digest: text() }
    }

    fn opened(until: i64) -> SessionChange {
        SessionChange::Opened { vendor: String::new(), target: String::new(), until: at(until) }
    }

    fn closed(why: &str) -> SessionChange {
        SessionChange::Closed { why: why.to_owned(), by: None }
    }

    fn approved() -> SessionChange {
        SessionChange::Approved { person: "hana".to_owned(), digest: String::new() }
    }

    fn taken(changes: &[(&str, SessionChange, i64)]) -> Sessions {
        let mut sessions = Sessions::default();
        changes.iter().for_each(|(session, change, second)| sessions.take(session, change, at(*second)));
        sessions
    }

    #[test]
    fn a_session_is_approved_by_either_entry_in_any_order_and_by_none_is_told() {
        let sessions = taken(&[
            ("s-a", opening(&["hana"]), 1),
            ("s-a", opened(90), 2),
            ("s-b", opening(&[]), 1),
            ("s-b", opened(90), 2),
            ("s-b", approved(), 1),
            ("s-c", opening(&[]), 3),
            ("s-c", opened(90), 3),
            ("s-d", closed("expired"), 4),
        ]);
        let fact = sessions.fact(at(10));
        assert_eq!((fact.opened, fact.unapproved.first), (3, vec!["s-c".to_owned()]));
        assert_eq!((fact.ended_at, fact.cut_off_at), (None, None), "what never opened did not end");
    }

    #[test]
    fn an_end_that_is_missing_and_one_for_want_of_a_record_are_told() {
        let one = ("s-a", opened(90), 2);
        let fact = taken(std::slice::from_ref(&one)).fact(at(90 + 121));
        assert_eq!(fact.unended.first, ["s-a"]);
        assert!(
            taken(std::slice::from_ref(&one)).fact(at(90 + 120)).unended.is_empty(),
            "it may be on its way"
        );
        let fact = taken(&[one, ("s-a", closed("recorder-failed"), 50)]).fact(at(500));
        assert!(fact.unended.is_empty());
        assert_eq!((fact.ended_at, fact.cut_off_at), (Some(at(50)), Some(at(50))));
    }

    #[test]
    fn what_was_read_twice_counts_once() {
        let all = [("s-a", opening(&["hana"]), 1), ("s-a", opened(90), 2), ("s-a", closed("killed"), 3)];
        let (mut live, mut history) = (taken(&all[1..]), Sessions::of_whole_log());
        all.iter().for_each(|(session, change, second)| history.take(session, change, at(*second)));
        live.merge(history.clone());
        assert_eq!(live, history);
    }

    fn begun(connection: u64) -> SessionChange {
        SessionChange::ConnectionOpened { connection }
    }

    fn finished(connection: u64) -> SessionChange {
        SessionChange::ConnectionClosed { connection, sent: 0, received: 0 }
    }

    fn lost(session: &str, connection: u64) -> (String, u64) {
        (session.to_owned(), connection)
    }

    #[test]
    fn what_a_former_edge_carried_is_lost_once() {
        let mut sessions = taken(&[
            ("s-a", begun(1), 1),
            ("s-a", begun(2), 1),
            ("s-b", begun(1), 1),
            ("s-a", finished(1), 2),
        ]);
        assert_eq!(sessions.lost(at(3)), []);
        sessions.take("s-a", &begun(3), at(4));
        sessions.edge_started(at(3));
        assert_eq!(sessions.lost(at(5)), [lost("s-a", 2), lost("s-b", 1)], "3 is of the edge that began");
        sessions.edge_started(at(6));
        sessions.take("s-a", &SessionChange::ConnectionLost { connection: 3 }, at(6));
        assert_eq!(sessions.lost(at(7)), [], "told already");
    }

    #[test]
    fn what_is_open_long_after_its_session_is_lost() {
        let mut sessions = taken(&[("s-a", begun(1), 1), ("s-a", closed("disconnected"), 10)]);
        assert_eq!(sessions.lost(at(25)), [], "edge may still tell");
        assert_eq!(sessions.lost(at(26)), [lost("s-a", 1)]);
        assert_eq!(sessions.lost(at(27)), []);
    }

    #[test]
    fn a_connection_is_not_lost_whose_end_came_while_the_log_was_read() {
        let mut live = taken(&[("s-a", finished(1), 3), ("s-a", begun(2), 3), ("s-a", finished(2), 4)]);
        let mut history = Sessions::of_whole_log();
        for connection in 1..=3 {
            history.take("s-a", &begun(connection), at(2));
        }
        live.merge(history);
        live.take("s-a", &closed("finished"), at(5));
        assert_eq!(live.lost(at(60)), [lost("s-a", 3)]);
    }

    #[test]
    fn memory_is_bounded_and_what_went_wrong_is_kept_longest() {
        let mut sessions = taken(&[("s-bad", opening(&[]), 0), ("s-bad", opened(1), 0)]);
        for number in 0..3_000 {
            let session = format!("s-{number}");
            for change in [opening(&["hana"]), opened(number), closed("expired")] {
                sessions.take(&session, &change, at(number));
            }
        }
        let fact = sessions.fact(at(3_000));
        assert_eq!(sessions.known.len(), SESSIONS_MAX);
        assert_eq!((fact.opened, fact.unapproved.first), (3_001, vec!["s-bad".to_owned()]));
        assert_eq!(fact.ended_at, Some(at(2_999)));
    }
}
