//! The lab as a picture for people: zones below the gateway, hosts below zones, what lies behind them below.
use std::fmt::Write as _;

use crate::{Host, Lab, Leg};

impl Lab {
    /// Draws the lab with every address and every server that runs.
    #[must_use]
    pub fn picture(&self) -> String {
        let mut text = format!("{}\n", self.gateway().name());
        self.draw_router(&mut text, self.gateway().legs(), "");
        text
    }

    fn draw_router(&self, text: &mut String, legs: &[Leg], indent: &str) {
        for (number, leg) in (1..).zip(legs) {
            let last = number == legs.len();
            let (branch, below) = if last { ("└─", "   ") } else { ("├─", "│  ") };
            let _ = writeln!(
                text,
                "{indent}{branch} {:<12} {:<10} {}",
                leg.zone(),
                leg.interface(),
                addresses(leg)
            );
            self.draw_zone(text, leg.zone(), &format!("{indent}{below}"));
        }
    }

    fn draw_zone(&self, text: &mut String, zone: &str, indent: &str) {
        let hosts: Vec<_> = self.hosts().filter(|host| host.zone() == zone).collect();
        for (number, host) in (1..).zip(&hosts) {
            let last = number == hosts.len();
            let (branch, below) = if last { ("└─", "   ") } else { ("├─", "│  ") };
            let servers = self.servers_of(host);
            let _ = writeln!(text, "{indent}{branch} {:<12} {}{servers}", host.name(), addresses(host.leg()));
            // The first leg is the one in this zone.
            self.draw_router(text, host.legs().get(1..).unwrap_or_default(), &format!("{indent}{below}"));
        }
    }

    fn servers_of(&self, host: &Host) -> String {
        let here = self.servers().iter().filter(|server| server.host() == host.name());
        let names: Vec<_> =
            here.map(|server| format!("{}:{}", server.spec().kind, server.spec().port)).collect();
        if names.is_empty() { String::new() } else { format!("  [{}]", names.join(" ")) }
    }
}

fn addresses(leg: &Leg) -> String {
    let v4 = leg.v4().map(|net| net.to_string());
    let v6 = leg.v6().map(|net| net.to_string());
    let both: Vec<_> = v4.into_iter().chain(v6).collect();
    if both.is_empty() { "-".to_owned() } else { both.join("  ") }
}
