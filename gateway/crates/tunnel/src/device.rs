//! The TUN device (Documentation/networking/tuntap.rst): made by whoever may, used by whoever owns it.
//!
//! Contract: the device outlives every process of ours, so that routes and rules that name it hold while a role restarts;
//! a packet that no process reads is dropped by the kernel.

use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::thread;
use std::time::Duration;

use tappers::linux::Tun;
use tappers::{DeviceState, Interface};
use tun_rs::{DeviceBuilder, Layer, SyncDevice};

use crate::TunnelError;

const ATTACH_TRIES: u32 = 20;
const ATTACH_PAUSE: Duration = Duration::from_millis(10);

/// Makes a persistent device that is up and that a user may attach to, or brings one that is there to this state. One that
/// its owner is attached to is left as it is.
/// # Errors
/// Fails without `CAP_NET_ADMIN`, and where the name is another kind of interface's or in somebody else's hands.
pub fn create(name: &str, owner_uid: u32, mtu: u16) -> Result<(), TunnelError> {
    let made = patiently(|| prepare(name, owner_uid, mtu));
    match made {
        Err(error) if is_busy(&error) && owner(name) == Some(owner_uid) => Ok(()),
        made => made.map_err(TunnelError::io(format!("make the device `{name}` for user {owner_uid}"))),
    }
}

/// Takes a device away, whoever made it.
/// # Errors
/// Fails without `CAP_NET_ADMIN`, and while somebody is attached.
pub fn remove(name: &str) -> Result<(), TunnelError> {
    if !is_there(name) {
        return Ok(());
    }
    let removed = patiently(|| with_tun(name, |tun| tun.set_persistent(false)));
    removed.map_err(TunnelError::io(format!("remove the device `{name}`")))
}

/// The other crate hands the kernel the address of the owner's number instead of the number (tun-rs 2.8.16,
/// `ioctl_write_ptr!` for `TUNSETOWNER`), so the device is made with this one.
fn prepare(name: &str, owner_uid: u32, mtu: u16) -> io::Result<()> {
    with_tun(name, |tun| {
        // An owner before persistence: at no instant may anybody else keep it.
        tun.set_owner(owner_uid)?;
        tun.set_mtu(usize::from(mtu))?;
        tun.set_state(DeviceState::Up)?;
        tun.set_persistent(true)
    })
}

/// Works on a device and lets go of it. Dropping it would not do: tappers 0.4.2 closes it inside a `debug_assert!`, which
/// is not there in a release.
fn with_tun(name: &str, work: impl FnOnce(&Tun) -> io::Result<()>) -> io::Result<()> {
    let tun = ManuallyDrop::new(Tun::new_named(Interface::new(name)?)?);
    let worked = work(&tun);
    let closed = nix::unistd::close(tun.as_raw_fd()).map_err(io::Error::from);
    worked.and(closed)
}

fn owner(name: &str) -> Option<u32> {
    std::fs::read_to_string(format!("/sys/class/net/{name}/owner")).ok()?.trim().parse().ok()
}

fn is_busy(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ResourceBusy
}

/// Attaches to a device that was made for the caller.
/// # Errors
/// Fails when there is none, when it is another user's, and when somebody else is attached.
pub fn attach(name: &str) -> Result<Device, TunnelError> {
    // Opening a name that does not exist would make a device; the caller is not the one to do that.
    if !is_there(name) {
        let source = io::Error::from(io::ErrorKind::NotFound);
        return Err(TunnelError::Io { doing: format!("find the device `{name}`"), source });
    }
    let device = patiently(|| builder(name).inherit_enable_state().build_sync())
        .map_err(TunnelError::io(format!("attach to the device `{name}`")))?;
    device.set_nonblocking(true).map_err(TunnelError::io(format!("prepare the device `{name}`")))?;
    let mtu = device.mtu().map_err(TunnelError::io(format!("read the MTU of `{name}`")))?;
    Ok(Device { device, mtu: usize::from(mtu) })
}

/// Tries again while the one before is still letting go: a role that was killed, or whoever made the device and is just
/// starting a program.
fn patiently<T>(mut attach: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    for _ in 1..ATTACH_TRIES {
        match attach() {
            Err(error) if is_busy(&error) => thread::sleep(ATTACH_PAUSE),
            tried => return tried,
        }
    }
    attach()
}

/// `/sys` may be that of another network namespace; this list is the thread's own.
fn is_there(name: &str) -> bool {
    let list = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap_or_default();
    list.lines().filter_map(|line| line.split_once(':')).any(|(interface, _)| interface.trim() == name)
}

fn builder(name: &str) -> DeviceBuilder {
    DeviceBuilder::new().name(name).layer(Layer::L3).offload(true)
}

/// An attached device; packets come and go in pieces that the kernel need not split or join.
pub struct Device {
    device: SyncDevice,
    mtu: usize,
}

impl Device {
    pub(crate) fn mtu(&self) -> usize {
        self.mtu
    }

    /// Says whether the kernel takes pieces of UDP.
    pub(crate) fn can_join_udp(&self) -> bool {
        self.device.udp_gso()
    }

    /// Reads one piece, its header in front; gives its length.
    pub(crate) fn read(&self, piece: &mut [u8]) -> io::Result<usize> {
        self.device.recv(piece)
    }

    /// Writes one piece, its header in front.
    pub(crate) fn write(&self, piece: &[u8]) -> io::Result<()> {
        self.device.send(piece).map(drop)
    }
}

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }
}

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Device").field("mtu", &self.mtu).finish_non_exhaustive()
    }
}
