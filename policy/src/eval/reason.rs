//! Why a packet does not pass, for machines and in words.

use jiff::Timestamp;
use jiff::civil::Weekday;
use serde::Serialize;

use crate::diagnostic::Language;
use crate::model::{FlowId, Policy, ZoneId};

/// Why a packet does not pass.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case", tag = "code")]
pub enum DenyReason {
    /// Two address families in one packet, or a protocol of the other family.
    Malformed,
    /// It stays on the gateway: no matter of the policy.
    Loopback,
    /// No zone has the interface.
    UnknownInterface,
    /// The zone has no network of this address family.
    FamilyOff {
        /// The zone.
        zone: ZoneId,
    },
    /// The source address cannot be in the zone it came from.
    SpoofedSource {
        /// The zone it came from.
        zone: ZoneId,
    },
    /// The gateway would send from an address that is not its own there.
    ForeignSource {
        /// The zone it would go to.
        zone: ZoneId,
    },
    /// The destination is the gateway's address in another zone (strong host model, RFC 1122 section 3.3.4.2).
    GatewayElsewhere {
        /// The zone whose address it is.
        zone: ZoneId,
    },
    /// Multicast, broadcast, link-local and reserved destinations never cross the gateway.
    NotUnicast,
    /// No zone holds the destination, and there is no line to the outside.
    NoRoute,
    /// A TCP packet of no connection that does not ask for one.
    NotASyn,
    /// An ICMP message that belongs to no connection.
    IcmpAlone,
    /// No flow allows it.
    NoFlow,
    /// The flow that matches is not open now.
    Closed {
        /// The flow.
        flow: FlowId,
        /// When it opens next, if ever.
        opens: Option<Timestamp>,
    },
    /// The flow that matches depends on the time, which cannot be believed yet.
    TimeUntrusted {
        /// The flow.
        flow: FlowId,
    },
    /// Not a reply to the connection it was said to belong to.
    NotTheReply,
    /// Not an error about the connection it was said to belong to.
    NotRelated,
}

impl DenyReason {
    /// The reason as one sentence.
    #[must_use]
    pub fn describe(&self, policy: &Policy, language: Language) -> String {
        match language {
            Language::Ja => self.describe_ja(policy),
            Language::En => self.describe_en(policy),
        }
    }

    fn describe_ja(&self, policy: &Policy) -> String {
        let zone_name = |zone: &ZoneId| policy.zone(*zone).name.as_str();
        match self {
            Self::Malformed => "アドレスとプロトコルの組み合わせが正しくありません。".to_owned(),
            Self::Loopback => "関所の装置の中だけの通信で、通信方針の対象ではありません。".to_owned(),
            Self::UnknownInterface => "どの区画にも属さないインターフェースから届きました。".to_owned(),
            Self::FamilyOff { zone } => {
                format!("区画「{}」では、この種類のIPアドレス(IPv4/IPv6)を使いません。", zone_name(zone))
            }
            Self::SpoofedSource { zone } => {
                format!("送信元アドレスは区画「{}」のものではありません(なりすましの疑い)。", zone_name(zone))
            }
            Self::ForeignSource { zone } => {
                format!("送信元アドレスは、区画「{}」での関所自身のものではありません。", zone_name(zone))
            }
            Self::GatewayElsewhere { zone } => {
                format!(
                    "宛先は別の区画「{}」での関所のアドレスです。自分の区画のアドレスを使ってください。",
                    zone_name(zone)
                )
            }
            Self::NotUnicast => "マルチキャストやブロードキャストなどは区画を越えて通しません。".to_owned(),
            Self::NoRoute => "宛先はどの区画にも属さず、外部への回線もありません。".to_owned(),
            Self::NotASyn => "始まっていないTCP接続の途中のパケットです。".to_owned(),
            Self::IcmpAlone => "どの接続にも属さないICMPメッセージです。".to_owned(),
            Self::NoFlow => "この通信を許す通信許可はありません。".to_owned(),
            Self::Closed { flow, opens } => {
                let name = &policy.flow(*flow).name;
                match opens {
                    Some(opens) => format!(
                        "通信許可「{name}」は時間外です。次に開くのは {} です。",
                        local(policy, *opens, Language::Ja)
                    ),
                    None => format!("通信許可「{name}」は期限が過ぎています。"),
                }
            }
            Self::TimeUntrusted { flow } => {
                format!(
                    "時刻をまだ信頼できないため、期限や時間帯のある通信許可「{}」は閉じています。",
                    policy.flow(*flow).name
                )
            }
            Self::NotTheReply => "元の接続への返信ではありません。".to_owned(),
            Self::NotRelated => "元の接続についてのエラー通知ではありません。".to_owned(),
        }
    }

    fn describe_en(&self, policy: &Policy) -> String {
        let zone_name = |zone: &ZoneId| policy.zone(*zone).name.as_str();
        match self {
            Self::Malformed => "its addresses and protocol do not belong together".to_owned(),
            Self::Loopback => "it stays on the gateway and is no matter of the policy".to_owned(),
            Self::UnknownInterface => "it came in by an interface of no zone".to_owned(),
            Self::FamilyOff { zone } => {
                format!("zone `{}` has no network of this address family", zone_name(zone))
            }
            Self::SpoofedSource { zone } => {
                format!("its source address cannot be in zone `{}` (spoofed)", zone_name(zone))
            }
            Self::ForeignSource { zone } => {
                format!("its source address is not the gateway's own in zone `{}`", zone_name(zone))
            }
            Self::GatewayElsewhere { zone } => {
                format!(
                    "it is for the gateway's address in zone `{}`; use the address in your own zone",
                    zone_name(zone)
                )
            }
            Self::NotUnicast => {
                "multicast, broadcast, link-local and reserved addresses never cross the gateway".to_owned()
            }
            Self::NoRoute => "no zone holds the destination, and there is no line to the outside".to_owned(),
            Self::NotASyn => "it is from the middle of a TCP connection that never began".to_owned(),
            Self::IcmpAlone => "it is an ICMP message of no connection".to_owned(),
            Self::NoFlow => "no flow allows it".to_owned(),
            Self::Closed { flow, opens } => {
                let name = &policy.flow(*flow).name;
                match opens {
                    Some(opens) => format!(
                        "flow `{name}` is closed now and opens at {}",
                        local(policy, *opens, Language::En)
                    ),
                    None => format!("flow `{name}` has expired"),
                }
            }
            Self::TimeUntrusted { flow } => {
                format!("the time cannot be trusted yet, so flow `{}` stays closed", policy.flow(*flow).name)
            }
            Self::NotTheReply => "it is not a reply of the connection".to_owned(),
            Self::NotRelated => "it is not an error about the connection".to_owned(),
        }
    }
}

/// The instant in the clinic's time zone, with the weekday.
fn local(policy: &Policy, at: Timestamp, language: Language) -> String {
    let at = at.to_zoned(policy.clinic.timezone.clone());
    let weekday = match language {
        Language::En => at.strftime("%a").to_string(),
        Language::Ja => weekday_ja(at.weekday()).to_owned(),
    };
    format!("{} ({weekday}) {}", at.date(), at.strftime("%H:%M"))
}

fn weekday_ja(weekday: Weekday) -> &'static str {
    match weekday {
        Weekday::Monday => "月",
        Weekday::Tuesday => "火",
        Weekday::Wednesday => "水",
        Weekday::Thursday => "木",
        Weekday::Friday => "金",
        Weekday::Saturday => "土",
        Weekday::Sunday => "日",
    }
}
