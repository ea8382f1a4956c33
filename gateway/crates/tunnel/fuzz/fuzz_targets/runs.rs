//! Messages gathered into runs: cut into segments again they are the same messages in the same order.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tunnel::Packer;

fuzz_target!(|messages: Vec<(u16, u8)>| {
    let mut packer = Packer::new(1 << 18);
    let mut kept = Vec::new();
    for (length, to) in messages {
        let (length, to) = (usize::from(length).max(1), to % 3);
        let Some(room) = packer.room(length) else { break };
        room[..length].fill(to);
        packer.keep(length, to);
        kept.push((length, to));
    }
    let mut seen = Vec::new();
    for (run, bytes) in packer.runs() {
        assert!(run.segments <= 64 && (bytes.len() <= 65_000 || run.segments == 1));
        seen.extend(bytes.chunks(run.segment_bytes).map(|message| (message.len(), run.to)));
        assert!(bytes.iter().all(|byte| *byte == run.to));
    }
    assert_eq!(seen, kept);
});
