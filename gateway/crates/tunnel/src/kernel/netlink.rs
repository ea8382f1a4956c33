//! Questions to the kernel's WireGuard by generic netlink (linux/wireguard.h, linux/genetlink.h).

use std::fmt::Debug;
use std::io;

use netlink_packet_core::{
    Emitable, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload, ParseableParametrized,
};
use netlink_packet_generic::ctrl::nlas::GenlCtrlAttrs;
use netlink_packet_generic::ctrl::{GenlCtrl, GenlCtrlCmd};
use netlink_packet_generic::{GenlFamily, GenlHeader, GenlMessage};
use netlink_packet_wireguard::{WireguardAttribute, WireguardCmd, WireguardMessage};
use netlink_sys::protocols::NETLINK_GENERIC;
use netlink_sys::{Socket, SocketAddr};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvFlags, SendFlags, recv, send};
use zeroize::Zeroizing;

/// The kernel answers while it is asked; this only ends what should not happen.
const ANSWER_LIMIT: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };
/// The kernel's dumps use up to 32 KiB a datagram.
const DATAGRAM_BYTES: usize = 64 << 10;
/// Datagrams of one answer: peers of a tunnel with room to spare.
const DATAGRAMS_MAX: usize = 4_096;
/// Messages begin at multiples of this (`NLMSG_ALIGNTO`).
const ALIGN_BYTES: usize = 4;

/// A connection, in the network namespace of the thread that opened it.
pub(super) struct Netlink {
    socket: Socket,
    family: u16,
    sequence: u32,
}

impl Netlink {
    /// Connects, and asks for the kernel's WireGuard.
    /// # Errors
    /// Says "not found" where the kernel has none.
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_GENERIC)?;
        socket.bind_auto()?;
        // Connected: messages of other processes are refused.
        socket.connect(&SocketAddr::new(0, 0))?;
        let mut netlink = Self { socket, family: 0, sequence: 0 };
        let nlas = vec![GenlCtrlAttrs::FamilyName(WireguardMessage::family_name().to_owned())];
        let found = netlink.ask(GenlCtrl { cmd: GenlCtrlCmd::GetFamily, nlas }, NLM_F_ACK)?;
        let id = found.into_iter().flat_map(|family| family.nlas).find_map(|attribute| match attribute {
            GenlCtrlAttrs::FamilyId(id) => Some(id),
            _ => None,
        });
        netlink.family = id.ok_or(io::ErrorKind::NotFound)?;
        Ok(netlink)
    }

    /// Changes an interface.
    pub(super) fn set(&mut self, interface: &str, rest: Vec<WireguardAttribute>) -> io::Result<()> {
        let mut attributes = vec![WireguardAttribute::IfName(interface.to_owned())];
        attributes.extend(rest);
        self.ask(WireguardMessage { cmd: WireguardCmd::SetDevice, attributes }, NLM_F_ACK).map(drop)
    }

    /// Reads an interface.
    pub(super) fn get(&mut self, interface: &str) -> io::Result<Vec<WireguardAttribute>> {
        let attributes = vec![WireguardAttribute::IfName(interface.to_owned())];
        let found = self.ask(WireguardMessage { cmd: WireguardCmd::GetDevice, attributes }, NLM_F_DUMP)?;
        Ok(found.into_iter().flat_map(|message| message.attributes).collect())
    }

    fn ask<F>(&mut self, payload: F, flags: u16) -> io::Result<Vec<F>>
    where
        F: GenlFamily + Emitable + ParseableParametrized<[u8], GenlHeader> + Clone + Debug,
    {
        self.sequence = self.sequence.wrapping_add(1);
        let mut inner = GenlMessage::from_payload(payload);
        inner.set_resolved_family_id(self.family);
        let mut message = NetlinkMessage::from(inner);
        message.header.flags = NLM_F_REQUEST | flags;
        message.header.sequence_number = self.sequence;
        message.finalize();
        let mut bytes = Zeroizing::new(vec![0; message.buffer_len()]);
        message.serialize(&mut bytes);
        let sent = send(&self.socket, &bytes, SendFlags::empty())?;
        if sent == bytes.len() { self.answers() } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    fn answers<F>(&self) -> io::Result<Vec<F>>
    where
        F: GenlFamily + Emitable + ParseableParametrized<[u8], GenlHeader> + Clone + Debug,
    {
        let mut found = Vec::new();
        let mut buffer = Zeroizing::new(vec![0; DATAGRAM_BYTES]);
        for _ in 0..DATAGRAMS_MAX {
            if poll(&mut [PollFd::new(&self.socket, PollFlags::IN)], Some(&ANSWER_LIMIT))? == 0 {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let (_, length) = recv(&self.socket, buffer.as_mut_slice(), RecvFlags::TRUNC)?;
            let mut rest = buffer.get(..length).ok_or(io::ErrorKind::InvalidData)?;
            while !rest.is_empty() {
                let message: NetlinkMessage<GenlMessage<F>> =
                    NetlinkMessage::deserialize(rest).map_err(io::Error::other)?;
                let (header, payload) = message.into_parts();
                let end = usize::try_from(header.length).map_err(io::Error::other)?;
                rest = rest.get(end.next_multiple_of(ALIGN_BYTES)..).unwrap_or_default();
                if header.sequence_number != self.sequence {
                    continue;
                }
                match payload {
                    NetlinkPayload::InnerMessage(message) => found.push(message.into_parts().1),
                    NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                    NetlinkPayload::Done(done) if done.code != 0 => {
                        return Err(io::Error::from_raw_os_error(done.code.abs()));
                    }
                    NetlinkPayload::Error(_) | NetlinkPayload::Done(_) => return Ok(found),
                    _ => {}
                }
            }
        }
        Err(io::ErrorKind::InvalidData.into())
    }
}

impl Debug for Netlink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Netlink").field("family", &self.family).finish_non_exhaustive()
    }
}
