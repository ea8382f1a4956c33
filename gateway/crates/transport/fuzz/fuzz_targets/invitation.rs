//! Any text is an invitation or an error, and an invitation reads back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use transport::Invitation;

fuzz_target!(|text: &str| {
    if let Ok(invitation) = Invitation::parse(text) {
        let again = Invitation::parse(&invitation.code()).expect("its own code");
        assert_eq!(again.key_id(), invitation.key_id());
    }
});
