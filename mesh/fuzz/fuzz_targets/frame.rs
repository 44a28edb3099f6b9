//! Bytes of a stranger as a frame: what is read is written back to the same frame, and nothing else happens.
#![no_main]
#![allow(dead_code, unused_imports, reason = "the sources are those of the crate")]

#[path = "../../src"]
mod source {
    pub mod proto;
    pub mod net {
        pub mod codec;
    }
}

use libfuzzer_sys::fuzz_target;
use source::net::codec;
use source::proto;

fuzz_target!(|bytes: &[u8]| {
    read(bytes);
    // The same as the body of each kind, with a length that fits.
    if let Some((kind, body)) = bytes.split_first() {
        let rest = u32::try_from(body.len() + codec::HEAD_BYTES).expect("inputs are short");
        let mut frame = rest.to_le_bytes().to_vec();
        frame.push(codec::VERSION);
        frame.extend_from_slice(&u16::from(*kind).to_le_bytes());
        frame.extend_from_slice(body);
        read(&frame);
    }
});

fn read(bytes: &[u8]) {
    if let Ok(Some(len)) = codec::frame_len(bytes) {
        assert!(len <= codec::FRAME_MAX);
    }
    let Ok(frame) = codec::decode(bytes) else {
        return;
    };
    assert_eq!(codec::frame_len(bytes), Ok(Some(bytes.len())));
    let again = codec::encode(&frame).expect("what was read can be said");
    assert_eq!(codec::decode(&again), Ok(frame));
}
