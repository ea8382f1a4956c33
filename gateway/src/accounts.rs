//! Who is who on this box: names to ids from passwd(5) and group(5), read as plain files.
//! Only local accounts count; a directory service cannot make somebody an administrator of the gateway.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// The group whose members may give orders to core.
pub const ADMIN_GROUP: &str = "sekisho-admin";
/// The user of the watch role.
pub const WATCH_USER: &str = "sekisho-watch";
/// The user of the core role.
pub const CORE_USER: &str = "sekisho-core";
/// The user of the record role.
pub const RECORD_USER: &str = "sekisho-record";
/// The user of the console role.
pub const CONSOLE_USER: &str = "sekisho-console";
/// The user of the edge role.
pub const EDGE_USER: &str = "sekisho-edge";
/// The user of the files role.
pub const FILES_USER: &str = "sekisho-files";
/// Longest file read; more is cut off.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Local accounts at one moment.
#[derive(Clone, Debug, Default)]
pub struct Accounts {
    passwd: String,
    group: String,
}

impl Accounts {
    /// Reads the system's files.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn read() -> io::Result<Self> {
        Ok(Accounts { passwd: bounded(Path::new("/etc/passwd"))?, group: bounded(Path::new("/etc/group"))? })
    }

    /// The id of a group.
    #[must_use]
    pub fn group_id(&self, name: &str) -> Option<u32> {
        entry(&self.group, name)?.nth(1)?.parse().ok()
    }

    /// The id of a user.
    #[must_use]
    pub fn user_id(&self, name: &str) -> Option<u32> {
        entry(&self.passwd, name)?.nth(1)?.parse().ok()
    }

    /// Whether a user with this id and primary group belongs to a group.
    #[must_use]
    pub fn is_member(&self, user: u32, primary_group: u32, group: &str) -> bool {
        if self.group_id(group) == Some(primary_group) {
            return true;
        }
        let Some(name) = self.user_name(user) else { return false };
        let members = entry(&self.group, group).and_then(|mut fields| fields.nth(2)).unwrap_or_default();
        members.split(',').any(|member| member == name)
    }

    /// The name of a user.
    #[must_use]
    pub fn user_name(&self, id: u32) -> Option<&str> {
        self.passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            (fields.nth(1)?.parse() == Ok(id)).then_some(name)
        })
    }
}

/// The fields after the name in the line of this name.
fn entry<'a>(text: &'a str, name: &str) -> Option<std::str::Split<'a, char>> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name) && !name.is_empty()).then_some(fields)
    })
}

fn bounded(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts() -> Accounts {
        Accounts {
            passwd: "root:x:0:0::/root:/bin/sh\ntaro:x:1000:1000::/home/taro:/bin/sh\nhana:x:1001:500::/:/bin/sh\n".into(),
            group: "root:x:0:\nsekisho-admin:x:500:jiro,taro\nsekisho-admins:x:501:hana\nbroken\n".into(),
        }
    }

    #[test]
    fn membership_is_by_name_in_the_list_or_by_primary_group() {
        let accounts = accounts();
        assert!(accounts.is_member(1000, 1000, ADMIN_GROUP));
        assert!(accounts.is_member(1001, 500, ADMIN_GROUP));
        assert!(!accounts.is_member(1001, 1001, ADMIN_GROUP));
        assert!(!accounts.is_member(4242, 4242, ADMIN_GROUP));
    }

    #[test]
    fn a_missing_group_has_no_members() {
        let accounts = accounts();
        assert_eq!(accounts.group_id("nobody-here"), None);
        assert!(!accounts.is_member(1000, 1000, "nobody-here"));
        assert!(!accounts.is_member(1000, 1000, ""));
        assert_eq!(accounts.user_id("hana"), Some(1001));
        assert_eq!((accounts.user_name(1001), accounts.user_name(4242)), (Some("hana"), None));
    }
}
