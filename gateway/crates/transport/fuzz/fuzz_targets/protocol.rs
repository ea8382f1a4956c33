//! Any bytes on a stream are frames of the protocol or an error, and names in them lead nowhere else.
#![no_main]

use libfuzzer_sys::fuzz_target;
use transport::frame;
use transport::protocol::{Ask, Opening, Reply};
use transport::receipt::SignedReceipt;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(Opening::Send(file)) = frame::decode(bytes) {
        let name = file.name.as_str();
        assert!(!name.contains(['/', '\\', '\0']) && !matches!(name, "" | "." | ".."));
    }
    if let Ok(ask) = frame::decode::<Ask>(bytes) {
        let again: Ask = frame::decode(&frame::encode(&ask).expect("fits")[4..]).expect("reads back");
        assert_eq!(ask, again);
    }
    let _ = frame::decode::<Reply>(bytes);
    let _ = frame::decode::<SignedReceipt>(bytes);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let _ = runtime.block_on(frame::read::<Opening>(&mut &*bytes));
});
