//! Faults in the doors: the VPN and its peers, remote maintenance, and where files go.

use crate::cases::{Case, add};

pub(crate) const DOORS: &[Case] = &[
    add(
        "vpn-port-low",
        "bad-listen",
        "[vpn]\nlisten = \"udp/500\"\naddress = [\"10.90.0.1/24\"]\n",
        "udp/500",
    ),
    add(
        "vpn-without-address",
        "bad-address",
        "[vpn] # tunnel\nlisten = \"udp/51820\"\naddress = []\n",
        "# tunnel",
    ),
    add(
        "vpn-two-networks",
        "second-tunnel-network",
        "[vpn]\nlisten = \"udp/51820\"\naddress = [\"10.90.0.1/24\", \"10.91.0.1/24\"]\n",
        "10.91.0.1",
    ),
    add(
        "vpn-mtu",
        "bad-mtu",
        "[vpn]\nlisten = \"udp/51820\"\naddress = [\"10.90.0.1/24\"]\nmtu = 1500\n",
        "mtu = 1500",
    ),
    add(
        "vpn-two-zones",
        "second-vpn",
        "[zone.one]\nkind = \"vpn\"\n[zone.two] # second\nkind = \"vpn\"\n[vpn]\nlisten = \"udp/51820\"\naddress = [\"10.90.0.1/24\"]\n",
        "# second",
    ),
    add(
        "vpn-zone-networks",
        "vpn-networks",
        "[zone.road] # zone\nkind = \"vpn\"\nnetworks = [\"10.91.0.0/24\"]\n[vpn]\nlisten = \"udp/51820\"\naddress = [\"10.90.0.1/24\"]\n",
        "# zone",
    ),
    add(
        "vpn-zone-name",
        "reserved-name",
        "[zone.VPN] # zone\nkind = \"staff\"\ninterface = \"eth9\"\nnetworks = [\"10.91.0.0/24\"]\n[vpn]\nlisten = \"udp/51820\"\naddress = [\"10.90.0.1/24\"]\n",
        "# zone",
    ),
    add(
        "vpn-interface",
        "bad-interface",
        "[zone.sly]\nkind = \"staff\"\ninterface = \"sekisho-vpn\"\nnetworks = [\"10.91.0.0/24\"]\n",
        "sekisho-vpn",
    ),
    add(
        "peer-address-outside",
        "bad-peer-address",
        "[vpn]\nlisten = \"udp/51820\"\naddress = [\"10.90.0.1/24\"]\n[[vpn.peer]]\nname = \"note\"\nperson = \"hanako\"\npublic_key = \"xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=\"\nreach = [\"device:server:https\"]\naddress = [\"10.91.0.9\"]\n",
        "10.91.0.9",
    ),
    add(
        "peer-address-gateways",
        "bad-peer-address",
        "[vpn]\nlisten = \"udp/51820\"\naddress = [\"10.90.0.1/24\"]\n[[vpn.peer]]\nname = \"note\"\nperson = \"hanako\"\npublic_key = \"xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=\"\nreach = [\"device:server:https\"]\naddress = [\"10.90.0.1\"]\n",
        "[\"10.90.0.1\"]",
    ),
    add(
        "peer-address-broadcast",
        "bad-peer-address",
        "[vpn]\nlisten = \"udp/51820\"\naddress = [\"10.90.0.1/24\"]\n[[vpn.peer]]\nname = \"note\"\nperson = \"hanako\"\npublic_key = \"xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=\"\nreach = [\"device:server:https\"]\naddress = [\"10.90.0.255\"]\n",
        "10.90.0.255",
    ),
    add(
        "peer-address-twice",
        "duplicate-address",
        "[vpn]\nlisten = \"udp/51820\"\naddress = [\"10.90.0.1/24\"]\n[[vpn.peer]]\nname = \"note\"\nperson = \"hanako\"\npublic_key = \"xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=\"\nreach = [\"device:server:https\"]\naddress = [\"10.90.0.9\"] # first\n[[vpn.peer]]\nname = \"pad\"\nperson = \"hanako\"\npublic_key = \"HIgo9xNzJMWLKASShiTqIybxZ0U3wGLiUeJ1PKf8ykw=\"\nreach = [\"device:server:https\"]\naddress = [\"10.90.0.9\"] # second\n",
        "# second",
    ),
    add(
        "peer-key-twice",
        "duplicate-key",
        "[vpn]\nlisten = \"udp/51820\"\naddress = [\"10.90.0.1/24\"]\n[[vpn.peer]]\nname = \"note\"\nperson = \"hanako\"\npublic_key = \"xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=\"\nreach = [\"device:server:https\"]\n[[vpn.peer]]\nname = \"pad\"\nperson = \"hanako\"\nreach = []\npublic_key = \"xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=\" # second\n",
        "# second",
    ),
    add(
        "peer-factor",
        "peer-without-factor",
        "[vpn]\nlisten = \"udp/51820\"\naddress = [\"10.90.0.1/24\"]\n[[vpn.peer]]\nname = \"note\"\nperson = \"jiro\"\npublic_key = \"xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=\"\nreach = [\"device:server:https\"]\nsecond_factor = \"totp\" # needed\n",
        "# needed",
    ),
    add(
        "peer-person-ended",
        "peer-ended",
        "[person.saburo]\nname = \"佐倉 三郎\"\nuntil = 2026-03-31\n[vpn]\nlisten = \"udp/51820\"\naddress = [\"10.90.0.1/24\"]\n[[vpn.peer]]\nname = \"gone\"\nperson = \"saburo\"\npublic_key = \"xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=\"\nreach = [\"device:server:https\"]\n",
        "name = \"gone\"",
    ),
    add(
        "maintenance-port-low",
        "bad-port",
        "[vendor.acme]\nca = \"acme.pem\"\ncontract_until = 2027-03-31\n[vendor.acme.maintenance]\ntargets = []\nmax_duration = \"2h\"\napprovals = [\"clinic\"]\n[maintenance]\nlisten = 443\n",
        "listen = 443",
    ),
    add(
        "maintenance-port-taken",
        "port-taken",
        "[vendor.acme]\nca = \"acme.pem\"\ncontract_until = 2027-03-31\n[vendor.acme.maintenance]\ntargets = []\nmax_duration = \"2h\"\napprovals = [\"clinic\"]\n[vpn]\nlisten = \"udp/51820\"\naddress = [\"10.90.0.1/24\"]\n[maintenance]\nlisten = 51820\n",
        "listen = 51820",
    ),
    add("maintenance-for-nobody", "maintenance-unused", "[maintenance]\nlisten = 8443\n", "[maintenance]"),
    add(
        "drop-name",
        "bad-drop",
        "[vendor.acme]\nca = \"acme.pem\"\ncontract_until = 2027-03-31\n[vendor.acme.files]\nto_clinic = { accept = [\"pdf\"], drop = \"../../etc\" }\n",
        "../../etc",
    ),
    add(
        "drop-elsewhere",
        "drop-elsewhere",
        "[vendor.acme]\nca = \"acme.pem\"\ncontract_until = 2027-03-31\n[vendor.acme.files]\nfrom_clinic = { accept = [\"pdf\"], approvals = [\"clinic\"], drop = \"inbox\" }\n",
        "inbox",
    ),
];
