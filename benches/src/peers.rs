//! The peers' firewalls, set up in a gateway of their own.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, ensure};
use lab::Lab;

use crate::site::{self, PORT};

/// What ufw needs, in a mount namespace of its own so that the machine's own ufw is untouched.
const UFW: &str = r#"
set -e
dir=$1
mkdir -p "$dir/etc" "$dir/run" "$dir/lib"
cp -a /etc/ufw "$dir/etc/ufw"
cp -a /etc/default/ufw "$dir/etc/default-ufw"
sed -i 's/^DEFAULT_FORWARD_POLICY=.*/DEFAULT_FORWARD_POLICY="DROP"/; s/^IPT_SYSCTL=.*/IPT_SYSCTL=/; s/^IPT_MODULES=.*/IPT_MODULES=/' "$dir/etc/default-ufw"
mount --bind "$dir/etc/ufw" /etc/ufw
mount --bind "$dir/etc/default-ufw" /etc/default/ufw
ufw --force reset >/dev/null
ufw route allow in on lan0 out on lan1 proto udp from 10.0.1.2 to 10.0.2.2 port "$2" >/dev/null
ufw route allow in on lan0 out on lan1 proto tcp from 10.0.1.2 to 10.0.2.2 port 22 >/dev/null
ufw --force enable >/dev/null
"#;

/// A lab whose gateway runs ufw with two route rules, the measured one first.
pub(crate) fn ufw() -> Result<Lab> {
    let lab = site::lab()?;
    let directory = lab.directory().join("ufw");
    let status = lab
        .gateway()
        .command("unshare")
        .args(["--mount", "sh", "-c", UFW, "ufw"])
        .arg(&directory)
        .arg(PORT.to_string())
        .status()
        .context("run ufw (make setup installs it)")?;
    ensure!(status.success(), "ufw could not be set up: {status}");
    Ok(lab)
}

/// A lab whose gateway holds so many linear nft rules, each with interfaces, addresses, protocol and port; the last
/// one matches, as an administrator's list grows.
pub(crate) fn linear(rules: usize) -> Result<Lab> {
    let lab = site::lab()?;
    let mut text = String::from(
        "table inet peer {\n\tchain forward {\n\t\ttype filter hook forward priority 0; policy drop;\n\t\tct state established,related accept\n",
    );
    for index in 1..=rules {
        let port = if index == rules { usize::from(PORT) } else { 10_000 + index };
        writeln!(
            text,
            "\t\tiifname \"lan0\" oifname \"lan1\" ip saddr 10.0.1.2 ip daddr 10.0.2.2 udp dport {port} counter accept"
        )?;
    }
    text.push_str("\t}\n}\n");
    let file = lab.directory().join("linear.nft");
    std::fs::write(&file, text)?;
    let status = lab.gateway().command("nft").arg("-f").arg(&file).status().context("run nft")?;
    ensure!(status.success(), "nft refused the linear rules: {status}");
    Ok(lab)
}
