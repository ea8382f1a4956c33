//! Asks the time daemon how it keeps the clock, by chrony's read-only monitoring protocol (version 6, the layout of
//! chronyc 4.x) at the loopback. An SNTP answer would not tell how many sources there are.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use policy::guideline::observation::Ntp;
use thiserror::Error;
use tokio::net::UdpSocket;
use tokio::time::timeout;

/// Where chronyd answers.
pub(crate) const CHRONYD: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 323);
/// How long one answer may take.
const ANSWER_WAIT: Duration = Duration::from_millis(500);
/// Sources asked about; a policy names a few.
const SOURCES_MAX: u32 = 16;

const VERSION: u8 = 6;
const REQUEST: u8 = 1;
const REPLY: u8 = 2;
/// A request must be as long as its answer.
const REQUEST_BYTES: usize = 128;
/// Where the data begins in an answer.
const DATA: usize = 28;
const ANSWER_BYTES_MAX: usize = 512;
/// No reference, and the machine's own clock as reference.
const NO_REFERENCES: [u32; 2] = [0, 0x7f7f_0101];

/// Questions, with the kind of their answers.
#[derive(Clone, Copy, Debug)]
enum Question {
    SourceCount,
    Source(u32),
    Tracking,
}

impl Question {
    fn codes(self) -> (u16, u16) {
        match self {
            Question::SourceCount => (14, 2),
            Question::Source(_) => (15, 3),
            Question::Tracking => (33, 5),
        }
    }
}

/// Why the time daemon says nothing.
#[derive(Debug, Error)]
pub(crate) enum NtpError {
    /// It is not reached.
    #[error("the time daemon does not answer: {0}")]
    Io(#[from] io::Error),
    /// It takes too long.
    #[error("the time daemon does not answer in time")]
    Slow,
    /// Its answer is not of the protocol.
    #[error("the time daemon's answer is not understood")]
    Malformed,
}

/// What the time daemon says, the offset of the clock in seconds included.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Told {
    /// The fact for the controls.
    pub(crate) fact: Ntp,
    /// How far the clock is off, ahead being positive.
    pub(crate) offset_s: f64,
}

/// Asks.
///
/// # Errors
/// When the daemon does not answer as it should.
pub(crate) async fn ask(at: SocketAddr) -> Result<Told, NtpError> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    socket.connect(at).await?;
    let tracking = Tracking::read(&one(&socket, Question::Tracking).await?).ok_or(NtpError::Malformed)?;
    let count = one(&socket, Question::SourceCount).await?;
    let count = Fields(&count).u32(0).ok_or(NtpError::Malformed)?.min(SOURCES_MAX);
    let mut reachable = 0;
    for number in 0..count {
        let source = one(&socket, Question::Source(number)).await?;
        // The register of the last eight polls (RFC 5905, section 13).
        if Fields(&source).u16(30).ok_or(NtpError::Malformed)? != 0 {
            reachable += 1;
        }
    }
    Ok(tracking.told(reachable))
}

/// One question, with the data of its answer.
async fn one(socket: &UdpSocket, question: Question) -> Result<Vec<u8>, NtpError> {
    let (command, expected) = question.codes();
    // The socket is connected and the kernel chose its port: no answer to another question comes here but a late one.
    let sequence =
        u32::from(command) << 16 | if let Question::Source(number) = question { number } else { 0 };
    let mut request = vec![VERSION, REQUEST, 0, 0];
    request.extend(command.to_be_bytes());
    request.extend([0; 2]);
    request.extend(sequence.to_be_bytes());
    request.extend([0; 8]);
    if let Question::Source(number) = question {
        request.extend(number.to_be_bytes());
    }
    request.resize(REQUEST_BYTES, 0);
    socket.send(&request).await?;
    let mut bytes = vec![0; ANSWER_BYTES_MAX];
    let length = timeout(ANSWER_WAIT, socket.recv(&mut bytes)).await.map_err(|_| NtpError::Slow)??;
    bytes.truncate(length);
    let fields = Fields(&bytes);
    let is_answer = bytes.starts_with(&[VERSION, REPLY])
        && (fields.u16(4), fields.u16(6), fields.u16(8)) == (Some(command), Some(expected), Some(0))
        && fields.u32(16) == Some(sequence);
    match bytes.get(DATA..) {
        Some(data) if is_answer => Ok(data.to_vec()),
        _ => Err(NtpError::Malformed),
    }
}

/// What chrony calls tracking.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Tracking {
    reference: u32,
    stratum: u16,
    leap: u16,
    correction_s: f64,
}

impl Tracking {
    fn read(data: &[u8]) -> Option<Self> {
        let fields = Fields(data);
        Some(Tracking {
            reference: fields.u32(0)?,
            stratum: fields.u16(24)?,
            leap: fields.u16(26)?,
            correction_s: float(fields.u32(40)?),
        })
    }

    fn told(self, sources: u32) -> Told {
        let Tracking { reference, stratum, leap, correction_s } = self;
        // RFC 5905: leap 3 is "clock not synchronised".
        let synchronised = leap < 3 && !NO_REFERENCES.contains(&reference) && (1..16).contains(&stratum);
        let milliseconds = (correction_s.abs() * 1000.0).ceil().min(f64::from(u32::MAX));
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "not negative, and below 2^32 by the line above"
        )]
        let offset_ms = milliseconds as u64;
        // A positive correction is still to be added: the clock is behind (chronyc calls it slow).
        let offset_s = 0.0 - correction_s;
        let stratum = u8::try_from(stratum).unwrap_or(u8::MAX);
        Told { fact: Ntp { synchronised, stratum, offset_ms, sources }, offset_s }
    }
}

/// Big-endian numbers at places.
#[derive(Clone, Copy, Debug)]
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn u16(self, at: usize) -> Option<u16> {
        Some(u16::from_be_bytes(*self.0.get(at..)?.first_chunk()?))
    }

    fn u32(self, at: usize) -> Option<u32> {
        Some(u32::from_be_bytes(*self.0.get(at..)?.first_chunk()?))
    }
}

/// Chrony's own floating point number: 7 bits of exponent, 25 of coefficient, both in two's complement.
fn float(bits: u32) -> f64 {
    let signed = bits.cast_signed();
    let exponent = (signed >> 25) - 25;
    let coefficient = (signed << 7) >> 7;
    f64::from(coefficient) * f64::from(exponent).exp2()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::process::{Child, Command, Stdio};
    use std::time::Instant;

    struct Daemon(Child);

    impl Drop for Daemon {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    /// A chronyd that leaves the clock alone and answers at a port of this test.
    fn chronyd(directory: &std::path::Path, port: u16) -> Daemon {
        let text = format!(
            "pidfile {0}/pid\ncmdport {port}\nbindcmdaddress 127.0.0.1\nbindcmdaddress /\nport 0\n\
             server 127.0.0.1 port 9 iburst\n",
            directory.display()
        );
        let file = directory.join("chrony.conf");
        std::fs::write(&file, text).unwrap();
        let user = String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap();
        let mut command = Command::new("/usr/sbin/chronyd");
        command.args(["-x", "-U", "-d", "-u", user.trim(), "-f"]).arg(&file);
        Daemon(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    #[tokio::test]
    async fn a_real_daemon_without_a_source_that_answers_is_not_synchronised() {
        let directory = tempfile::tempdir().unwrap();
        let free = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let _daemon = chronyd(directory.path(), free.port());
        let deadline = Instant::now() + Duration::from_secs(20);
        let told = loop {
            match ask(free).await {
                Ok(told) => break told,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        assert!(!told.fact.synchronised, "{told:?}");
        assert_eq!((told.fact.sources, told.offset_s), (0, 0.0));
    }

    #[tokio::test]
    async fn nobody_there_is_an_error_at_once() {
        let free = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert!(matches!(ask(free).await, Err(NtpError::Io(_))));
    }

    #[test]
    fn only_a_reference_outside_counts_as_synchronised() {
        let good = Tracking { reference: 0xc000_0201, stratum: 3, leap: 0, correction_s: -0.0123 };
        let told = good.told(2);
        assert_eq!(told.fact, Ntp { synchronised: true, stratum: 3, offset_ms: 13, sources: 2 });
        for bad in [
            Tracking { leap: 3, ..good },
            Tracking { stratum: 0, ..good },
            Tracking { stratum: 16, ..good },
            Tracking { reference: 0x7f7f_0101, ..good },
            Tracking { reference: 0, ..good },
        ] {
            assert!(!bad.told(2).fact.synchronised, "{bad:?}");
        }
    }

    #[test]
    fn chronys_numbers_are_read() {
        assert_eq!(float(0), 0.0);
        // 1.0 = 2^24 * 2^(2 - 25 - 1): coefficient 1 << 23, exponent 2.
        assert_eq!(float((2 << 25) | (1 << 23)), 1.0);
        assert_eq!(float((2 << 25) | ((-(1i32 << 23)).cast_unsigned() & ((1 << 25) - 1))), -1.0);
    }

    proptest! {
        #[test]
        fn any_answer_is_a_tracking_or_none(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            if let Some(tracking) = Tracking::read(&bytes) {
                prop_assert!(tracking.told(1).offset_s.is_finite());
            }
        }
    }
}
