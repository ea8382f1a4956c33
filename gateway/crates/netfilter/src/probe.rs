//! What the running kernel can do, found out without changing anything.
//!
//! Each feature is asked for in a transaction that ends with a request the kernel must refuse. When the refusal is about
//! that last request, the feature was taken; in either case nothing is committed.

use netlink_sys::protocols::NETLINK_ROUTE;
use rustix::io::Errno;

use crate::attr::Request;
use crate::batch::{Batch, BatchError, Mode, Origin};
use crate::error::NetlinkError;
use crate::expr::{
    ByteorderOp, CtKey, CtSetKey, Expr, FibAddress, FibResult, LimitKind, LimitUnit, LogPrefix,
    MasqueradeFlags, MetaKey, RouteKey, TcpOption,
};
use crate::kernel as k;
use crate::object::{
    Chain, Counter, Element, ElementData, Family, KeyField, KeyType, Rule, SetData, SetSpec, Table,
};
use crate::socket::Connection;
use crate::value::{Data, Name, Register};

/// What the kernel can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Features {
    /// What a rule set needs and the kernel lacks, with the kernel's answer; empty on a kernel that will do.
    pub missing: Vec<Missing>,
    /// Established connections can bypass the rules (not used without also ending them there).
    pub flowtable: bool,
    /// VLAN sub-interfaces can be made.
    pub vlan: bool,
    /// WireGuard interfaces of the kernel can be made.
    pub wireguard: bool,
}

/// A needed feature that the kernel lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// The feature.
    pub feature: &'static str,
    /// The kernel's answer.
    pub answer: String,
}

/// Why the kernel could not be probed.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// A probe could not be written.
    #[error("a probe could not be made: {0}")]
    Probe(String),
    /// The kernel could not be asked.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
}

impl From<BatchError> for ProbeError {
    fn from(error: BatchError) -> Self {
        Self::Probe(error.to_string())
    }
}

/// Asks the kernel of the calling thread's network namespace for everything a rule set needs.
pub fn probe() -> Result<Features, ProbeError> {
    let mut connection = Connection::open()?;
    let mut missing = Vec::new();
    for (feature, need) in needs()? {
        if let Some(answer) = refusal(&mut connection, &need)? {
            missing.push(Missing { feature, answer });
        }
    }
    let flowtable = refusal(&mut connection, &Need::Flowtable)?.is_none();
    let mut route = Connection::to(NETLINK_ROUTE)?;
    Ok(Features {
        missing,
        flowtable,
        vlan: has_link_kind(&mut route, "vlan")?,
        wireguard: has_link_kind(&mut route, "wireguard")?,
    })
}

/// Asks the kernel whether it can make interfaces of its own WireGuard, without making one. A kernel that has it as a module
/// loads the module.
pub fn has_wireguard() -> Result<bool, ProbeError> {
    has_link_kind(&mut Connection::to(NETLINK_ROUTE)?, "wireguard")
}

/// One thing to ask for.
enum Need {
    Rule(Vec<Expr>),
    Set(SetSpec, Element),
    Flowtable,
}

const LAST: &str = "the request that must fail";
const R: Register = Register::FIRST;

fn refusal(connection: &mut Connection, need: &Need) -> Result<Option<String>, ProbeError> {
    let (scratch, chain) = (name("sekisho-probe")?, name("probe")?);
    let mut batch = Batch::new(Table { family: Family::Inet, name: scratch });
    let (ground, asked) = (Origin::from("the ground of the probe"), Origin::from("the feature"));
    batch.add_table(Mode::Keep, &ground)?;
    batch.add_chain(&Chain { name: chain.clone(), base: None }, Mode::Keep, &ground)?;
    batch.add_counter(&Counter { name: name("probe")?, packets: 0, bytes: 0 }, Mode::Keep, &ground)?;
    match need {
        Need::Rule(exprs) => {
            batch.add_rule(&chain, &Rule { exprs: exprs.clone(), comment: None }, &asked)?;
        }
        Need::Set(set, element) => {
            batch.add_set(set, Mode::MustBeNew, &asked)?;
            batch.add_elements(set, [element], Mode::MustBeNew, &asked)?;
        }
        Need::Flowtable => batch.add_flowtable(&name("probe-flows")?, &asked)?,
    }
    batch.delete_chain(&name("no-such-chain")?, &Origin::from(LAST))?;
    match connection.commit(batch) {
        Err(NetlinkError::Refused(refusal)) if refusal.origin.as_str() == LAST => Ok(None),
        Err(NetlinkError::Refused(refusal)) => Ok(Some(refusal.to_string())),
        Err(error) => Err(error.into()),
        // The kernel deleted a chain that does not exist: it is no kernel we know.
        Ok(_) => Err(ProbeError::Probe("the request that must fail did not".to_owned())),
    }
}

fn needs() -> Result<Vec<(&'static str, Need)>, ProbeError> {
    let mut needs = instructions()?;
    needs.extend(sets()?);
    Ok(needs)
}

fn instructions() -> Result<Vec<(&'static str, Need)>, ProbeError> {
    let prefix = LogPrefix::new("probe").map_err(|error| ProbeError::Probe(error.to_string()))?;
    let limit =
        Expr::Limit { rate: 1, unit: LimitUnit::Second, burst: 1, kind: LimitKind::Packets, over: false };
    let reverse_path = Expr::Fib {
        address: FibAddress::Source,
        with_iif: true,
        with_oif: false,
        result: FibResult::Oif,
        present: true,
        dreg: R,
    };
    let clamp = vec![
        Expr::Route { key: RouteKey::TcpMss, dreg: R },
        Expr::Byteorder { op: ByteorderOp::HostToNetwork, sreg: R, dreg: R, length_bytes: 2, word_bytes: 2 },
        Expr::TcpOptionSet { option: TcpOption::MaxSegment, offset_bytes: 2, length_bytes: 2, sreg: R },
    ];
    let mark = vec![
        Expr::Ct { key: CtKey::Mark, direction: None, dreg: R },
        Expr::CtSet { key: CtSetKey::Mark, sreg: R },
    ];
    let log = Expr::Log { group: 1, prefix, snaplen_bytes: None, queue_threshold: None };
    Ok(vec![
        ("packet metadata", Need::Rule(vec![Expr::Meta { key: MetaKey::L4Proto, dreg: R }])),
        ("connection marks", Need::Rule(mark)),
        ("rate limits", Need::Rule(vec![limit])),
        ("packet log to a group", Need::Rule(vec![log])),
        ("route lookups in rules (fib)", Need::Rule(vec![reverse_path])),
        ("lowering of TCP segment sizes", Need::Rule(clamp)),
        ("masquerading", Need::Rule(vec![Expr::Masquerade { flags: MasqueradeFlags::None }])),
        ("named counters", Need::Rule(vec![Expr::CounterNamed { name: name("probe")? }])),
    ])
}

fn sets() -> Result<Vec<(&'static str, Need)>, ProbeError> {
    let ranged = key([KeyField::Ip4, KeyField::Port])?;
    let marks = key([KeyField::Mark])?;
    let pair = Data::concat([&Data::be32(1), &Data::be16(1)])
        .map_err(|error| ProbeError::Probe(error.to_string()))?;
    let plain = |key: Data| Element { key, key_end: None, data: ElementData::None, timeout_ms: None };
    let mark = || plain(Data::host32(1));
    let set = |text, key| name(text).map(|name| SetSpec::new(name, key));
    Ok(vec![
        (
            "maps over ranges of several fields",
            Need::Set(
                SetSpec { interval: true, data: SetData::Mark, ..set("ranges", ranged)? },
                Element { key_end: Some(pair.clone()), data: ElementData::Mark(1), ..plain(pair) },
            ),
        ),
        (
            "sets whose elements end by themselves",
            Need::Set(
                SetSpec { timeout: true, ..set("timed", marks.clone())? },
                Element { timeout_ms: Some(1000), ..mark() },
            ),
        ),
        (
            "maps to named counters",
            Need::Set(
                SetSpec { data: SetData::Counter, ..set("counters", marks.clone())? },
                Element { data: ElementData::Counter(name("probe")?), ..mark() },
            ),
        ),
        (
            "ranges of a single field",
            Need::Set(
                SetSpec { interval: true, ..set("single", key([KeyField::Ip4])?)? },
                Element { key_end: Some(Data::be32(2)), ..plain(Data::be32(1)) },
            ),
        ),
    ])
}

fn key<const N: usize>(fields: [KeyField; N]) -> Result<KeyType, ProbeError> {
    KeyType::new(fields).map_err(|error| ProbeError::Probe(error.to_string()))
}

fn name(text: &str) -> Result<Name, ProbeError> {
    Name::new(text).map_err(|error| ProbeError::Probe(error.to_string()))
}

/// Asks for an interface of a kind with a number of queues that no kernel takes: an unknown kind is EOPNOTSUPP before
/// that is looked at, a known one is EINVAL, and nothing is made (linux/if_link.h, net/core/rtnetlink.c).
fn has_link_kind(route: &mut Connection, kind: &str) -> Result<bool, ProbeError> {
    const RTM_NEWLINK: u16 = 16;
    const IFINFOMSG_BYTES: usize = 16;
    const IFLA_IFNAME: u16 = 3;
    const IFLA_LINKINFO: u16 = 18;
    const IFLA_NUM_TX_QUEUES: u16 = 31;
    const IFLA_INFO_KIND: u16 = 1;
    let info = Request::nest().text(IFLA_INFO_KIND, kind).finish_nest();
    let request = |sequence| {
        let flags = k::NLM_F_REQUEST | k::NLM_F_ACK | k::NLM_F_CREATE | k::NLM_F_EXCL;
        Request::with_head(RTM_NEWLINK, flags, sequence, &[0; IFINFOMSG_BYTES])
            .text(IFLA_IFNAME, "sekishoprobe")
            .attribute(IFLA_NUM_TX_QUEUES, &u32::MAX.to_ne_bytes())
            .attribute(IFLA_LINKINFO, &info)
            .finish()
    };
    match route.dump(request, |_| Ok(Vec::<()>::new())) {
        Err(NetlinkError::Refused(refusal)) if refusal.errno == Errno::OPNOTSUPP => Ok(false),
        Err(NetlinkError::Refused(refusal)) if refusal.errno == Errno::INVAL => Ok(true),
        Err(error) => Err(error.into()),
        Ok(_) => Err(ProbeError::Probe(format!("an impossible interface of kind `{kind}` was made"))),
    }
}
