//! Faults in what is kept and in the door by which metrics are read.

use crate::cases::{Case, add};

pub(crate) const EVIDENCE: &[Case] = &[
    add("evidence-key", "unknown-key", "[evidence]\nlog_retension = \"5y\"\n", "log_retension"),
    add("log-retention-short", "bad-retention", "[evidence]\nlog_retention = \"11mo\"\n", "11mo"),
    add("log-retention-hours", "bad-retention", "[evidence]\nlog_retention = \"43800h\"\n", "43800h"),
    add("flows-retention-long", "bad-retention", "[evidence]\nflows_retention = \"11y\"\n", "11y"),
    add("log-budget-small", "bad-budget", "[evidence]\nlog_budget = \"63 MB\"\n", "63 MB"),
    add("flows-budget-large", "bad-budget", "[evidence]\nflows_budget = \"2 TB\"\n", "2 TB"),
    add("metrics-without-zone", "missing-key", "[metrics]\nport = 9464\n", "[metrics]"),
    add("metrics-nowhere", "unknown-zone", "[metrics]\nzone = \"stuff\"\n", "stuff"),
    add("metrics-staff", "metrics-zone", "[metrics]\nzone = \"staff\" # metrics\n", "# metrics"),
    add("metrics-auth", "unknown-word", "[metrics]\nzone = \"staff\"\nauth = \"tokens\"\n", "tokens"),
    add(
        "metrics-port-low",
        "bad-port",
        "[zone.desk]\nkind = \"management\"\ninterface = \"eth9\"\nnetworks = [\"192.168.99.0/24\"]\n[metrics]\nzone = \"desk\"\nport = 443\n",
        "port = 443",
    ),
    add(
        "metrics-port-vpn",
        "port-taken",
        "[zone.desk]\nkind = \"management\"\ninterface = \"eth9\"\nnetworks = [\"192.168.99.0/24\"]\n[vpn]\nlisten = \"udp/9464\"\naddress = [\"10.90.0.1/24\"]\n[metrics]\nzone = \"desk\"\n",
        "[metrics]",
    ),
    add(
        "metrics-elsewhere",
        "metrics-from-elsewhere",
        "[zone.desk]\nkind = \"management\"\ninterface = \"eth9\"\nnetworks = [\"192.168.99.0/24\"]\n[metrics]\nzone = \"desk\"\nport = 9464 # metrics\n[[flow]]\nname = \"monitor\"\nfrom = [\"zone:desk\", \"device:pc\"]\nto = \"gateway\"\nservice = \"tcp/9000-9999\"\npurpose = \"監視\"\nowner = \"医事課\"\n",
        "# metrics",
    ),
];
