//! Any text as a name: what is taken is one plain component of a path.
#![no_main]

use std::path::{Component, Path};

use libfuzzer_sys::fuzz_target;
use transfer::FileName;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(name) = FileName::parse(text) else { return };
    assert_eq!(name.as_str(), text);
    let mut components = Path::new(name.as_str()).components();
    assert!(
        matches!((components.next(), components.next()), (Some(Component::Normal(only)), None) if only == text)
    );
});
