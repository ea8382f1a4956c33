//! Gathers encrypted messages into runs that one system call sends (UDP segmentation offload, udp(7) `UDP_SEGMENT`):
//! equal lengths back to back, only the last may be shorter.

use crate::datagram::{DATA_OVERHEAD_BYTES, INITIATION_BYTES};

/// As many messages as the kernel takes in one run (`UDP_MAX_SEGMENTS` of linux/udp.h before 6.9).
const MAX_SEGMENTS: usize = 64;
/// As many bytes as fit a datagram with any IP header.
const MAX_RUN_BYTES: usize = 65_000;

/// One run of messages for one destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run<D> {
    /// Where it goes.
    pub to: D,
    /// The length of each message but the last.
    pub segment_bytes: usize,
    /// How many messages.
    pub segments: usize,
    start: usize,
    end: usize,
    /// A shorter message was the last of it.
    is_closed: bool,
}

/// A buffer of fixed size that messages are encrypted into, and the runs in it.
#[derive(Debug)]
pub struct Packer<D> {
    bytes: Box<[u8]>,
    used: usize,
    runs: Vec<Run<D>>,
}

impl<D: Copy + PartialEq> Packer<D> {
    /// Makes an empty buffer.
    #[must_use]
    pub fn new(capacity_bytes: usize) -> Self {
        Self { bytes: vec![0; capacity_bytes].into(), used: 0, runs: Vec::new() }
    }

    /// Lends the room for a message about a packet of so many bytes, when there is enough.
    pub fn room(&mut self, packet_bytes: usize) -> Option<&mut [u8]> {
        let wanted = packet_bytes.checked_add(DATA_OVERHEAD_BYTES)?.max(INITIATION_BYTES);
        self.bytes.get_mut(self.used..self.used.checked_add(wanted)?)
    }

    /// Keeps the first bytes of the room last lent as a message for a destination.
    pub fn keep(&mut self, message_bytes: usize, to: D) {
        let start = self.used;
        let end = self.bytes.len().min(start + message_bytes);
        self.used = end;
        match self.runs.last_mut() {
            Some(run) if run.takes(end - start, to) => {
                run.is_closed = end - start < run.segment_bytes;
                run.segments += 1;
                run.end = end;
            }
            _ => {
                let segment_bytes = end - start;
                self.runs.push(Run { to, segment_bytes, segments: 1, start, end, is_closed: false });
            }
        }
    }

    /// Says how many bytes wait to be sent.
    #[must_use]
    pub fn waiting_bytes(&self) -> usize {
        self.runs.first().map_or(0, |run| self.used - run.start)
    }

    /// Says how many bytes there is still room for.
    #[must_use]
    pub fn free_bytes(&self) -> usize {
        self.bytes.len() - self.used
    }

    /// Gives the runs, each with its bytes.
    pub fn runs(&self) -> impl Iterator<Item = (&Run<D>, &[u8])> {
        self.runs.iter().map(|run| (run, self.bytes.get(run.start..run.end).unwrap_or_default()))
    }

    /// Gives the runs away, each with its bytes; when more comes, not the one that it may be added to.
    pub fn send(&mut self, more_comes: bool, mut send: impl FnMut(&Run<D>, &[u8])) {
        let growing = usize::from(more_comes && self.runs.last().is_some_and(Run::grows));
        for run in self.runs.drain(..self.runs.len() - growing) {
            send(&run, self.bytes.get(run.start..run.end).unwrap_or_default());
        }
        if self.runs.is_empty() {
            self.used = 0;
        }
    }
}

impl<D: Copy + PartialEq> Run<D> {
    fn takes(&self, message_bytes: usize, to: D) -> bool {
        self.to == to
            && !self.is_closed
            && message_bytes <= self.segment_bytes
            && self.segments < MAX_SEGMENTS
            && self.end - self.start + message_bytes <= MAX_RUN_BYTES
    }

    fn grows(&self) -> bool {
        self.takes(self.segment_bytes, self.to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packed(lengths: &[(usize, u8)]) -> Vec<(u8, usize, usize)> {
        let mut packer = Packer::new(1 << 20);
        for (length, to) in lengths {
            packer.room(*length).unwrap();
            packer.keep(*length, *to);
        }
        packer.runs().map(|(run, _)| (run.to, run.segment_bytes, run.segments)).collect()
    }

    fn messages(run: &Run<u8>, bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
        bytes.chunks(run.segment_bytes).map(|message| (run.to, message.to_vec())).collect()
    }

    #[test]
    fn a_run_ends_after_a_shorter_before_a_longer_and_at_another_destination() {
        assert_eq!(packed(&[(100, 1), (100, 1), (60, 1), (60, 1)]), [(1, 100, 3), (1, 60, 1)]);
        assert_eq!(packed(&[(60, 1), (100, 1)]), [(1, 60, 1), (1, 100, 1)]);
        assert_eq!(packed(&[(100, 1), (100, 2), (100, 1)]), [(1, 100, 1), (2, 100, 1), (1, 100, 1)]);
        assert_eq!(packed(&[(100, 1); 70]), [(1, 100, 64), (1, 100, 6)]);
        assert_eq!(packed(&[(1452, 1); 50]), [(1, 1452, 44), (1, 1452, 6)]);
    }

    #[test]
    fn a_full_buffer_lends_nothing() {
        let mut packer: Packer<u8> = Packer::new(300);
        assert_eq!(packer.room(0).map(|room| room.len()), Some(148));
        packer.keep(148, 0);
        assert!(packer.room(200).is_none());
        assert!(packer.room(usize::MAX).is_none());
        packer.send(false, |_, _| {});
        assert!(packer.room(200).is_some());
    }

    proptest! {
        /// Sent now and then, with more to come or not, they are the messages too, and what is held back is one run that
        /// grows.
        #[test]
        fn sent_in_between_they_are_the_messages_in_order(
            steps in proptest::collection::vec((1usize..3000, 0u8..3, any::<Option<bool>>()), 0..200),
        ) {
            let mut packer = Packer::new(1 << 20);
            let mut seen = Vec::new();
            for (number, (length, to, sends)) in steps.iter().enumerate() {
                packer.room(*length).unwrap()[..*length].fill(number as u8);
                packer.keep(*length, *to);
                if let Some(more_comes) = *sends {
                    packer.send(more_comes, |run, bytes| seen.extend(messages(run, bytes)));
                    prop_assert!(packer.runs().count() <= usize::from(more_comes));
                    prop_assert!(packer.runs().all(|(run, _)| run.grows()));
                    let held: usize = packer.runs().map(|(_, bytes)| bytes.len()).sum();
                    prop_assert_eq!(packer.waiting_bytes(), held);
                }
            }
            packer.send(false, |run, bytes| seen.extend(messages(run, bytes)));
            prop_assert_eq!(packer.free_bytes(), 1 << 20);
            let wanted: Vec<(u8, Vec<u8>)> = steps
                .iter()
                .enumerate()
                .map(|(number, (length, to, _))| (*to, vec![number as u8; *length]))
                .collect();
            prop_assert_eq!(seen, wanted);
        }

        /// Cut into segments, the runs are the messages again, in order; and the kernel would take each run.
        #[test]
        fn runs_are_the_messages_in_order(lengths in proptest::collection::vec((1usize..3000, 0u8..3), 0..200)) {
            let mut packer = Packer::new(1 << 20);
            for (number, (length, to)) in lengths.iter().enumerate() {
                packer.room(*length).unwrap()[..*length].fill(number as u8);
                packer.keep(*length, *to);
            }
            let mut seen = Vec::new();
            for (run, bytes) in packer.runs() {
                prop_assert!(bytes.len() <= MAX_RUN_BYTES && run.segments <= MAX_SEGMENTS);
                let before = seen.len();
                seen.extend(bytes.chunks(run.segment_bytes).map(|chunk| (chunk.len(), run.to, chunk.to_vec())));
                prop_assert_eq!(seen.len() - before, run.segments);
            }
            prop_assert_eq!(seen.len(), lengths.len());
            for (number, ((length, to), seen)) in lengths.iter().zip(&seen).enumerate() {
                prop_assert_eq!((*length, *to), (seen.0, seen.1));
                prop_assert!(seen.2.iter().all(|byte| *byte == number as u8));
            }
        }
    }
}
