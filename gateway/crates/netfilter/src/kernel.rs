//! Numbers of the kernel's interface, named as in its headers: `linux/netfilter/nf_tables.h`, `linux/netfilter.h`,
//! `linux/netfilter/nfnetlink.h`, `linux/netfilter/nfnetlink_log.h` and `linux/netlink.h`.

pub(crate) const NLMSG_HEADER_BYTES: usize = 16;
pub(crate) const NFGENMSG_BYTES: usize = 4;
pub(crate) const NLMSG_ERROR: u16 = 2;
pub(crate) const NLMSG_DONE: u16 = 3;

pub(crate) const NLM_F_REQUEST: u16 = 0x1;
pub(crate) const NLM_F_ACK: u16 = 0x4;
pub(crate) const NLM_F_DUMP_INTR: u16 = 0x10;
pub(crate) const NLM_F_CAPPED: u16 = 0x100;
pub(crate) const NLM_F_ACK_TLVS: u16 = 0x200;
pub(crate) const NLM_F_DUMP: u16 = 0x300;
pub(crate) const NLM_F_EXCL: u16 = 0x200;
pub(crate) const NLM_F_CREATE: u16 = 0x400;
pub(crate) const NLM_F_APPEND: u16 = 0x800;

pub(crate) const NLMSGERR_ATTR_MSG: u16 = 1;
pub(crate) const NLMSGERR_ATTR_OFFS: u16 = 2;

pub(crate) const NFNL_MSG_BATCH_BEGIN: u16 = 0x10;
pub(crate) const NFNL_MSG_BATCH_END: u16 = 0x11;
pub(crate) const NFNL_BATCH_GENID: u16 = 1;
pub(crate) const NFNL_SUBSYS_ULOG: u16 = 4;
pub(crate) const NFNL_SUBSYS_NFTABLES: u16 = 10;

pub(crate) const NFPROTO_UNSPEC: u8 = 0;

pub(crate) const NFT_MSG_NEWTABLE: u16 = 0;
pub(crate) const NFT_MSG_GETTABLE: u16 = 1;
pub(crate) const NFT_MSG_DELTABLE: u16 = 2;
pub(crate) const NFT_MSG_NEWCHAIN: u16 = 3;
pub(crate) const NFT_MSG_GETCHAIN: u16 = 4;
pub(crate) const NFT_MSG_DELCHAIN: u16 = 5;
pub(crate) const NFT_MSG_NEWRULE: u16 = 6;
pub(crate) const NFT_MSG_GETRULE: u16 = 7;
pub(crate) const NFT_MSG_DELRULE: u16 = 8;
pub(crate) const NFT_MSG_NEWSET: u16 = 9;
pub(crate) const NFT_MSG_GETSET: u16 = 10;
pub(crate) const NFT_MSG_DELSET: u16 = 11;
pub(crate) const NFT_MSG_NEWSETELEM: u16 = 12;
pub(crate) const NFT_MSG_GETSETELEM: u16 = 13;
pub(crate) const NFT_MSG_DELSETELEM: u16 = 14;
pub(crate) const NFT_MSG_NEWGEN: u16 = 15;
pub(crate) const NFT_MSG_GETGEN: u16 = 16;
pub(crate) const NFT_MSG_NEWOBJ: u16 = 18;
pub(crate) const NFT_MSG_GETOBJ: u16 = 19;
pub(crate) const NFT_MSG_DELOBJ: u16 = 20;
pub(crate) const NFT_MSG_NEWFLOWTABLE: u16 = 22;
pub(crate) const NFT_MSG_GETFLOWTABLE: u16 = 23;

pub(crate) const NFT_REG_VERDICT: u32 = 0;
pub(crate) const NFT_REG32_00: u32 = 8;

pub(crate) const NF_DROP: i32 = 0;
pub(crate) const NF_ACCEPT: i32 = 1;
pub(crate) const NFT_JUMP: i32 = -3;
pub(crate) const NFT_GOTO: i32 = -4;
pub(crate) const NFT_RETURN: i32 = -5;

pub(crate) const NFT_DATA_VERDICT: u32 = 0xffff_ff00;
pub(crate) const NFT_OBJECT_COUNTER: u32 = 1;
pub(crate) const NFT_LOOKUP_F_INV: u32 = 1;
pub(crate) const NFT_LIMIT_F_INV: u32 = 1;

pub(crate) const NFTA_FIB_F_SADDR: u32 = 1 << 0;
pub(crate) const NFTA_FIB_F_DADDR: u32 = 1 << 1;
pub(crate) const NFTA_FIB_F_IIF: u32 = 1 << 3;
pub(crate) const NFTA_FIB_F_OIF: u32 = 1 << 4;
pub(crate) const NFTA_FIB_F_PRESENT: u32 = 1 << 5;

pub(crate) const NFT_SET_ANONYMOUS: u32 = 0x1;
pub(crate) const NFT_SET_CONSTANT: u32 = 0x2;
pub(crate) const NFT_SET_INTERVAL: u32 = 0x4;
pub(crate) const NFT_SET_MAP: u32 = 0x8;
pub(crate) const NFT_SET_TIMEOUT: u32 = 0x10;
pub(crate) const NFT_SET_EVAL: u32 = 0x20;
pub(crate) const NFT_SET_OBJECT: u32 = 0x40;
pub(crate) const NFT_SET_CONCAT: u32 = 0x80;
pub(crate) const NFT_SET_ELEM_INTERVAL_END: u32 = 1;

pub(crate) const NFT_CHAIN_BASE: u32 = 1;

/// Attribute numbers, one module for each kind of nest, so that a number cannot be taken for another's.
pub(crate) mod nfta {
    #[cfg(test)]
    pub(crate) const LIST_ELEM: u16 = 1;

    pub(crate) mod gen_ {
        pub(crate) const ID: u16 = 1;
    }
    pub(crate) mod table {
        pub(crate) const NAME: u16 = 1;
        pub(crate) const FLAGS: u16 = 2;
    }
    pub(crate) mod chain {
        pub(crate) const TABLE: u16 = 1;
        pub(crate) const HANDLE: u16 = 2;
        pub(crate) const NAME: u16 = 3;
        pub(crate) const HOOK: u16 = 4;
        pub(crate) const POLICY: u16 = 5;
        pub(crate) const USE: u16 = 6;
        pub(crate) const TYPE: u16 = 7;
        pub(crate) const COUNTERS: u16 = 8;
        pub(crate) const PAD: u16 = 9;
        pub(crate) const FLAGS: u16 = 10;
        pub(crate) const ID: u16 = 11;
        pub(crate) const USERDATA: u16 = 12;
    }
    pub(crate) mod hook {
        pub(crate) const HOOKNUM: u16 = 1;
        pub(crate) const PRIORITY: u16 = 2;
        pub(crate) const DEV: u16 = 3;
        pub(crate) const DEVS: u16 = 4;
    }
    pub(crate) mod rule {
        pub(crate) const TABLE: u16 = 1;
        pub(crate) const CHAIN: u16 = 2;
        pub(crate) const HANDLE: u16 = 3;
        pub(crate) const EXPRESSIONS: u16 = 4;
        pub(crate) const POSITION: u16 = 6;
        pub(crate) const USERDATA: u16 = 7;
        pub(crate) const PAD: u16 = 8;
    }
    pub(crate) mod expr {
        pub(crate) const NAME: u16 = 1;
        pub(crate) const DATA: u16 = 2;
    }
    pub(crate) mod data {
        pub(crate) const VALUE: u16 = 1;
        pub(crate) const VERDICT: u16 = 2;
    }
    pub(crate) mod verdict {
        pub(crate) const CODE: u16 = 1;
        pub(crate) const CHAIN: u16 = 2;
    }
    pub(crate) mod set {
        pub(crate) const TABLE: u16 = 1;
        pub(crate) const NAME: u16 = 2;
        pub(crate) const FLAGS: u16 = 3;
        pub(crate) const KEY_TYPE: u16 = 4;
        pub(crate) const KEY_LEN: u16 = 5;
        pub(crate) const DATA_TYPE: u16 = 6;
        pub(crate) const DATA_LEN: u16 = 7;
        pub(crate) const POLICY: u16 = 8;
        pub(crate) const DESC: u16 = 9;
        pub(crate) const TIMEOUT: u16 = 11;
        pub(crate) const GC_INTERVAL: u16 = 12;
        pub(crate) const USERDATA: u16 = 13;
        pub(crate) const PAD: u16 = 14;
        pub(crate) const OBJ_TYPE: u16 = 15;
        pub(crate) const HANDLE: u16 = 16;
        /// The back end that the kernel chose and how full it is (NFTA_SET_TYPE, NFTA_SET_COUNT, since 6.16).
        pub(crate) const TYPE: u16 = 19;
        pub(crate) const COUNT: u16 = 20;
    }
    pub(crate) mod desc {
        pub(crate) const SIZE: u16 = 1;
        pub(crate) const CONCAT: u16 = 2;
        pub(crate) const FIELD_LEN: u16 = 1;
    }
    pub(crate) mod elements {
        pub(crate) const TABLE: u16 = 1;
        pub(crate) const SET: u16 = 2;
        pub(crate) const ELEMENTS: u16 = 3;
    }
    pub(crate) mod element {
        pub(crate) const KEY: u16 = 1;
        pub(crate) const DATA: u16 = 2;
        pub(crate) const FLAGS: u16 = 3;
        pub(crate) const TIMEOUT: u16 = 4;
        pub(crate) const EXPIRATION: u16 = 5;
        pub(crate) const USERDATA: u16 = 6;
        pub(crate) const PAD: u16 = 8;
        pub(crate) const OBJREF: u16 = 9;
        pub(crate) const KEY_END: u16 = 10;
    }
    pub(crate) mod object {
        pub(crate) const TABLE: u16 = 1;
        pub(crate) const NAME: u16 = 2;
        pub(crate) const TYPE: u16 = 3;
        pub(crate) const DATA: u16 = 4;
    }
    pub(crate) mod flowtable {
        pub(crate) const TABLE: u16 = 1;
        pub(crate) const NAME: u16 = 2;
        pub(crate) const HOOK: u16 = 3;
    }
    pub(crate) mod counter {
        pub(crate) const BYTES: u16 = 1;
        pub(crate) const PACKETS: u16 = 2;
        pub(crate) const PAD: u16 = 3;
    }
}
