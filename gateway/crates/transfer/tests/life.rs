//! The life of a transfer, told step by step, and at random: whatever happens there is one outcome, and nothing is
//! delivered that was not whole, sealed, inspected, allowed, accepted and recorded.

#![cfg(test)]

use std::collections::BTreeSet;
use std::time::Duration;

use transfer::attestation::AttestationError;
use transfer::machine::{INSPECT_WAIT, SENDER_SILENCE, after_restart};
use transfer::outcome::{TEXT_MAX, WORD_MAX, WORDS_MAX};
use transfer::{
    Announcement, Command, Failure, FileName, Finding, Hash, Inspection, Order, Outcome, Proof, Refusal,
    Rules, State, Step, Transfer, TransferId, Unsure, Verdict,
};

const BYTES: &[u8] = b"twelve bytes";
const NOW: Duration = Duration::from_secs(100);

fn announcement() -> Announcement {
    Announcement {
        transfer: TransferId::from_random([3; 8]),
        session: "s-abcdefghijkl".to_owned(),
        vendor: "acme-emr".to_owned(),
        name: FileName::parse("報告書.pdf").unwrap(),
        size_bytes: 12,
        sha256: Hash::of(BYTES),
    }
}

fn words(list: &[&str]) -> BTreeSet<String> {
    list.iter().map(|word| (*word).to_owned()).collect()
}

fn rules() -> Rules {
    Rules { accept: words(&["pdf", "text"]), attestation_required: false, max_size_bytes: 100 }
}

fn inspection(verdict: Verdict, kinds: &[&str]) -> Inspection {
    let finding = Finding { id: "vba-macro".to_owned(), at: String::new(), detail: String::new() };
    let findings = if verdict == Verdict::Allow { Vec::new() } else { vec![finding] };
    Inspection { sha256: Hash::of(BYTES), verdict, kinds: words(kinds), findings }
}

fn failure() -> Failure {
    Failure("it broke".to_owned())
}

fn order(transfer: &mut Transfer) -> Order {
    let order = transfer.poll_command().expect("a command");
    assert!(transfer.poll_command().is_none(), "one thing at a time");
    order
}

fn announced() -> Transfer {
    Transfer::announce(announcement(), rules(), &Proof::Absent, NOW)
}

fn received() -> Transfer {
    let mut transfer = announced();
    let hold = order(&mut transfer);
    transfer.handle_held(hold.step, Ok(()), NOW);
    assert!(transfer.handle_bytes(7, NOW) && transfer.handle_bytes(5, NOW));
    transfer.handle_received(Hash::of(BYTES), NOW);
    transfer
}

/// A transfer whose bytes are being inspected, with the step that waits.
fn inspecting() -> (Transfer, Step) {
    let mut transfer = received();
    let Order { step, command: Command::Seal {} } = order(&mut transfer) else { panic!("not sealed first") };
    transfer.handle_sealed(step, Ok(()), NOW);
    let Order { step, command: Command::Inspect {} } = order(&mut transfer) else { panic!("not inspected") };
    (transfer, step)
}

/// The one outcome, concluded once.
fn outcome(transfer: &mut Transfer) -> Outcome {
    let Command::Conclude(outcome) = order(transfer).command else { panic!("not concluded") };
    assert_eq!(transfer.poll_event(), Some(&outcome));
    assert_eq!(transfer.state(), State::Over(outcome.clone()));
    assert_eq!(transfer.poll_timeout(), None);
    outcome
}

fn refused(mut transfer: Transfer) -> Refusal {
    match outcome(&mut transfer) {
        Outcome::Refused { why } => why,
        other => panic!("{other:?}"),
    }
}

fn unsure(mut transfer: Transfer) -> Unsure {
    match outcome(&mut transfer) {
        Outcome::Quarantined { why } => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_clean_file_is_delivered_once() {
    let (mut transfer, step) = inspecting();
    assert_eq!(transfer.state(), State::Inspecting);
    transfer.handle_inspected(step, Ok(inspection(Verdict::Allow, &["pdf"])), NOW);
    let Order { step, command: Command::Record {} } = order(&mut transfer) else {
        panic!("not recorded first")
    };
    transfer.handle_recorded(step, Ok(()), NOW);
    let Order { step, command: Command::Deliver(released) } = order(&mut transfer) else {
        panic!("not delivered")
    };
    assert_eq!((released.vendor(), released.name().as_str()), ("acme-emr", "報告書.pdf"));
    assert_eq!((released.sha256(), released.size_bytes()), (Hash::of(BYTES), 12));
    transfer.handle_delivered(step, Ok(Hash::of(BYTES)), NOW);
    assert_eq!(outcome(&mut transfer), Outcome::Delivered { sha256: Hash::of(BYTES) });
    transfer.handle_delivered(step, Err(failure()), NOW);
    transfer.handle_sender_gone(NOW);
    assert!(transfer.poll_command().is_none());
}

#[test]
fn what_the_rules_refuse_is_refused_before_a_byte_is_taken() {
    let with = |change: fn(&mut Rules)| {
        let mut rules = rules();
        change(&mut rules);
        refused(Transfer::announce(announcement(), rules, &Proof::Absent, NOW))
    };
    assert_eq!(with(|rules| rules.accept.clear()), Refusal::NothingAccepted {});
    assert_eq!(with(|rules| rules.max_size_bytes = 11), Refusal::TooLarge { max_bytes: 11 });
    assert_eq!(with(|rules| rules.attestation_required = true), Refusal::AttestationMissing {});
    let bad = Proof::Given(Err(AttestationError::Signature));
    let transfer = Transfer::announce(announcement(), rules(), &bad, NOW);
    assert!(matches!(refused(transfer), Refusal::Attestation { .. }));
}

#[test]
fn what_was_not_announced_is_refused() {
    let mut transfer = announced();
    let hold = order(&mut transfer);
    transfer.handle_held(hold.step, Ok(()), NOW);
    assert!(!transfer.handle_bytes(13, NOW), "never more than announced");
    assert!(!transfer.handle_bytes(0, NOW));
    assert_eq!(refused(transfer), Refusal::NotAsAnnounced {});
    let mut transfer = announced();
    let hold = order(&mut transfer);
    transfer.handle_held(hold.step, Ok(()), NOW);
    assert!(transfer.handle_bytes(12, NOW));
    transfer.handle_received(Hash::of(b"other bytes."), NOW);
    assert_eq!(refused(transfer), Refusal::NotAsAnnounced {});
}

#[test]
fn only_a_whole_yes_releases() {
    for (verdict, kinds) in [
        (Verdict::Disarm, ["pdf"].as_slice()),
        (Verdict::Refuse, &["pdf"]),
        (Verdict::Allow, &[]),
        (Verdict::Allow, &["dicom"]),
        (Verdict::Allow, &["pdf", "dicom"]),
    ] {
        let (mut transfer, step) = inspecting();
        transfer.handle_inspected(step, Ok(inspection(verdict, kinds)), NOW);
        let why = refused(transfer);
        assert_eq!(matches!(why, Refusal::Kind { .. }), verdict == Verdict::Allow, "{why:?}");
    }
    let (mut transfer, step) = inspecting();
    let other = Inspection { sha256: Hash::of(b"other"), ..inspection(Verdict::Allow, &["pdf"]) };
    transfer.handle_inspected(step, Ok(other), NOW);
    assert!(matches!(unsure(transfer), Unsure::Inspection { .. }));
    let (mut transfer, step) = inspecting();
    transfer.handle_inspected(Step(step.0 + 1), Ok(inspection(Verdict::Allow, &["pdf"])), NOW);
    assert_eq!(transfer.state(), State::Inspecting, "an answer to nothing releases nothing");
}

#[test]
fn what_is_not_known_is_quarantined() {
    let (mut transfer, step) = inspecting();
    transfer.handle_inspected(step, Err(failure()), NOW);
    assert!(matches!(unsure(transfer), Unsure::Inspection { .. }));
    let (mut transfer, step) = inspecting();
    transfer.handle_inspected(step, Ok(inspection(Verdict::Allow, &["pdf"])), NOW + INSPECT_WAIT);
    assert!(matches!(unsure(transfer), Unsure::Inspection { .. }), "too late is no yes");
    let mut transfer = announced();
    let hold = order(&mut transfer);
    transfer.handle_held(hold.step, Ok(()), NOW);
    transfer.handle_timeout(NOW + SENDER_SILENCE);
    assert_eq!(unsure(transfer), Unsure::TooSlow {});
    let mut transfer = announced();
    transfer.handle_sender_gone(NOW);
    assert_eq!(unsure(transfer), Unsure::SenderGone {});
    let mut transfer = received();
    transfer.handle_sender_gone(NOW);
    assert!(matches!(order(&mut transfer).command, Command::Seal {}), "what is whole goes on");
}

#[test]
fn what_others_wrote_is_cut_before_it_is_part_of_an_outcome() {
    let long = "\u{1b}[31m".repeat(4_000);
    let is_cut =
        |text: &str, most: usize| text.chars().count() == most && !text.chars().any(char::is_control);
    let bad = Proof::Given(Err(AttestationError::Envelope(long.clone())));
    let why = refused(Transfer::announce(announcement(), rules(), &bad, NOW));
    assert!(matches!(&why, Refusal::Attestation { why } if is_cut(why, TEXT_MAX)), "{why:?}");
    let mut transfer = announced();
    let hold = order(&mut transfer);
    transfer.handle_held(hold.step, Err(Failure(long.clone())), NOW);
    let why = unsure(transfer);
    assert!(matches!(&why, Unsure::NoRoom { what } if is_cut(what, TEXT_MAX)), "{why:?}");
    let (mut transfer, step) = inspecting();
    transfer.handle_inspected(step, Err(Failure(long.clone())), NOW);
    let why = unsure(transfer);
    assert!(matches!(&why, Unsure::Inspection { what } if is_cut(what, TEXT_MAX)), "{why:?}");
    let (mut transfer, step) = inspecting();
    let kinds = (0..300).map(|number| format!("{number}{long}")).collect();
    let said = Inspection { kinds, ..inspection(Verdict::Allow, &[]) };
    transfer.handle_inspected(step, Ok(said), NOW);
    let Refusal::Kind { kinds } = refused(transfer) else { panic!("another refusal") };
    assert_eq!(kinds.len(), WORDS_MAX);
    assert!(kinds.iter().all(|kind| is_cut(kind, WORD_MAX)), "{kinds:?}");
}

#[test]
fn what_lies_in_the_drop_must_be_what_was_released() {
    for result in [Ok(Hash::of(b"other")), Err(failure())] {
        let (mut transfer, step) = inspecting();
        transfer.handle_inspected(step, Ok(inspection(Verdict::Allow, &["pdf"])), NOW);
        let record = order(&mut transfer);
        transfer.handle_recorded(record.step, Ok(()), NOW);
        let deliver = order(&mut transfer);
        transfer.handle_delivered(deliver.step, result, NOW);
        assert!(matches!(unsure(transfer), Unsure::Delivery { .. }));
    }
}

#[test]
fn a_restart_knows_what_the_clinic_has() {
    let hash = Hash::of(BYTES);
    let restarted = Outcome::Quarantined { why: Unsure::Restarted {} };
    assert_eq!(after_restart(None, false), restarted);
    assert_eq!(after_restart(Some(hash), true), restarted);
    assert_eq!(after_restart(Some(hash), false), Outcome::Delivered { sha256: hash });
}

/// Splitmix64: small, and the same everywhere.
fn roll(state: &mut u64, limit: u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (z ^ (z >> 31)) % limit
}

#[derive(Default)]
struct Seen {
    received: bool,
    sealed: bool,
    allowed: bool,
    recorded: bool,
    delivered: bool,
    outcomes: u32,
}

/// One random thing happens; what comes of it is judged by what was seen before.
fn happen(
    dice: &mut u64,
    transfer: &mut Transfer,
    open: &mut Vec<Order>,
    seen: &mut Seen,
    now: &mut Duration,
) {
    let well = roll(dice, 12) != 0;
    let result = || if well { Ok(()) } else { Err(failure()) };
    match roll(dice, 16) {
        0..=2 => {
            let count = if well { 4 } else { roll(dice, 20) };
            transfer.handle_bytes(count, *now);
        }
        3 | 4 => {
            let whole = matches!(transfer.state(), State::Receiving { received_bytes: 12 });
            seen.received |= well && whole;
            transfer.handle_received(Hash::of(if well { BYTES } else { b"other" }), *now);
        }
        5 if !well => transfer.handle_sender_gone(*now),
        6 => {
            *now += Duration::from_millis(roll(dice, if well { 3_000 } else { 90_000 }));
            transfer.handle_timeout(*now);
        }
        7 if !well => transfer.handle_hold_failed(failure(), *now),
        8 => transfer.handle_inspected(Step(77), Ok(inspection(Verdict::Allow, &["pdf"])), *now),
        _ => {
            let Some(order) = open.pop() else { return };
            match order.command {
                Command::Hold {} => transfer.handle_held(order.step, result(), *now),
                Command::Seal {} => {
                    seen.sealed |= well;
                    transfer.handle_sealed(order.step, result(), *now);
                }
                Command::Inspect {} => {
                    seen.allowed |= well;
                    let verdict = if well { Verdict::Allow } else { Verdict::Disarm };
                    transfer.handle_inspected(order.step, Ok(inspection(verdict, &["text"])), *now);
                }
                Command::Record {} => {
                    seen.recorded |= well;
                    transfer.handle_recorded(order.step, result(), *now);
                }
                Command::Deliver(released) => {
                    let hash = if well { released.sha256() } else { Hash::of(b"other") };
                    transfer.handle_delivered(order.step, Ok(hash), *now);
                }
                Command::Conclude(_) => {}
            }
        }
    }
}

#[test]
fn a_hundred_thousand_lives_end_once_and_deliver_only_what_may_be() {
    let mut counts = [0_u32; 3];
    for trace in 0..100_000_u64 {
        let (mut dice, mut now) = (trace, NOW);
        let mut transfer = announced();
        let (mut open, mut seen) = (Vec::new(), Seen::default());
        for _ in 0..400 {
            while let Some(order) = transfer.poll_command() {
                match &order.command {
                    Command::Deliver(_) => {
                        assert!(
                            seen.received && seen.sealed && seen.allowed && seen.recorded && !seen.delivered
                        );
                        seen.delivered = true;
                    }
                    Command::Conclude(outcome) => {
                        seen.outcomes += 1;
                        let delivered = matches!(outcome, Outcome::Delivered { .. });
                        assert!(!delivered || seen.delivered, "delivered without a delivery");
                        counts[match outcome {
                            Outcome::Delivered { .. } => 0,
                            Outcome::Refused { .. } => 1,
                            Outcome::Quarantined { .. } => 2,
                        }] += 1;
                    }
                    Command::Hold {} | Command::Seal {} | Command::Inspect {} | Command::Record {} => {
                        assert_eq!(seen.outcomes, 0, "a command after the end");
                    }
                }
                open.push(order);
            }
            happen(&mut dice, &mut transfer, &mut open, &mut seen, &mut now);
            if seen.outcomes > 0 && open.is_empty() {
                break;
            }
        }
        while let Some(at) = transfer.poll_timeout() {
            transfer.handle_timeout(at);
        }
        seen.outcomes += u32::try_from(std::iter::from_fn(|| transfer.poll_command()).count()).unwrap();
        assert_eq!(seen.outcomes, 1, "trace {trace}");
    }
    assert!(counts.iter().all(|count| *count > 3_000), "{counts:?}");
}
