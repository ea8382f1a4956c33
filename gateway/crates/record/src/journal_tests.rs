use proptest::prelude::*;

use super::*;
use crate::tile::push_entry;

const ROOT: TreeHash = TreeHash::new([7; 32]);

fn group(entries: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    entries.iter().for_each(|entry| assert!(push_entry(&mut bytes, entry)));
    bytes
}

/// A journal after so many groups of two entries, the first of which has the number `first`; and where each group ends.
fn journal(directory: &Path, first: u64, groups: u64) -> (Vec<u8>, Vec<usize>) {
    let disk = Disk::new(directory).unwrap();
    disk.clear_unfinished().unwrap();
    let mut journal = Journal::open(&disk).unwrap();
    journal.reset(ROOT).unwrap();
    let mut ends = vec![usize::try_from(journal.used_bytes()).unwrap()];
    for number in 0..groups {
        let (one, two) = (format!("one {number}"), format!("two {number}"));
        let bytes = group(&[one.as_bytes(), two.as_bytes()]);
        journal.write(&disk, first + 2 * number, 2, &bytes).unwrap();
        ends.push(usize::try_from(journal.used_bytes()).unwrap());
    }
    (read(directory).unwrap().unwrap(), ends)
}

#[test]
fn what_was_written_is_replayed_after_its_checkpoint_only() {
    let directory = crate::disk::in_memory();
    let (bytes, _) = journal(directory.path(), 40, 3);
    let found = replay(&bytes, 40, ROOT).unwrap();
    assert_eq!(found.entries.len(), 6);
    assert_eq!(found.entries[5], b"two 2");
    assert_eq!(found.torn_bytes, 0);
    // A later checkpoint holds all that.
    assert_eq!(replay(&bytes, 46, TreeHash::new([9; 32])).unwrap().entries.len(), 0);
    // An earlier one does not know what lies between.
    assert!(matches!(replay(&bytes, 38, ROOT), Err(JournalError::Damaged(_))));
}

#[test]
fn a_torn_write_costs_only_itself_wherever_it_was_torn() {
    let directory = crate::disk::in_memory();
    let (before, ends) = journal(directory.path(), 0, 2);
    let disk = Disk::new(directory.path()).unwrap();
    let mut open = Journal::open(&disk).unwrap();
    open.resume(&replay(&before, 0, ROOT).unwrap()).unwrap();
    open.write(&disk, 4, 1, &group(&[&[b'x'; 900]])).unwrap();
    let after = read(directory.path()).unwrap().unwrap();
    let end = usize::try_from(open.used_bytes()).unwrap() + END.len();
    // Each byte of the head, some of the rest.
    for cut in (ends[2]..ends[2] + HEAD_BYTES + 4)
        .chain((ends[2] + HEAD_BYTES + 4..end).step_by(37))
        .chain(end - 10..end)
    {
        // The beginning arrived, or the end did, or only a sector in the middle did.
        let mut early = before.clone();
        early[ends[2]..cut].copy_from_slice(&after[ends[2]..cut]);
        let mut late = before.clone();
        late[cut..end].copy_from_slice(&after[cut..end]);
        for torn in [early, late] {
            let found = replay(&torn, 0, ROOT).unwrap();
            assert!(found.entries.len() == 4 || torn[..end - END.len()] == after[..end - END.len()], "{cut}");
            assert_eq!(found.entries[..4], replay(&before, 0, ROOT).unwrap().entries[..4]);
        }
    }
}

#[test]
fn after_a_torn_write_the_next_one_takes_its_place() {
    let directory = crate::disk::in_memory();
    let (mut bytes, ends) = journal(directory.path(), 0, 3);
    bytes[ends[2] + HEAD_BYTES] ^= 1;
    std::fs::write(directory.path().join(NAME), &bytes).unwrap();
    let found = replay(&bytes, 0, ROOT).unwrap();
    assert!(found.entries.len() == 4 && found.torn_bytes > 0);
    let disk = Disk::new(directory.path()).unwrap();
    let mut open = Journal::open(&disk).unwrap();
    open.resume(&found).unwrap();
    let between = read(directory.path()).unwrap().unwrap();
    assert_eq!(replay(&between, 0, ROOT).unwrap().torn_bytes, 0, "put in order");
    open.write(&disk, 4, 1, &group(&[b"next"])).unwrap();
    let bytes = read(directory.path()).unwrap().unwrap();
    assert_eq!(replay(&bytes, 0, ROOT).unwrap().entries.last(), Some(&&b"next"[..]));
}

#[test]
fn an_entry_that_looks_like_a_frame_is_an_entry() {
    let directory = crate::disk::in_memory();
    let (mut bytes, ends) = journal(directory.path(), 0, 1);
    // Somebody who knows the format but not the random number of this journal.
    let (fake, _) = encode(1000, 1, &group(&[b"fake"]), ROOT, &[0; NONCE_BYTES]);
    bytes[ends[1] + 100..ends[1] + 100 + fake.len()].copy_from_slice(&fake);
    assert_eq!(replay(&bytes, 0, ROOT).unwrap().entries.len(), 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_edit_before_the_last_group_is_damage(groups in 2_u64..5, at in any::<prop::sample::Index>(), bit in 0_u8..8) {
        let directory = crate::disk::in_memory();
        let (mut bytes, ends) = journal(directory.path(), 10, groups);
        let last = ends[ends.len() - 2];
        bytes[at.index(last)] ^= 1 << bit;
        prop_assert!(replay(&bytes, 10, ROOT).is_err());
    }

    #[test]
    fn any_edit_of_the_last_group_is_seen_as_torn(at in any::<prop::sample::Index>(), bit in 0_u8..8) {
        let directory = crate::disk::in_memory();
        let (mut bytes, ends) = journal(directory.path(), 10, 2);
        let place = ends[1] + at.index(ends[2] + END.len() - ends[1]);
        bytes[place] ^= 1 << bit;
        let found = replay(&bytes, 10, ROOT).unwrap();
        prop_assert!(found.torn_bytes > 0);
        prop_assert!(found.entries.len() >= 2);
    }

    #[test]
    fn any_bytes_are_a_journal_or_an_error(noise in prop::collection::vec(any::<u8>(), 0..600), at in 0_usize..2000) {
        let directory = crate::disk::in_memory();
        let (mut bytes, _) = journal(directory.path(), 0, 3);
        bytes[at..at + noise.len()].copy_from_slice(&noise);
        let _ = replay(&bytes, 0, ROOT);
        let _ = replay(&noise, 0, ROOT);
    }
}
